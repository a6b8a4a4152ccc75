package anthropic

import (
	"context"
	"slices"
	"strconv"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

func (s *stream) blockAt(index int) *block {
	for _, b := range s.blocks {
		if b.index == index {
			return b
		}
	}
	return nil
}

func (s *stream) forget(b *block) {
	s.blocks = slices.DeleteFunc(s.blocks, func(o *block) bool { return o == b })
}

// hold keeps an event of a call until the call is complete.
func (s *stream) hold(b *block, ev event) error {
	if s.held += len(ev.data); s.held > heldLimit {
		return &gateway.IncompleteError{Reason: "a tool call is larger than can be held for a decision"}
	}
	b.events = append(b.events, ev)
	return nil
}

// stopped ends the stream because of a decision, if it is one. b, if not nil, is the
// block that it is about; its text is decided on already.
func (s *stream) stopped(ctx context.Context, b *block, d *guardbook.Decision) *guardbook.Decision {
	if d == nil {
		return nil
	}
	if b != nil {
		b.text = nil
	}
	s.Abandon(ctx)
	s.Stop(gateway.BlockText(*d))
	return d
}

// Abandon has decided on what came so far.
func (s *stream) Abandon(ctx context.Context) {
	for _, b := range s.blocks {
		switch {
		case b.text != nil:
			_, _, _ = b.text.Close(ctx) // the stream is over either way
			b.text = nil
		case b.kind != stopTool:
			_, _ = s.decideBlock(ctx, b) // the stream is over either way
		}
	}
	_, _ = s.extra.Decide(ctx, s.call) // the stream is over either way
}

// Stop ends the stream in the protocol with a text: the open blocks are stopped, the
// text is a block of its own.
func (s *stream) Stop(text string) {
	if !s.started {
		s.started = true
		s.out.Send("message_start", `{"type":"message_start","message":`+string(makeMessage(s.call.Request.Model, ""))+`}`)
	}
	if !s.ended {
		for _, b := range s.blocks {
			if b.kind != stopTool {
				s.sendStop(b.index)
			}
		}
		s.sendBlock(s.next, text)
		s.out.Send("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":`+s.output+`}}`)
	}
	s.blocks = nil
	s.out.Send("message_stop", `{"type":"message_stop"}`)
}

// sendBlock sends a whole text block.
func (s *stream) sendBlock(index int, text string) {
	s.out.Send("content_block_start", `{"type":"content_block_start","index":`+strconv.Itoa(index)+`,"content_block":{"type":"text","text":""}}`)
	s.sendText(index, text)
	s.sendStop(index)
	s.next = max(s.next, index+1)
}

func (s *stream) sendText(index int, text string) {
	s.out.Send("content_block_delta", `{"type":"content_block_delta","index":`+strconv.Itoa(index)+`,"delta":{"type":"text_delta","text":`+document.Quote(text)+`}}`)
}

func (s *stream) sendStop(index int) {
	s.out.Send("content_block_stop", `{"type":"content_block_stop","index":`+strconv.Itoa(index)+`}`)
}
