package openai

import (
	"context"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// responseStream translates one streamed answer of the Responses API.
//
// Each text part of a message passes through a gateway.Text, which may hold bytes
// back; what it holds comes out with a later delta, or in one of its own before the
// part ends. Its text is told four times (pieces, part, item, response), and what was
// released stands in all of them. A call waits from output_item.added to
// output_item.done, and everything behind it waits with it: client libraries put items
// in the order in which they begin. Reasoning, and what the provider ran itself, pass
// as they come and are decided on when the item is complete.
type responseStream struct {
	call  *gateway.Call
	out   *gateway.Out
	known echo
	extra gateway.Extra

	response string // as the upstream told it last, or ours
	began    bool   // the client has been told that an answer begins
	ended    bool
	next     int // the number of the next event
	numbered bool

	items []*outItem
	waits *outItem        // the item that must be complete first
	later []responseEvent // what came behind it
	held  int             // bytes that wait
	owed  string          // results of the calls that the client never sees
	debts *owedResults
	loose outItem // pieces that belong to no item
}

// outItem is an item of the answer.
type outItem struct {
	index    int
	id, kind string
	started  string // as it was when it began
	parts    []*outPart
	events   []responseEvent // of an item that waits
	pieces   []*pieces       // what it said in pieces
	texts    []string        // and what it said beside them
	named    []string        // of these, by what a client may build a call
	done     bool
	said     bool   // some text of it was released, when it was cut off
	came     string // the complete item, as it came
	final    string // as it was released
}

// pieces is one text that comes in pieces.
type pieces struct {
	place string
	strings.Builder
	told bool // a redacted text was sent in the place of all
}

// responseEvent is an event with the name in its header.
type responseEvent struct {
	header, kind string
	doc          *document.Document
}

// Stream begins to translate a streamed answer.
func (e responses) Stream(call *gateway.Call, out *gateway.Out) gateway.Stream {
	return &responseStream{call: call, out: out, known: echo{request: call.Request}, debts: e.owed}
}

// Event takes one event.
func (s *responseStream) Event(ctx context.Context, eventType string, data []byte) (done bool, blocked *guardbook.Decision, err error) {
	if string(data) == "[DONE]" { // not of this API, but some servers send it all the same
		blocked, err = s.End(ctx)
		return err == nil, blocked, err
	}
	doc, err := document.Parse(data)
	if err != nil {
		return false, nil, err
	}
	kind := doc.Root().Get("type").Text()
	switch {
	case kind == "" && !doc.Root().Get("error").IsNull():
		kind = "error"
	case kind == "":
		kind = eventType
	case eventType != "" && eventType != kind:
		// Some clients go by the one, some by the other.
		return false, nil, &gateway.IncompleteError{Reason: "an event is called one thing in its header and another in its data"}
	}
	return s.take(ctx, responseEvent{eventType, kind, doc})
}

func (s *responseStream) take(ctx context.Context, ev responseEvent) (done bool, blocked *guardbook.Decision, err error) {
	root := ev.doc.Root()
	terminal := ev.kind == "response.completed" || ev.kind == "response.incomplete" || ev.kind == "response.failed" || ev.kind == "response.cancelled"
	if s.waits != nil && !terminal && ev.kind != "error" {
		if s.belongs(root, s.waits) {
			blocked, err = s.wait(ctx, ev)
			return false, blocked, err
		}
		s.later = append(s.later, ev)
		return false, nil, s.hold(ev)
	}
	switch {
	case terminal:
		return s.finish(ctx, ev)
	case ev.kind == "error":
		s.extra.Note(root)
		s.send(ev)
		return false, nil, gateway.ErrReported
	case ev.kind == "response.created" || ev.kind == "response.in_progress" || ev.kind == "response.queued":
		if root.Get("response").Get("output").First().Exists() {
			return false, nil, &gateway.IncompleteError{Reason: "it holds items before it has begun"}
		}
		s.response = root.Get("response").Raw()
		s.began = true
		s.noteNew(root)
		s.send(ev)
	case ev.kind == "response.output_item.added":
		blocked, err = s.added(ctx, ev)
	case ev.kind == "response.output_item.done":
		blocked, err = s.itemDone(ctx, ev)
	case strings.HasPrefix(ev.kind, "response.content_part."), strings.HasPrefix(ev.kind, "response.output_text."), strings.HasPrefix(ev.kind, "response.refusal."):
		blocked, err = s.text(ctx, ev)
	default:
		s.other(ev)
	}
	return false, blocked, err
}

// other is an event that passes as it comes. What it says of an item is decided on
// when the item is complete; the rest at the end of the answer.
func (s *responseStream) other(ev responseEvent) {
	root := ev.doc.Root()
	for _, it := range s.items {
		if !it.done && it.kind != "message" && s.belongs(root, it) {
			it.collect(ev)
			s.send(ev)
			return
		}
	}
	if root.Get("delta").Exists() {
		s.loose.collect(ev)
	} else {
		s.noteNew(root)
	}
	s.send(ev)
}

// beside keeps the strings of an event's members other than some.
func (s *responseStream) beside(root document.Value, names ...string) {
	for m := root.First(); m.Exists(); m = m.Next() {
		if !slices.Contains(names, m.Name()) {
			s.noteNew(m)
		}
	}
}

// noteNew keeps the strings of an event that the request does not hold.
func (s *responseStream) noteNew(v document.Value) { s.known.unknown(v, s.extra.Note) }

// belongs reports whether an event is about an item.
func (s *responseStream) belongs(root document.Value, it *outItem) bool {
	if v := root.Get("output_index"); v.Exists() {
		return v.Int(-1) == it.index
	}
	id := root.Get("item_id").Text()
	return id != "" && id == it.id
}

// collect keeps what an event says of an item that is no message.
func (it *outItem) collect(ev responseEvent) {
	for m := ev.doc.Root().First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case "delta":
			it.collectDelta(m, ev)
		case "partial_image_b64":
		default:
			m.Strings(func(_ document.Place, text string) {
				if !document.Plain(text) {
					it.texts = append(it.texts, text)
				}
			})
		}
	}
}

// collectAll keeps what an event says of an item that waits: short names, too, since
// a client may build a call from any of its events.
func (it *outItem) collectAll(v document.Value, ev responseEvent) {
	for m := v.First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case "type", "id", "item_id", "status", "role", "obfuscation":
		case "delta":
			it.collectDelta(m, ev)
		case "item":
			it.collectAll(m, ev)
		case "name", "namespace", "call_id", "server_label", "arguments", "input":
			m.Strings(func(_ document.Place, text string) { it.named = append(it.named, text) })
		default:
			m.Strings(func(_ document.Place, text string) { it.texts = append(it.texts, text) })
		}
	}
}

func (it *outItem) collectDelta(delta document.Value, ev responseEvent) {
	delta.Strings(func(at document.Place, text string) { it.piece(ev, nameAt(delta, at)).WriteString(text) })
}

// nameAt is the name of the member of a delta in which a string stands; "" for a
// delta that is a string itself.
func nameAt(delta document.Value, at document.Place) string {
	for m := delta.First(); m.Exists(); m = m.Next() {
		if m.Place() == at {
			return m.Name()
		}
	}
	return ""
}

// piece is the text that an event's delta, or a member of it, is a piece of.
func (it *outItem) piece(ev responseEvent, name string) *pieces {
	place := strings.TrimSuffix(ev.kind, ".delta") + "/" + name
	for _, index := range []string{"content_index", "summary_index", "command_index"} {
		place += "/" + ev.doc.Root().Get(index).Raw()
	}
	for _, p := range it.pieces {
		if p.place == place {
			return p
		}
	}
	p := &pieces{place: place}
	it.pieces = append(it.pieces, p)
	return p
}

// missing are the texts that an item said on its way and does not hold when it is
// complete; torn reports whether a call can be built of them that is not the one at
// the end.
func (it *outItem) missing(item document.Value) (texts []string, torn bool) {
	holds := map[string]bool{"": true}
	item.Strings(func(_ document.Place, text string) { holds[text] = true })
	add := func(text string) {
		if !holds[text] {
			holds[text] = true
			texts = append(texts, text)
		}
	}
	for _, p := range it.pieces {
		add(p.String())
	}
	for _, text := range it.named {
		add(text)
	}
	torn = len(texts) > 0
	for _, text := range it.texts {
		add(text)
	}
	return texts, torn
}

// added is the beginning of an item.
func (s *responseStream) added(ctx context.Context, ev responseEvent) (*guardbook.Decision, error) {
	root, v := ev.doc.Root(), ev.doc.Root().Get("item")
	it := &outItem{index: root.Get("output_index").Int(-1), id: v.Get("id").Text(), kind: v.Get("type").Text(), started: v.Raw()}
	if it.index < 0 || s.itemAt(it.index) != nil || v.Kind() != '{' {
		return nil, &gateway.IncompleteError{Reason: "an item has no place of its own"}
	}
	s.items = append(s.items, it)
	s.began = true
	s.beside(root, "item")
	switch {
	case it.kind == "message":
		at := 0
		for p := v.Get("content").First(); p.Exists(); p = p.Next() {
			if blocked, err := s.begin(ctx, it, at, p); blocked != nil || err != nil {
				return blocked, err
			}
			at++
		}
	case waits(it.kind):
		s.waits = it
		it.events = append(it.events, ev)
		it.collectAll(root, ev)
		return nil, s.hold(ev)
	}
	s.send(ev)
	return nil, nil
}

func (s *responseStream) itemAt(index int) *outItem {
	for _, it := range s.items {
		if it.index == index {
			return it
		}
	}
	return nil
}
