package openai

import (
	"context"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// heldLimit bounds the bytes that wait for a call to be complete.
const heldLimit = 32 << 20

// stream translates one streamed answer of Chat Completions or Completions.
//
// Texts pass through a gateway.Text each, which may hold bytes back; what it holds
// comes out with a later event, or in an event of its own before the one that ends
// the choice. From the first piece of a tool call on, everything of that choice
// waits until finish_reason says that the call is complete: client libraries build
// a callable tool from its first piece, even if the stream then ends otherwise.
type stream struct {
	call  *gateway.Call
	out   *gateway.Out
	asked *asked
	form  form

	choices []*choice
	shape   shape
	usage   string // as the upstream told it
	extra   gateway.Extra
	held    int
}

// choice is the state of one choice.
type choice struct {
	index    int
	begun    bool // its role was sent
	said     bool // some text was released
	finished bool
	texts    []*channel
	waiting  bool // for a call to be complete
	events   []heldEvent
	calls    []*toolCall
	byIndex  map[int]int // the model's index of a call: place in calls
}

// channel is one text of a choice: content, refusal, reasoning.
type channel struct {
	member string
	text   gateway.Text
	// held is where text of this channel stands last among the events that wait, and
	// heldText what stands there: what is released later goes behind it.
	held     document.Value
	heldText string
}

// heldEvent is an event that waits, with what its decisions may change.
type heldEvent struct {
	doc       *document.Document
	delta     document.Value
	fragments []fragment
	finish    document.Value
	logprobs  document.Value // they repeat the text token by token
}

// fragment is one piece of a call in an event.
type fragment struct {
	call int
	v    document.Value // the element of tool_calls, or function_call
	text document.Value // arguments or input; may be missing
}

// Stream begins to translate a streamed answer.
func (chat) Stream(call *gateway.Call, out *gateway.Out) gateway.Stream {
	a := call.Request.Protocol.(*asked)
	return &stream{call: call, out: out, asked: a, form: chatForm, shape: newShape("chat.completion.chunk", newID(), a.model)}
}

// Event takes one event.
func (s *stream) Event(ctx context.Context, eventType string, data []byte) (done bool, blocked *guardbook.Decision, err error) {
	if string(data) == "[DONE]" {
		if blocked, err := s.completeAll(ctx); blocked != nil || err != nil {
			return false, blocked, err
		}
		s.out.Send("", "[DONE]")
		return true, nil, nil
	}
	doc, err := document.Parse(data)
	if err != nil {
		return false, nil, err
	}
	list := doc.Root().Get("choices")
	s.shape.note(doc.Root())
	for v := doc.Root().First(); v.Exists(); v = v.Next() {
		if v.Name() != "choices" {
			s.extra.Note(v)
		}
	}
	if u := doc.Root().Get("usage"); u.Kind() == '{' {
		s.usage = u.Raw()
	}
	switch n := list.Left(); {
	case list.Kind() != '[' || n == 0:
		s.out.Send(eventType, doc.String())
		if e := doc.Root().Get("error"); !e.IsNull() {
			return false, nil, gateway.ErrReported
		}
		return false, nil, nil
	case n == 1:
		blocked, err = s.choice(ctx, doc, list.First())
		return false, blocked, err
	default: // each choice goes its own way
		for i := range n {
			one, _ := document.Parse(data) // it was parsed before
			at, v := 0, one.Root().Get("choices").First()
			var mine document.Value
			for ; v.Exists(); v = v.Next() {
				if at == i {
					mine = v
				} else {
					v.Remove()
				}
				at++
			}
			if blocked, err := s.choice(ctx, one, mine); blocked != nil || err != nil {
				return false, blocked, err
			}
		}
		return false, nil, nil
	}
}

// choice takes an event that concerns one choice.
func (s *stream) choice(ctx context.Context, doc *document.Document, v document.Value) (*guardbook.Decision, error) {
	c := s.choiceAt(v.Get("index").Int(0))
	ev := heldEvent{doc: doc, delta: s.form.delta(v), finish: v.Get("finish_reason"), logprobs: v.Get("logprobs")}
	for m := v.First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case "delta", "logprobs", "finish_reason":
		default:
			if ev.delta != v { // else it is read as a part of it
				s.extra.Note(m)
			}
		}
	}
	carries := false // something beyond held text: the event must go out
	changed := false
	var written []document.Value
	released := map[string]string{}
	for m := ev.delta.First(); m.Exists(); m = m.Next() {
		switch {
		case ev.delta == v && (m.Name() == "logprobs" || m.Name() == "finish_reason" || m.Name() == "index"):
		case m.Name() == "role":
			c.begun, carries = true, true
			s.extra.Note(m)
		case m.Name() == "tool_calls" && m.Kind() == '[':
			for t := m.First(); t.Exists(); t = t.Next() {
				ev.fragments = append(ev.fragments, c.piece(t))
			}
		case m.Name() == "function_call" && m.Kind() == '{':
			ev.fragments = append(ev.fragments, c.legacyPiece(m))
		case m.IsString():
			text := m.Text()
			if text == "" {
				continue
			}
			release, d, err := c.channel(s.call, m.Name()).text.Write(ctx, text)
			if err != nil {
				return nil, err
			}
			if d != nil {
				s.block(ctx, c, *d)
				return d, nil
			}
			released[m.Name()] = release
			written = append(written, m)
			if release != text {
				changed = true
				m.SetText(release)
			}
			carries = carries || release != ""
			c.said = c.said || release != ""
		case m.IsNull():
		default:
			carries = true
			s.extra.Note(m)
		}
	}
	if changed && !ev.logprobs.IsNull() {
		ev.logprobs.SetRaw("null")
	}
	c.waiting = c.waiting || len(ev.fragments) > 0
	if !ev.finish.IsNull() {
		return s.finish(ctx, c, ev, written, released)
	}
	if len(written) > 0 && !carries && len(ev.fragments) == 0 && doc.Root().Get("usage").IsNull() {
		return nil, nil // all of it is held back
	}
	for _, m := range written {
		if ch := c.channel(s.call, m.Name()); c.waiting {
			ch.held, ch.heldText = m, released[m.Name()]
		}
	}
	return nil, s.send(c, ev)
}

// finish takes the event that ends a choice: what is still held of its texts goes
// out with it, or before it.
func (s *stream) finish(ctx context.Context, c *choice, ev heldEvent, written []document.Value, released map[string]string) (*guardbook.Decision, error) {
	for _, ch := range c.texts {
		rest, d, err := ch.text.Close(ctx)
		if err != nil {
			return nil, err
		}
		if !d.Action.Releases() {
			s.block(ctx, c, d)
			return &d, nil
		}
		if rest == "" {
			continue
		}
		at := -1
		for i, m := range written {
			if m.Name() == ch.member {
				at = i
			}
		}
		if at >= 0 {
			written[at].SetText(released[ch.member] + rest)
			if !ev.logprobs.IsNull() {
				ev.logprobs.SetRaw("null")
			}
		} else {
			s.sendText(c, ch, rest)
		}
		c.said = true
	}
	c.texts = nil
	return s.complete(ctx, c, ev)
}

// complete decides on the calls of a choice, now that they are whole, and releases
// what has waited. last is the event that ends the choice, if there is one.
func (s *stream) complete(ctx context.Context, c *choice, last heldEvent) (*guardbook.Decision, error) {
	for _, ch := range c.texts { // the answer ended without a finish_reason
		rest, d, err := ch.text.Close(ctx)
		if err != nil {
			return nil, err
		}
		if !d.Action.Releases() {
			c.texts = nil
			s.block(ctx, c, d)
			return &d, nil
		}
		if rest != "" {
			s.sendText(c, ch, rest)
		}
	}
	c.texts = nil
	items := make([]*gateway.Item, len(c.calls))
	for i, t := range c.calls {
		items[i] = t.item()
	}
	if len(items) > 0 {
		if _, err := s.call.Decide(ctx, items...); err != nil {
			return nil, err
		}
	}
	if last.doc != nil {
		c.events = append(c.events, last)
	}
	s.replay(c)
	c.finished = true
	return nil, nil
}

// replay sends what has waited: as it came when every call was allowed as it is.
func (s *stream) replay(c *choice) {
	var texts []string
	place := make([]int, len(c.calls)) // the new index of each call; -1: it was blocked
	left := 0
	for i, t := range c.calls {
		if t.blocked != nil {
			place[i] = -1
			texts = append(texts, gateway.BlockText(*t.blocked))
			continue
		}
		place[i] = left
		left++
	}
	told := make([]bool, len(c.calls))
	notice := func() {
		if len(texts) == 0 {
			return
		}
		text := strings.Join(texts, "\n\n")
		if c.said {
			text = "\n\n" + text
		}
		s.emitText(c, s.form.text, text)
		texts = nil
	}
	for _, ev := range c.events {
		for _, f := range ev.fragments {
			t := c.calls[f.call]
			switch {
			case place[f.call] < 0:
				f.v.Remove()
				continue
			case place[f.call] != f.call:
				f.v.Get("index").SetRaw(itoa(place[f.call]))
			}
			if t.changed != nil && f.text.Exists() {
				if text := ""; told[f.call] {
					f.text.SetText(text)
				} else {
					f.text.SetText(t.redacted(*t.changed))
					told[f.call] = true
				}
			}
		}
		if list := ev.delta.Get("tool_calls"); list.Exists() && list.First().Exists() && list.Left() == 0 {
			list.Remove()
		}
		if !ev.finish.IsNull() {
			notice()
			if len(c.calls) > 0 && left == 0 {
				ev.finish.SetText(finishFiltered)
			}
		} else if len(ev.fragments) > 0 && ev.delta.Left() == 0 {
			continue // it held nothing but what was taken out
		}
		s.out.Send("", ev.doc.String())
	}
	notice()
	c.events, c.waiting, c.calls, c.byIndex = nil, false, nil, nil
}

// send sends an event, or keeps it when its choice waits.
func (s *stream) send(c *choice, ev heldEvent) error {
	if !c.waiting {
		s.out.Send("", ev.doc.String())
		return nil
	}
	if s.held += len(ev.doc.Source()); s.held > heldLimit {
		return &gateway.IncompleteError{Reason: "a tool call is larger than can be held for a decision"}
	}
	c.events = append(c.events, ev)
	return nil
}

// sendText sends released text in an event of its own. When the choice waits, the
// text goes where the text before it is, or in front of the calls that it waits for.
func (s *stream) sendText(c *choice, ch *channel, text string) {
	switch {
	case !c.waiting:
		s.emitText(c, ch.member, text)
	case ch.held.Exists():
		ch.held.SetText(ch.heldText + text)
	default:
		doc, err := document.Parse([]byte(s.chunk(c, ch.member, text)))
		if err == nil { // it is made here: it parses
			c.events = append([]heldEvent{{doc: doc}}, c.events...)
		}
	}
	c.said = true
}

func (s *stream) emitText(c *choice, member, text string) {
	s.out.Send("", s.chunk(c, member, text))
	c.said = true
}

// chunk is an event with one text of a choice; it names the role if nothing has yet.
func (s *stream) chunk(c *choice, member, text string) string {
	role := ""
	if !c.begun {
		c.begun = true
		role = `"role":"assistant",`
	}
	return s.shape.chunk(c.index, s.form.say(role, member, text), "")
}

func (s *stream) decideExtra(ctx context.Context) (*guardbook.Decision, error) {
	blocked, err := s.extra.Decide(ctx, s.call)
	if blocked != nil {
		s.Stop(gateway.BlockText(*blocked))
	}
	return blocked, err
}

// End is called when the upstream ends without "[DONE]". Some servers do that; an
// answer is complete all the same when every choice has ended.
func (s *stream) End(ctx context.Context) (*guardbook.Decision, error) {
	if len(s.choices) == 0 {
		return nil, &gateway.IncompleteError{Reason: "it ended before it began"}
	}
	for _, c := range s.choices {
		if !c.finished {
			return nil, &gateway.IncompleteError{Reason: "it ended without a finish_reason"}
		}
	}
	return s.completeAll(ctx)
}

// completeAll brings out whatever still waits at the end of the answer.
func (s *stream) completeAll(ctx context.Context) (*guardbook.Decision, error) {
	for _, c := range s.choices {
		if c.finished && len(c.texts) == 0 && !c.waiting {
			continue
		}
		if blocked, err := s.complete(ctx, c, heldEvent{}); blocked != nil || err != nil {
			return blocked, err
		}
	}
	return s.decideExtra(ctx)
}

// block ends the stream because of a decision on one of its texts.
func (s *stream) block(ctx context.Context, c *choice, d guardbook.Decision) {
	s.Abandon(ctx)
	s.stop(c, gateway.BlockText(d))
}

// Abandon has the texts decided on as far as they came.
func (s *stream) Abandon(ctx context.Context) {
	for _, c := range s.choices {
		for _, ch := range c.texts {
			_, _, _ = ch.text.Close(ctx) // the stream is over either way
		}
		c.begun = c.begun && (c.said || len(c.events) == 0)
		c.texts, c.events = nil, nil
	}
	_, _ = s.extra.Decide(ctx, s.call) // the stream is over either way
}

// Stop ends the stream in the protocol with a text.
func (s *stream) Stop(text string) {
	if len(s.choices) == 0 {
		for i := range s.asked.choices {
			c := s.choiceAt(i)
			s.emitText(c, s.form.text, text)
		}
		s.stop(nil, "")
		return
	}
	for _, c := range s.choices {
		if !c.finished {
			s.stop(c, text)
			return
		}
	}
	s.stop(nil, "")
}

// stop says text in choice c, if it is not nil, and ends every choice.
func (s *stream) stop(c *choice, text string) {
	if c != nil && !c.finished {
		if c.said {
			text = "\n\n" + text
		}
		s.emitText(c, s.form.text, text)
	}
	for _, c := range s.choices {
		if !c.finished {
			s.out.Send("", s.shape.chunk(c.index, s.form.nothing, finishFiltered))
			c.finished = true
		}
	}
	if s.asked.usage {
		usage := s.usage
		if usage == "" {
			usage = noUsage
		}
		s.out.Send("", s.shape.usage(usage))
	}
	s.out.Send("", "[DONE]")
}
