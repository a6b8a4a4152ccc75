package openai

import (
	"context"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// hold counts the bytes of an event that waits.
func (s *responseStream) hold(ev responseEvent) error {
	if s.held += len(ev.doc.Source()); s.held > heldLimit {
		return &gateway.IncompleteError{Reason: "a tool call is larger than can be held for a decision"}
	}
	return nil
}

// wait takes an event of the item that waits.
func (s *responseStream) wait(ctx context.Context, ev responseEvent) (*guardbook.Decision, error) {
	it := s.waits
	it.events = append(it.events, ev)
	if ev.kind != "response.output_item.done" {
		it.collectAll(ev.doc.Root(), ev)
		return nil, s.hold(ev)
	}
	s.beside(ev.doc.Root(), "item")
	if blocked, err := s.release(ctx, it, ev.doc.Root().Get("item")); blocked != nil || err != nil {
		return blocked, err
	}
	return s.goOn(ctx)
}

// goOn takes what has waited behind an item.
func (s *responseStream) goOn(ctx context.Context) (*guardbook.Decision, error) {
	later := s.later
	s.later, s.held = nil, 0
	for _, ev := range later {
		if _, blocked, err := s.take(ctx, ev); blocked != nil || err != nil {
			return blocked, err
		}
	}
	return nil, nil
}

// release decides on the item that has waited, now that it is complete, and sends its
// events: as they came, redacted, or a message in their place.
func (s *responseStream) release(ctx context.Context, it *outItem, v document.Value) (*guardbook.Decision, error) {
	s.waits = nil
	kind := v.Get("type").Text()
	if kind != it.kind || v.Get("id").Text() != it.id {
		return nil, &gateway.IncompleteError{Reason: "an item ended as another than it began"}
	}
	c := readCall(v)
	c.beside(s.extra.Note)
	missing, torn := it.missing(v)
	if torn && (kind == "function_call" || kind == "custom_tool_call" || kind == "mcp_approval_request") {
		// Clients build a call from its pieces or from its end: there must be one call.
		return nil, &gateway.IncompleteError{Reason: "a call is not at its end what came in pieces"}
	}
	for _, text := range missing {
		c.besides(text)
	}
	if blocked, err := s.decide(ctx, c.items...); blocked != nil || err != nil {
		return blocked, err
	}
	it.came, it.done = v.Raw(), true
	if c.blocked != nil {
		it.final = s.sayItem(it.index, gateway.BlockText(*c.blocked))
		s.owed += owed(v, gateway.BlockText(*c.blocked))
		it.events, it.pieces, it.texts, it.named = nil, nil, nil, nil
		return nil, nil
	}
	c.apply(v)
	for _, ev := range it.events {
		if len(c.changes) > 0 && !s.redacted(it, c, ev) {
			continue
		}
		s.send(ev)
	}
	it.final = v.Edited()
	it.events, it.pieces, it.texts, it.named = nil, nil, nil, nil
	return nil, nil
}

// redacted rewrites an event of an item whose texts were changed: the whole text goes
// into the first of its pieces. It reports whether the event is still to be sent.
func (s *responseStream) redacted(it *outItem, c *responseCall, ev responseEvent) bool {
	root := ev.doc.Root()
	delta := root.Get("delta")
	if !delta.Exists() {
		c.apply(root)
		return true
	}
	send := false
	delta.Strings(func(at document.Place, _ string) {
		p := it.piece(ev, nameAt(delta, at))
		switch now, changed := c.changes[p.String()]; {
		case !changed:
			send = true
		case p.told:
			at.SetText("")
		default:
			at.SetText(now)
			p.told, send = true, true
		}
	})
	return send
}

// itemDone is an item that is complete and has not waited.
func (s *responseStream) itemDone(ctx context.Context, ev responseEvent) (*guardbook.Decision, error) {
	root, v := ev.doc.Root(), ev.doc.Root().Get("item")
	it := s.itemAt(root.Get("output_index").Int(-1))
	if it == nil || it.done || it.kind != v.Get("type").Text() {
		return nil, &gateway.IncompleteError{Reason: "an item ended that had not begun"}
	}
	s.beside(root, "item")
	blocked, err := s.complete(ctx, it, v)
	if blocked != nil || err != nil {
		return blocked, err
	}
	s.send(ev)
	return nil, nil
}

// complete decides on what is left to decide of an item that is told as a whole.
func (s *responseStream) complete(ctx context.Context, it *outItem, v document.Value) (*guardbook.Decision, error) {
	switch it.kind {
	case "message":
		content := v.Get("content")
		at := 0
		for p := content.First(); p.Exists(); p = p.Next() {
			if blocked, err := s.endPart(ctx, it, at, p); blocked != nil || err != nil {
				return blocked, err
			}
			at++
		}
		for _, p := range it.parts { // told in pieces, and not here
			if blocked, err := s.closeText(ctx, it, p); blocked != nil || err != nil {
				return blocked, err
			}
		}
		for m := v.First(); m.Exists(); m = m.Next() {
			if m != content || m.Kind() != '[' {
				s.extra.Note(m)
			}
		}
	default:
		if blocked, err := s.decideOn(ctx, it, v); blocked != nil || err != nil {
			return blocked, err
		}
	}
	it.done, it.came, it.final = true, v.Raw(), v.Edited()
	it.pieces, it.texts = nil, nil
	return nil, nil
}

// decideOn decides on reasoning, or on what the provider ran itself.
func (s *responseStream) decideOn(ctx context.Context, it *outItem, v document.Value) (*guardbook.Decision, error) {
	var items []*gateway.Item
	if it.kind == "reasoning" {
		items = append(items, reasoning(v))
	} else {
		items = foreign(v)
	}
	if missing, _ := it.missing(v); len(missing) > 0 {
		own := gateway.NewItem(guardbook.KindOutput, "")
		if it.kind == "reasoning" {
			own = items[0]
		} else {
			items = append(items, own)
		}
		for _, text := range missing {
			own.Add(document.Place{}, text)
		}
		own.Redact = func(guardbook.Decision) {}
	}
	it.pieces, it.texts = nil, nil
	return s.decide(ctx, items...)
}

// decide decides on items that have something in them. A block ends the stream.
func (s *responseStream) decide(ctx context.Context, items ...*gateway.Item) (*guardbook.Decision, error) {
	var full []*gateway.Item
	for _, it := range items {
		if !it.Empty() {
			full = append(full, it)
		}
	}
	if len(full) == 0 {
		return nil, nil
	}
	d, err := s.call.Decide(ctx, full...)
	if d == nil || err != nil {
		return nil, err
	}
	return s.block(ctx, *d), nil
}

// finish is the event that ends the answer, with all of it once more.
func (s *responseStream) finish(ctx context.Context, ev responseEvent) (done bool, blocked *guardbook.Decision, err error) {
	response := ev.doc.Root().Get("response")
	s.beside(ev.doc.Root(), "response")
	if response.Kind() != '{' {
		s.noteNew(response)
	}
	output := response.Get("output")
	told := map[*outItem]document.Value{}
	var strange []document.Value // items that were not streamed
	at := 0
	for v := output.First(); v.Exists(); v = v.Next() {
		if it := s.match(v, at); it != nil {
			told[it] = v
		} else {
			strange = append(strange, v)
		}
		at++
	}
	for s.waits != nil {
		it := s.waits
		if v, ok := told[it]; ok {
			blocked, err = s.release(ctx, it, v)
		} else {
			s.waits, it.done, it.events = nil, true, nil // never complete, never released
			s.drop(it)
		}
		if blocked == nil && err == nil {
			blocked, err = s.goOn(ctx)
		}
		if blocked != nil || err != nil {
			return false, blocked, err
		}
	}
	if response.Kind() == '{' {
		s.response = response.Raw()
	}
	for _, it := range s.items {
		v, ok := told[it]
		switch {
		case it.done:
		case ok:
			blocked, err = s.complete(ctx, it, v)
		default:
			blocked, err = s.abandonItem(ctx, it)
		}
		if blocked != nil || err != nil {
			return false, blocked, err
		}
	}
	if blocked, err = s.whole(ctx, response, strange); blocked != nil || err != nil {
		return false, blocked, err
	}
	for it, v := range told {
		if v.Raw() != it.came || it.final != it.came {
			v.SetRaw(it.final)
		}
	}
	s.ended = true
	s.debts.put(response, s.owed)
	s.send(ev)
	if ev.kind == "response.failed" {
		return false, nil, gateway.ErrReported
	}
	return true, nil, nil
}

// match finds the item that an element of the whole output is.
func (s *responseStream) match(v document.Value, at int) *outItem {
	id := v.Get("id").Text()
	for _, it := range s.items {
		if id != "" && it.id == id || id == "" && it.index == at {
			return it
		}
	}
	return nil
}

func (s *responseStream) drop(it *outItem) {
	for i := range s.items {
		if s.items[i] == it {
			s.items = append(s.items[:i:i], s.items[i+1:]...)
			return
		}
	}
}

// whole decides on what the end of the answer tells for the first time.
func (s *responseStream) whole(ctx context.Context, response document.Value, strange []document.Value) (*guardbook.Decision, error) {
	a := &responseAnswer{root: response, extra: gateway.NewItem(guardbook.KindOutput, "")}
	for _, v := range strange {
		a.item(v)
	}
	for m := response.First(); m.Exists(); m = m.Next() {
		if m.Name() != "output" || m.Kind() != '[' {
			s.noteNew(m)
		}
	}
	a.items = append(a.items, s.loose.so())
	s.loose = outItem{}
	for _, it := range append(a.items, a.extra) {
		if it.In.Kind != guardbook.KindToolCall {
			it.Block = nil
		}
	}
	if blocked, err := s.decide(ctx, append(a.items, a.extra)...); blocked != nil || err != nil {
		return blocked, err
	}
	a.settle()
	s.owed += a.owed
	blocked, err := s.extra.Decide(ctx, s.call)
	if blocked != nil {
		return s.block(ctx, *blocked), nil
	}
	return nil, err
}
