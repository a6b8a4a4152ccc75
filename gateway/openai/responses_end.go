package openai

import (
	"context"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// send sends an event, with the number that it has now.
func (s *responseStream) send(ev responseEvent) {
	if n := ev.doc.Root().Get("sequence_number"); n.Exists() {
		if !s.numbered {
			s.next, s.numbered = n.Int(s.next), true
		}
		if n.Int(-1) != s.next {
			n.SetRaw(itoa(s.next))
		}
	}
	s.next++
	s.out.Send(ev.header, ev.doc.String())
}

// make sends an event of the gateway's own.
func (s *responseStream) make(kind, members string) {
	s.out.Send(kind, `{"type":`+document.Quote(kind)+`,"sequence_number":`+itoa(s.next)+`,`+members+`}`)
	s.next++
	s.numbered = true
}

// say sends released text of a part in an event of its own.
func (s *responseStream) say(it *outItem, p *outPart, text string) {
	if text == "" {
		return
	}
	if p.kind == "refusal" {
		s.make("response.refusal.delta", it.at(p)+`,"delta":`+document.Quote(text))
		return
	}
	s.make("response.output_text.delta", it.at(p)+`,"delta":`+document.Quote(text)+`,"logprobs":[]`)
}

// at says where a part is.
func (it *outItem) at(p *outPart) string {
	return `"item_id":` + document.Quote(it.id) + `,"output_index":` + itoa(it.index) + `,"content_index":` + itoa(p.index)
}

// sayItem sends a whole message and returns it.
func (s *responseStream) sayItem(index int, text string) string {
	it := &outItem{index: index, id: newMessageID()}
	p := &outPart{kind: "output_text"}
	place := `"output_index":` + itoa(index) + `,"item":`
	s.make("response.output_item.added", place+`{"id":`+document.Quote(it.id)+`,"type":"message","status":"in_progress","role":"assistant","content":[]}`)
	s.make("response.content_part.added", it.at(p)+`,"part":`+textPart(p.kind, ""))
	s.say(it, p, text)
	s.endText(it, p, text)
	whole := textItem(it.id, text)
	s.make("response.output_item.done", place+whole)
	return whole
}

// endText sends the ends of a part that have not been sent.
func (s *responseStream) endText(it *outItem, p *outPart, text string) {
	if !p.told {
		if p.kind == "refusal" {
			s.make("response.refusal.done", it.at(p)+`,"refusal":`+document.Quote(text))
		} else {
			s.make("response.output_text.done", it.at(p)+`,"text":`+document.Quote(text)+`,"logprobs":[]`)
		}
	}
	if !p.ended {
		s.make("response.content_part.done", it.at(p)+`,"part":`+textPart(p.kind, text))
	}
	p.told, p.ended = true, true
}

// block ends the stream because of a decision.
func (s *responseStream) block(ctx context.Context, d guardbook.Decision) *guardbook.Decision {
	s.Abandon(ctx)
	s.Stop(gateway.BlockText(d))
	return &d
}

// End is called when the upstream ends without having said so.
func (s *responseStream) End(context.Context) (*guardbook.Decision, error) {
	return nil, &gateway.IncompleteError{Reason: "it ended without response.completed"}
}

// Abandon has decided on what came so far.
func (s *responseStream) Abandon(ctx context.Context) {
	if s.ended {
		return
	}
	for _, it := range s.items {
		if it.done || it == s.waits {
			continue
		}
		for _, p := range it.parts {
			if p.text != nil && !p.closed {
				_, _, _ = p.text.Close(ctx) // the stream is over either way
				p.closed = true
			}
		}
		if len(it.pieces) > 0 || len(it.texts) > 0 {
			_, _ = s.call.Decide(ctx, it.so()) // the stream is over either way
			it.pieces, it.texts = nil, nil
		}
	}
	if it := s.loose.so(); !it.Empty() {
		_, _ = s.call.Decide(ctx, it) // the stream is over either way
		s.loose = outItem{}
	}
	_, _ = s.extra.Decide(ctx, s.call) // the stream is over either way
}

// so is what an item that is no message has said so far.
func (it *outItem) so() *gateway.Item {
	role := ""
	if it.kind == "reasoning" {
		role = roleThinking
	}
	out := gateway.NewItem(guardbook.KindOutput, role)
	out.Redact = func(guardbook.Decision) {}
	for _, p := range it.pieces {
		out.Add(document.Place{}, p.String())
	}
	for _, text := range it.texts {
		out.Add(document.Place{}, text)
	}
	return out
}

// abandonItem decides on an item that the end of the answer does not hold.
func (s *responseStream) abandonItem(ctx context.Context, it *outItem) (*guardbook.Decision, error) {
	for _, p := range it.parts {
		if blocked, err := s.closeText(ctx, it, p); blocked != nil || err != nil {
			return blocked, err
		}
	}
	out := it.so()
	it.pieces, it.texts = nil, nil
	return s.decide(ctx, out)
}

// Stop ends the stream in the protocol with a text: what is open is closed, the text
// is a message of its own, and the answer is complete. Its usage is what the upstream
// told.
func (s *responseStream) Stop(text string) {
	if s.ended {
		return
	}
	s.ended = true
	if s.response == "" {
		s.response = newResponse(s.call.Request.Model)
	}
	if !s.began {
		s.make("response.created", `"response":`+s.response)
		s.make("response.in_progress", `"response":`+s.response)
	}
	index := 0
	var output []string
	slices.SortFunc(s.items, func(a, b *outItem) int { return a.index - b.index })
	for _, it := range s.items {
		if it == s.waits {
			continue
		}
		index = max(index, it.index+1)
		if !it.done {
			s.endItem(it)
		}
		if it.keeps() {
			output = append(output, it.final)
		}
	}
	output = append(output, s.sayItem(index, text))
	s.make("response.completed", `"response":`+complete(s.response, "["+strings.Join(output, ",")+"]"))
}

// keeps reports whether an item has a place in an answer that was cut off: one with
// something in it, that the client can send back. Reasoning goes back to the provider
// by its id, and the provider has kept nothing of such an answer.
func (it *outItem) keeps() bool {
	switch it.kind {
	case "message":
		return it.said || it.came != ""
	case "reasoning":
		return it.came != "" && strings.Contains(it.final, `"encrypted_content":"`)
	}
	return it.came != ""
}

// endItem closes an item that is open, with what was released of it.
func (s *responseStream) endItem(it *outItem) {
	it.final = it.started
	if it.kind == "message" {
		var parts []string
		for _, p := range it.parts {
			if p.text == nil {
				continue
			}
			if !p.begun {
				s.make("response.content_part.added", it.at(p)+`,"part":`+textPart(p.kind, ""))
			}
			s.endText(it, p, p.passed.String())
			it.said = it.said || p.passed.Len() > 0
			parts = append(parts, textPart(p.kind, p.passed.String()))
		}
		doc, err := document.Parse([]byte(it.started))
		if err == nil { // it was parsed before
			setMember(doc.Root(), "content", "["+strings.Join(parts, ",")+"]")
			setMember(doc.Root(), "status", `"completed"`)
			it.final = doc.String()
		}
	}
	it.done = true
	s.make("response.output_item.done", `"output_index":`+itoa(it.index)+`,"item":`+it.final)
}
