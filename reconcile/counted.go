package reconcile

import (
	"net/http"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// Counted is what the book knows of a provider's model calls, by day or hour. It is
// a fold of the book's start, heartbeat, stop and passthrough entries.
type Counted struct {
	provider string
	hourly   bool
	from, to time.Time

	calls, tokens           map[Key]int64
	edgeCalls, edgeTokens   map[Key]int64 // counted between two heartbeats that lie in two buckets
	unread                  map[time.Time]int64
	crashes                 map[time.Time]int64
	boots                   map[string]*boot
	last                    map[string]string // boot by instance
	heartbeats, lostHistory int
}

// boot is one run of an instance.
type boot struct {
	at    time.Time // of its last heartbeat
	base  map[callKey]counts
	ended bool
}

type callKey struct{ path, model string }

type counts struct{ calls, tokens int64 }

// NewCounted begins to count a provider's calls in [from, to).
func NewCounted(provider string, hourly bool, from, to time.Time) *Counted {
	return &Counted{provider: provider, hourly: hourly, from: from, to: to,
		calls: map[Key]int64{}, tokens: map[Key]int64{}, edgeCalls: map[Key]int64{}, edgeTokens: map[Key]int64{},
		unread: map[time.Time]int64{}, crashes: map[time.Time]int64{}, boots: map[string]*boot{}, last: map[string]string{}}
}

// Before is how long before the window the entries must begin that Add is given, so
// that the counters at its beginning are known.
const Before = 5 * time.Minute

// After is how long after the window they must go on: calls of its last seconds are
// told by the heartbeat that follows.
const After = time.Minute

// Types lists the types of entry that Add wants.
var Types = []guardbook.EntryType{guardbook.TypeStart, guardbook.TypeHeartbeat, guardbook.TypeStop, guardbook.TypePassthrough}

// Add folds one entry in; entries come in the order of the book.
func (c *Counted) Add(e guardbook.Entry) error {
	at, err := time.Parse(guardbook.TimeLayout, e.TS)
	if err != nil {
		return err
	}
	switch e.Type {
	case guardbook.TypeStart:
		b, err := guardbook.Body[guardbook.StartEntry](e)
		if err != nil {
			return err
		}
		if old := c.boots[c.last[e.Instance]]; old != nil && !old.ended && !b.Clean {
			c.crashes[c.bucket(old.at)]++
		}
		c.boots[b.Boot] = &boot{at: at, base: map[callKey]counts{}}
		c.last[e.Instance] = b.Boot
	case guardbook.TypeStop:
		b, err := guardbook.Body[guardbook.StopEntry](e)
		if err != nil {
			return err
		}
		if x := c.boots[b.Boot]; x != nil {
			x.ended = true
		}
	case guardbook.TypeHeartbeat:
		b, err := guardbook.Body[guardbook.HeartbeatEntry](e)
		if err != nil {
			return err
		}
		c.heartbeat(at, e.Instance, &b)
	case guardbook.TypePassthrough:
		b, err := guardbook.Body[guardbook.PassthroughEntry](e)
		if err == nil && b.Method == http.MethodPost && c.ours(b.Path) && c.inside(at) {
			c.unread[c.bucket(at)]++
		}
		return err
	}
	return nil
}

// heartbeat counts what a run has counted since its last one.
func (c *Counted) heartbeat(at time.Time, instance string, b *guardbook.HeartbeatEntry) {
	c.heartbeats++
	x := c.boots[b.Boot]
	if x == nil { // it began before what was read: what it had counted by then is of another time
		x = &boot{at: at, base: map[callKey]counts{}}
		c.boots[b.Boot], c.last[instance] = x, b.Boot
		if b.Uptime > 2*b.Interval {
			c.lostHistory++
			x.take(b)
			return
		}
	}
	before := x.at
	for _, m := range b.Calls {
		k := callKey{m.Path, m.Model}
		was := x.base[k]
		if !c.ours(m.Path) {
			continue
		}
		c.add(before, at, m.Model, counts{m.Calls - was.calls, m.OutputTokens - was.tokens})
	}
	x.at = at
	x.take(b)
}

func (x *boot) take(b *guardbook.HeartbeatEntry) {
	for _, m := range b.Calls {
		x.base[callKey{m.Path, m.Model}] = counts{m.Calls, m.OutputTokens}
	}
}

// add counts calls that were made between two moments: in the bucket of the later
// one. When they lie in two buckets, it is not known in which; both then have an edge.
func (c *Counted) add(from, to time.Time, model string, n counts) {
	if n.calls <= 0 && n.tokens <= 0 {
		return
	}
	early, late := c.bucket(from), c.bucket(to)
	if c.inside(to) {
		c.calls[Key{late, model}] += n.calls
		c.tokens[Key{late, model}] += n.tokens
	}
	if early.Equal(late) {
		return
	}
	for _, bucket := range []time.Time{early, late} {
		for _, name := range []string{model, ""} { // "": all models
			c.edgeCalls[Key{bucket, name}] += n.calls
			c.edgeTokens[Key{bucket, name}] += n.tokens
		}
	}
}

func (c *Counted) counts(m Measure) map[Key]int64 {
	if m == OutputTokens {
		return c.tokens
	}
	return c.calls
}

func (c *Counted) edges(m Measure) map[Key]int64 {
	if m == OutputTokens {
		return c.edgeTokens
	}
	return c.edgeCalls
}

// Heartbeats is how many heartbeats were read: without any, nothing can be compared.
func (c *Counted) Heartbeats() int { return c.heartbeats }

// ours reports whether an entry path is one of the provider's API.
func (c *Counted) ours(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first == c.provider || c.provider == OpenAI && first == "azure"
}

func (c *Counted) inside(t time.Time) bool { return !t.Before(c.from) && t.Before(c.to) }

func (c *Counted) bucket(t time.Time) time.Time { return bucketOf(t, c.hourly) }

func bucketOf(t time.Time, hourly bool) time.Time {
	if hourly {
		return t.UTC().Truncate(time.Hour)
	}
	return t.UTC().Truncate(24 * time.Hour)
}
