package clients

import (
	"context"

	"github.com/guardbook/guardbook"
)

// Event is one thing that a client tells afterwards.
type Event struct {
	ID    string // the client's own id of it, for what is told twice
	Draft guardbook.Draft
}

// Record writes what a client tells into the book, each event once however often it
// is told. The error is the recorder's: nothing of the call is known to be written.
func (c *Clients) Record(ctx context.Context, agent, tenant, id string, events []Event) (accepted, duplicate int, err error) {
	var drafts []guardbook.Draft
	var fresh []string
	c.mu.Lock()
	cl := c.client(agent, tenant, id, c.now())
	for _, e := range events {
		if cl.told[e.ID] {
			duplicate++
			continue
		}
		cl.tell(e.ID)
		fresh, drafts = append(fresh, e.ID), append(drafts, e.Draft)
	}
	c.mu.Unlock()
	if len(drafts) == 0 {
		return 0, duplicate, nil
	}
	if err := c.rec.Append(ctx, drafts...); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range fresh {
			delete(cl.told, f)
		}
		return 0, duplicate, err
	}
	return len(drafts), duplicate, nil
}

// tell remembers that an event was told.
func (cl *client) tell(id string) {
	if len(cl.told) >= maxTold {
		clear(cl.told)
	}
	cl.told[id] = true
}
