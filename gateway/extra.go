package gateway

import (
	"context"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// maxSeen bounds what an Extra remembers; beyond it a string may be read twice,
// never skipped.
const maxSeen = 10000

// Extra gathers the strings of a streamed answer that belong to no text of it, to
// be decided on together: each once.
type Extra struct {
	seen map[string]bool
	item *Item
}

// Note keeps the strings of a value.
func (e *Extra) Note(v document.Value) {
	v.Strings(func(_ document.Place, text string) {
		if document.Plain(text) || e.seen[text] {
			return
		}
		if e.seen == nil || len(e.seen) >= maxSeen {
			e.seen = map[string]bool{}
		}
		e.seen[text] = true
		if e.item == nil {
			e.item = NewItem(guardbook.KindOutput, "")
		}
		e.item.Add(document.Place{}, text)
	})
}

// Decide decides on what was gathered since the last time; nothing gathered is
// nothing decided.
func (e *Extra) Decide(ctx context.Context, call *Call) (*guardbook.Decision, error) {
	if e.item == nil || e.item.Empty() {
		return nil, nil
	}
	it := e.item
	e.item = nil
	return call.Decide(ctx, it)
}
