package openai

import (
	"context"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// outPart is a part of a message.
type outPart struct {
	index  int
	kind   string
	text   gateway.Text
	raw    strings.Builder
	passed strings.Builder // what was released of it
	closed bool
	read   bool // as a part that is not for text
	begun  bool // content_part.added was sent
	told   bool // output_text.done was sent
	ended  bool // content_part.done was sent
}

// text is an event about the text of a message.
func (s *responseStream) text(ctx context.Context, ev responseEvent) (*guardbook.Decision, error) {
	root := ev.doc.Root()
	it := s.itemAt(root.Get("output_index").Int(-1))
	at := root.Get("content_index").Int(-1)
	if it == nil || at < 0 || it.done {
		return nil, &gateway.IncompleteError{Reason: "a piece belongs to no item"}
	}
	if it.kind != "message" { // reasoning has parts, too
		it.collect(ev)
		s.send(ev)
		return nil, nil
	}
	var blocked *guardbook.Decision
	var err error
	s.beside(root, "logprobs", textMember(ev.kind, root))
	switch ev.kind {
	case "response.content_part.added":
		blocked, err = s.begin(ctx, it, at, root.Get("part"))
		it.part(at).begun = true
	case "response.output_text.delta", "response.refusal.delta":
		return s.piece(ctx, it, at, ev)
	case "response.output_text.done", "response.refusal.done":
		text := root.Get("text")
		kind := "output_text"
		if ev.kind == "response.refusal.done" {
			text, kind = root.Get("refusal"), "refusal"
		}
		p, opened := s.open(it, at, kind)
		if opened != nil {
			return nil, opened
		}
		blocked, err = s.close(ctx, it, p, text)
		if p.changed() {
			clearLogprobs(root)
		}
		p.told = true
	case "response.content_part.done":
		blocked, err = s.endPart(ctx, it, at, root.Get("part"))
		it.part(at).ended = true
	}
	if blocked != nil || err != nil {
		return blocked, err
	}
	s.send(ev)
	return nil, nil
}

// textMember is the member of an event that holds its text, or the part with it.
func textMember(kind string, root document.Value) string {
	name, form := "", '"'
	switch kind {
	case "response.output_text.delta", "response.refusal.delta":
		name = "delta"
	case "response.output_text.done":
		name = "text"
	case "response.refusal.done":
		name = "refusal"
	case "response.content_part.added", "response.content_part.done":
		name, form = "part", '{'
	}
	if rune(root.Get(name).Kind()) != form {
		return "" // something else: it is read as anything else is
	}
	return name
}

// begin is the beginning of a part; some of its text may be there already.
func (s *responseStream) begin(ctx context.Context, it *outItem, at int, v document.Value) (*guardbook.Decision, error) {
	p, err := s.open(it, at, v.Get("type").Text())
	if err != nil {
		return nil, err
	}
	if text := partText(v); text.Text() != "" {
		release, blocked, err := s.write(ctx, p, text.Text())
		if blocked != nil || err != nil {
			return blocked, err
		}
		if release != text.Text() {
			setPart(v, release)
		}
	}
	besideText(v, s.extra.Note)
	return nil, nil
}

// piece is a piece of a text.
func (s *responseStream) piece(ctx context.Context, it *outItem, at int, ev responseEvent) (*guardbook.Decision, error) {
	root := ev.doc.Root()
	kind := "output_text"
	if ev.kind == "response.refusal.delta" {
		kind = "refusal"
	}
	delta := root.Get("delta")
	p, err := s.open(it, at, kind)
	if err != nil {
		return nil, err
	}
	release, blocked, err := s.write(ctx, p, delta.Text())
	switch {
	case blocked != nil || err != nil:
		return blocked, err
	case release == "" && delta.Text() != "":
		return nil, nil // all of it is held back
	case release != delta.Text():
		delta.SetText(release)
		clearLogprobs(root)
	}
	s.send(ev)
	return nil, nil
}

// open returns a part of a message, new or known.
func (s *responseStream) open(it *outItem, at int, kind string) (*outPart, error) {
	p := it.part(at)
	switch {
	case p.kind == "":
		p.kind = kind
	case p.kind != kind:
		return nil, &gateway.IncompleteError{Reason: "a part began as something else"}
	}
	if p.text == nil && (kind == "output_text" || kind == "refusal") {
		p.text = s.call.Text()
	}
	return p, nil
}

func (it *outItem) part(at int) *outPart {
	for _, p := range it.parts {
		if p.index == at {
			return p
		}
	}
	p := &outPart{index: at}
	it.parts = append(it.parts, p)
	return p
}

// write has a piece decided on. A block ends the stream.
func (s *responseStream) write(ctx context.Context, p *outPart, piece string) (string, *guardbook.Decision, error) {
	if p.closed || p.text == nil {
		return "", nil, &gateway.IncompleteError{Reason: "text came for a part that is not for text, or has ended"}
	}
	p.raw.WriteString(piece)
	release, d, err := p.text.Write(ctx, piece)
	if err != nil {
		return "", nil, err
	}
	if d != nil {
		return "", s.block(ctx, *d), nil
	}
	p.passed.WriteString(release)
	return release, nil, nil
}

// changed reports whether what was released differs from what came.
func (p *outPart) changed() bool { return p.closed && p.raw.String() != p.passed.String() }

// close ends a text: whole is where all of it is told. What was held back goes out in
// front of the event that tells it.
func (s *responseStream) close(ctx context.Context, it *outItem, p *outPart, whole document.Value) (*guardbook.Decision, error) {
	if !p.closed {
		if rest, ok := strings.CutPrefix(whole.Text(), p.raw.String()); ok && rest != "" {
			release, blocked, err := s.write(ctx, p, rest)
			if blocked != nil || err != nil {
				return blocked, err
			}
			s.say(it, p, release)
		}
		if blocked, err := s.closeText(ctx, it, p); blocked != nil || err != nil {
			return blocked, err
		}
	}
	if text := whole.Text(); text != p.raw.String() && text != "" {
		return nil, &gateway.IncompleteError{Reason: "a text is not at its end what came in pieces"}
	}
	if p.changed() {
		whole.SetText(p.passed.String())
	}
	return nil, nil
}

// closeText has a text decided on as a whole.
func (s *responseStream) closeText(ctx context.Context, it *outItem, p *outPart) (*guardbook.Decision, error) {
	if p.closed || p.text == nil {
		return nil, nil
	}
	rest, d, err := p.text.Close(ctx)
	if err != nil {
		return nil, err
	}
	if !d.Action.Releases() {
		return s.block(ctx, d), nil
	}
	p.closed = true
	p.passed.WriteString(rest)
	s.say(it, p, rest)
	return nil, nil
}

// endPart is a part that is told as a whole.
func (s *responseStream) endPart(ctx context.Context, it *outItem, at int, v document.Value) (*guardbook.Decision, error) {
	p, err := s.open(it, at, v.Get("type").Text())
	if err != nil {
		return nil, err
	}
	text := partText(v)
	if !text.Exists() {
		if blocked, err := s.closeText(ctx, it, p); blocked != nil || err != nil || p.read {
			return blocked, err
		}
		p.read = true
		return s.decide(ctx, unknownPart(v))
	}
	if blocked, err := s.close(ctx, it, p, text); blocked != nil || err != nil {
		return blocked, err
	}
	if p.changed() {
		clearLogprobs(v)
	}
	besideText(v, s.extra.Note)
	return nil, nil
}
