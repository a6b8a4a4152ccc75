// Package clients keeps account of the SDKs that ask this server: each process
// numbers what it asks (1, 2, 3...), so a number that turns up neither as a decision
// nor as something told afterwards is a gap, and a gap is written into the book.
package clients

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
)

const (
	// patience is how long a number may be missing before it is a gap: answers of
	// threads overtake each other, and a spool is sent when the server is back.
	patience = time.Minute
	// maxClients bounds what is remembered; the client that was silent for longest is
	// forgotten first.
	maxClients = 10_000
	// maxRanges bounds how finely one client's numbers are remembered.
	maxRanges = 4096
	// maxTold bounds how many of a client's events are remembered as told; beyond it
	// one that is told twice may be written twice, never lost.
	maxTold = 65_536
)

// Recorder writes entries; an error means that they are not known to be written.
type Recorder interface {
	Append(ctx context.Context, drafts ...guardbook.Draft) error
}

// Book is the log that Run reads.
type Book interface {
	Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error
}

// Options are what Clients are made of. Log and Now may be nil.
type Options struct {
	Recorder Recorder
	Log      *slog.Logger
	Now      func() time.Time
}

// Clients is the account of all clients. It is a fold of the book, and safe for
// concurrent use.
type Clients struct {
	rec Recorder
	log *slog.Logger
	now func() time.Time

	mu sync.Mutex
	by map[string]*client
}

// client is one process of an SDK.
type client struct {
	id, agent, tenant string
	first, last       time.Time
	seen              Numbers
	told              map[string]bool // ids of the events that it told
	events            map[string]int64
	holes             map[span]time.Time // missing numbers, and since when
	reported          Numbers            // numbers that a gap entry names
}

// New returns an empty account.
func New(o Options) *Clients {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Clients{rec: o.Recorder, log: o.Log, now: o.Now, by: map[string]*client{}}
}

// numbered is what entries of several types have in common here.
type numbered struct {
	Agent     string `json:"agent"`
	Client    string `json:"client"`
	ClientSeq int64  `json:"client_seq"`
	Event     string `json:"event"`
	Told      string `json:"told"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
}

// Apply folds one entry in.
func (c *Clients) Apply(e guardbook.Entry) error {
	switch e.Type {
	case guardbook.TypeDecision, guardbook.TypeRefusal, guardbook.TypePassthrough, guardbook.TypeClient:
	default:
		return nil
	}
	if !bytes.Contains(e.Raw, []byte(`"client":`)) {
		return nil // most decisions are of callers that number nothing, and every decision passes here
	}
	b, err := guardbook.Body[numbered](e)
	if err != nil {
		return err
	}
	if b.Client == "" {
		return nil
	}
	at, err := time.Parse(guardbook.TimeLayout, e.Rec)
	if err != nil {
		return fmt.Errorf("%s entry %d: %w", e.Type, e.Seq, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.client(b.Agent, e.Tenant, b.Client, at)
	cl.last = at
	if e.Type == guardbook.TypeClient {
		cl.events[b.Event]++
		if b.Told != "" {
			cl.tell(b.Told)
		}
		if b.Event == "gap" {
			cl.reported.add(span{b.First, b.Last})
			return nil
		}
	}
	if b.ClientSeq > 0 {
		cl.seen.add(span{b.ClientSeq, b.ClientSeq})
	}
	return nil
}

// client returns the account of one process of an agent. c.mu is held.
func (c *Clients) client(agent, tenant, id string, at time.Time) *client {
	key := agent + "\x00" + id // an id is the caller's word: it means nothing beside another agent's
	cl := c.by[key]
	if cl == nil {
		if len(c.by) >= maxClients {
			c.forget()
		}
		cl = &client{id: id, agent: agent, tenant: tenant, first: at, last: at, told: map[string]bool{}, events: map[string]int64{}, holes: map[span]time.Time{}}
		c.by[key] = cl
	}
	return cl
}

func (c *Clients) forget() {
	var oldest string
	for key, cl := range c.by {
		if oldest == "" || cl.last.Before(c.by[oldest].last) {
			oldest = key
		}
	}
	delete(c.by, oldest)
}

// Run reads the book from its beginning and writes a gap entry for each run of
// numbers that is missing for longer than a minute.
func (c *Clients) Run(ctx context.Context, b Book) error {
	done := make(chan struct{})
	defer func() { <-done }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(done)
		tick := time.NewTicker(patience / 4)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := c.report(ctx); err != nil {
					c.log.Error("gaps in the numbers of clients could not be recorded", "error", err)
				}
			}
		}
	}()
	return b.Follow(ctx, 0, func(entries []guardbook.Entry) error {
		for _, e := range entries {
			if err := c.Apply(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// report writes the gaps that have lasted.
func (c *Clients) report(ctx context.Context) error {
	drafts := c.due()
	if len(drafts) == 0 {
		return nil
	}
	return c.rec.Append(ctx, drafts...)
}

// due looks for the gaps that have lasted and have no entry yet.
func (c *Clients) due() []guardbook.Draft {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var drafts []guardbook.Draft
	for _, cl := range c.by {
		missing := cl.seen.gaps()
		holes := map[span]time.Time{}
		for _, s := range missing {
			if cl.reported.covers(s) {
				continue
			}
			since, ok := cl.holes[s]
			if !ok {
				since = now
			}
			if now.Sub(since) < patience {
				holes[s] = since
				continue
			}
			cl.reported.add(s) // the entry comes back through Apply and says the same
			drafts = append(drafts, guardbook.Draft{Type: guardbook.TypeClient, Tenant: cl.tenant, Body: guardbook.ClientEntry{
				Agent: cl.agent, Client: cl.id, Event: "gap", First: s.first, Last: s.last, Count: s.last - s.first + 1,
				Reason: "these numbers reached the server neither as a question nor in a report",
			}})
		}
		cl.holes = holes
	}
	return drafts
}

// Client is the account of one process as the API shows it.
type Client struct {
	Client  string           `json:"client"`
	Agent   string           `json:"agent"`
	First   string           `json:"first_seen"`
	Last    string           `json:"last_seen"`
	Highest int64            `json:"highest"` // the highest number that was seen
	Seen    int64            `json:"seen"`    // how many numbers were seen
	Missing []Missing        `json:"missing"` // numbers below the highest that were not
	Events  map[string]int64 `json:"events"`  // what was told afterwards, by event
}

// Missing is a run of numbers that did not arrive.
type Missing struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// List returns every client, the one that was seen last first.
func (c *Clients) List() []Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Client, 0, len(c.by))
	for _, cl := range c.by {
		x := Client{
			Client: cl.id, Agent: cl.agent, First: cl.first.UTC().Format(guardbook.TimeLayout), Last: cl.last.UTC().Format(guardbook.TimeLayout),
			Highest: cl.seen.highest(), Seen: cl.seen.count(), Missing: []Missing{}, Events: map[string]int64{},
		}
		for _, s := range cl.seen.gaps() {
			x.Missing = append(x.Missing, Missing{s.first, s.last})
		}
		for k, v := range cl.events {
			x.Events[k] = v
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Client) int { return cmp.Or(cmp.Compare(b.Last, a.Last), cmp.Compare(a.Client, b.Client)) })
	return out
}
