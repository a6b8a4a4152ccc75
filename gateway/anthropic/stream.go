package anthropic

import (
	"context"
	"strconv"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// heldLimit bounds the bytes that wait for a call to be complete.
const heldLimit = 32 << 20

// stream translates one streamed answer.
//
// Text blocks pass through a gateway.Text each, which may hold bytes back; what it
// holds comes out with a later delta, or in one of its own before the block stops.
// A tool_use block waits from its start to its stop: client libraries build a
// callable tool from the start alone. Thinking passes as it comes and is decided on
// when it is complete, since it must not be changed.
type stream struct {
	call *gateway.Call
	out  *gateway.Out

	started, ended bool // message_start, message_delta were sent
	blocks         []*block
	next           int // the index after the highest that was sent
	calls, taken   int
	names          map[string]string // of the calls that ran at the provider, by id
	output         string            // usage.output_tokens as last told
	extra          gateway.Extra
	held           int
}

// block is a content block between its start and its stop.
type block struct {
	index    int
	kind     string
	text     gateway.Text  // of a text block
	item     *gateway.Item // of thinking, and of blocks that are not known
	buf      strings.Builder
	id, name string // of a tool_use
	events   []event
}

type event struct{ kind, data string }

// Stream begins to translate a streamed answer.
func (messages) Stream(call *gateway.Call, out *gateway.Out) gateway.Stream {
	return &stream{call: call, out: out, output: "0"}
}

// Event takes one event.
func (s *stream) Event(ctx context.Context, eventType string, data []byte) (done bool, blocked *guardbook.Decision, err error) {
	doc, err := document.Parse(data)
	if err != nil {
		return false, nil, err
	}
	root := doc.Root()
	kind := root.Get("type").Text()
	if eventType != kind && eventType != "" && kind != "" {
		// Some clients go by the one, some by the other.
		return false, nil, &gateway.IncompleteError{Reason: "an event is called one thing in its header and another in its data"}
	}
	if kind == "" {
		kind = eventType
	}
	ev := event{kind, doc.Source()}
	switch kind {
	case "message_start":
		if s.started {
			return false, nil, &gateway.IncompleteError{Reason: "it began a second time"}
		}
		s.started = true
		s.usage(root.Get("message").Get("usage"))
		s.extra.Note(root.Get("message"))
		s.send(ev)
	case "content_block_start":
		blocked, err = s.start(ctx, root, ev, doc)
	case "content_block_delta":
		blocked, err = s.delta(ctx, root, ev, doc)
	case "content_block_stop":
		blocked, err = s.stopBlock(ctx, root, ev)
	case "message_delta":
		blocked, err = s.messageDelta(ctx, root, ev, doc)
	case "message_stop":
		if len(s.blocks) > 0 || !s.started {
			return false, nil, &gateway.IncompleteError{Reason: "it ended within a block"}
		}
		s.send(ev)
		return true, nil, nil
	case "ping":
		s.out.Send(kind, `{"type": "ping"}`)
	case "error":
		s.extra.Note(root)
		s.send(ev)
		return false, nil, gateway.ErrReported
	default:
		s.extra.Note(root)
		s.send(ev)
	}
	return false, blocked, err
}

func (s *stream) send(ev event) { s.out.Send(ev.kind, ev.data) }

func (s *stream) usage(u document.Value) {
	if n := u.Get("output_tokens"); n.Kind() == '0' {
		s.output = n.Raw()
	}
}

func (s *stream) start(ctx context.Context, root document.Value, ev event, doc *document.Document) (*guardbook.Decision, error) {
	index, v := root.Get("index").Int(-1), root.Get("content_block")
	if index < 0 || s.blockAt(index) != nil {
		return nil, &gateway.IncompleteError{Reason: "a block has no index of its own"}
	}
	b := &block{index: index, kind: v.Get("type").Text()}
	s.blocks = append(s.blocks, b)
	switch b.kind {
	case stopTool:
		b.id, b.name = v.Get("id").Text(), v.Get("name").Text()
		if input := v.Get("input"); input.First().Exists() {
			b.buf.WriteString(input.Raw())
		}
		beside(v, s.extra.Note)
		return nil, s.hold(b, ev)
	case "text":
		b.text = s.call.Text()
		if text := v.Get("text"); text.Text() != "" {
			release, d, err := b.text.Write(ctx, text.Text())
			if d != nil || err != nil {
				return s.stopped(ctx, b, d), err
			}
			text.SetText(release)
			ev.data = doc.String()
		}
		s.extra.Note(v.Get("citations"))
	case "thinking", "redacted_thinking":
		b.buf.WriteString(v.Get("thinking").Text())
	default:
		b.item = foreign(v, &s.names)
		if b.item.In.Kind == guardbook.KindToolResult {
			// It is whole already, and need not go out before it is decided on.
			it := b.item
			b.item = gateway.NewItem(guardbook.KindOutput, "")
			if blocked, err := s.call.Decide(ctx, it); blocked != nil || err != nil {
				s.forget(b)
				return s.stopped(ctx, nil, blocked), err
			}
			ev.data = doc.String()
		}
	}
	s.next = max(s.next, index+1)
	s.send(ev)
	return nil, nil
}

func (s *stream) delta(ctx context.Context, root document.Value, ev event, doc *document.Document) (*guardbook.Decision, error) {
	b, d := s.blockAt(root.Get("index").Int(-1)), root.Get("delta")
	if b == nil {
		return nil, &gateway.IncompleteError{Reason: "a piece belongs to no block"}
	}
	switch kind := d.Get("type").Text(); {
	case b.kind == stopTool:
		if kind == "input_json_delta" {
			b.buf.WriteString(d.Get("partial_json").Text())
		} else {
			s.extra.Note(d)
		}
		return nil, s.hold(b, ev)
	case kind == "text_delta" && b.text != nil:
		text := d.Get("text")
		if text.Text() == "" {
			break
		}
		release, blocked, err := b.text.Write(ctx, text.Text())
		if blocked != nil || err != nil {
			return s.stopped(ctx, b, blocked), err
		}
		if release == "" {
			return nil, nil // all of it is held back
		}
		if release != text.Text() {
			text.SetText(release)
			ev.data = doc.String()
		}
	case kind == "text_delta":
		return nil, &gateway.IncompleteError{Reason: "text came in a block that is not for text"}
	case kind == "thinking_delta":
		b.buf.WriteString(d.Get("thinking").Text())
	case kind == "signature_delta":
	case kind == "input_json_delta":
		b.buf.WriteString(d.Get("partial_json").Text())
	default:
		s.extra.Note(d)
	}
	s.send(ev)
	return nil, nil
}

func (s *stream) stopBlock(ctx context.Context, root document.Value, ev event) (*guardbook.Decision, error) {
	b := s.blockAt(root.Get("index").Int(-1))
	if b == nil {
		return nil, &gateway.IncompleteError{Reason: "a block stopped that had not started"}
	}
	switch {
	case b.kind == stopTool:
		err := s.releaseCall(ctx, b, ev)
		s.forget(b)
		return nil, err
	case b.text != nil:
		rest, d, err := b.text.Close(ctx)
		b.text = nil
		if err != nil {
			return nil, err
		}
		if !d.Action.Releases() {
			return s.stopped(ctx, b, &d), nil
		}
		if rest != "" {
			s.sendText(b.index, rest)
		}
	default:
		if blocked, err := s.decideBlock(ctx, b); blocked != nil || err != nil {
			return s.stopped(ctx, b, blocked), err
		}
	}
	s.forget(b)
	s.send(ev)
	return nil, nil
}

// decideBlock decides on a block that passed as it came, now that it is complete.
func (s *stream) decideBlock(ctx context.Context, b *block) (*guardbook.Decision, error) {
	it := b.item
	if it == nil {
		it = gateway.NewItem(guardbook.KindOutput, roleThinking)
	}
	b.item = nil
	if b.buf.Len() > 0 {
		it.Add(document.Place{}, b.buf.String())
		b.buf.Reset()
	}
	if it.Empty() {
		return nil, nil
	}
	it.Redact = func(guardbook.Decision) {}
	return s.call.Decide(ctx, it)
}

// releaseCall decides on a call that is complete and sends its events as they came,
// or what takes their place.
func (s *stream) releaseCall(ctx context.Context, b *block, stop event) error {
	it := callItem(b.name, b.id, b.buf.String())
	var taken, changed *guardbook.Decision
	it.Block = func(d guardbook.Decision) { taken = &d }
	it.Redact = func(d guardbook.Decision) { changed = &d }
	if _, err := s.call.Decide(ctx, it); err != nil {
		return err
	}
	s.calls++
	s.next = max(s.next, b.index+1)
	switch {
	case taken != nil:
		s.taken++
		s.sendBlock(b.index, gateway.BlockText(*taken))
		return nil
	case changed != nil:
		s.send(b.events[0])
		s.out.Send("content_block_delta", `{"type":"content_block_delta","index":`+strconv.Itoa(b.index)+
			`,"delta":{"type":"input_json_delta","partial_json":`+document.Quote(string(changed.Arguments))+`}}`)
	default:
		for _, ev := range b.events {
			s.send(ev)
		}
	}
	s.send(stop)
	return nil
}

func (s *stream) messageDelta(ctx context.Context, root document.Value, ev event, doc *document.Document) (*guardbook.Decision, error) {
	if len(s.blocks) > 0 || !s.started {
		return nil, &gateway.IncompleteError{Reason: "it ended within a block"}
	}
	s.usage(root.Get("usage"))
	s.extra.Note(root.Get("delta"))
	if blocked, err := s.extra.Decide(ctx, s.call); blocked != nil || err != nil {
		return s.stopped(ctx, nil, blocked), err
	}
	if stop := root.Get("delta").Get("stop_reason"); s.taken > 0 && s.taken == s.calls && stop.Text() == stopTool {
		stop.SetText(stopEnd)
		ev.data = doc.String()
	}
	s.ended = true
	s.send(ev)
	return nil, nil
}

// End is called when the upstream ends without message_stop.
func (s *stream) End(context.Context) (*guardbook.Decision, error) {
	return nil, &gateway.IncompleteError{Reason: "it ended without message_stop"}
}
