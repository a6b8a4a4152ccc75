package respond

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook"
)

// recordTimeout is how long a kill waits for the book. Until then everything that
// the kill covers waits, too: nothing is released and nothing is refused.
const recordTimeout = 2 * time.Second

const maxReason = 4096 // bytes

// Containment is a block on an agent, a session, a tool or a tenant.
type Containment struct {
	ID          string    `json:"containment"` // id of the kill entry that began it
	Entry       string    `json:"entry"`       // id of the entry of the step that returned this: kill, lift
	Scope       string    `json:"scope"`
	By          string    `json:"by"`
	Reason      string    `json:"reason"`
	EffectiveAt time.Time `json:"effective_at"`   // nothing covered was released after it
	Until       time.Time `json:"until,omitzero"` // zero: until it is lifted
	Refused     int64     `json:"refused"`        // attempts refused so far
	Cut         int64     `json:"cut"`            // running streams cut so far
	Recorded    bool      `json:"recorded"`       // its entry is known to be in the book
}

// ContainedError is the cause of a context from Containments.Watch.
type ContainedError struct{ Containment }

func (e *ContainedError) Error() string { return e.Scope + " is contained" }

// Containments is the kill switch. Check, Refused and Cut are for the guard and
// never wait for a lock; Kill and Lift are for operators.
//
// Order of a kill: (1) it goes into the snapshot that Check reads, so that what it
// covers waits; (2) its entry is made durable; (3) what waited is refused and
// running streams are cut. So nothing is released after effective_at, and every
// refusal stands in the book behind the kill that it names. When the book cannot
// be written, (3) happens all the same, and the entry is tried again until it is
// written: safety does not wait for the record.
type Containments struct {
	rec Recorder
	log *slog.Logger

	current atomic.Pointer[snapshot] // nil: nothing is contained

	// steps admits one lift, expiry or repeated kill at a time; it is held while
	// the book is written. steps is taken before mu.
	steps sync.Mutex

	mu       sync.Mutex // guards what follows, and changes of current
	watchers map[*watcher]struct{}
	ended    map[string]struct{} // containments that were lifted or expired
	unsaved  []guardbook.Draft   // kill entries that the book has not taken yet
	running  bool                // Run was called: attempts are counted as they happen

	wake chan struct{}
}

// snapshot is what is contained; it is never changed, only replaced.
type snapshot struct{ byScope map[Scope]*containment }

type containment struct {
	Containment
	scope  Scope
	counts *counts
	ready  chan struct{} // closed when the kill is in force
}

type counts struct{ refused, cut atomic.Int64 }

type watcher struct {
	in     guardbook.Interaction
	cancel context.CancelCauseFunc
}

// NewContainments returns an empty set of containments. Give it the book's entries
// with Apply, then call Run.
func NewContainments(rec Recorder, log *slog.Logger) *Containments {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Containments{
		rec:      rec,
		log:      log,
		watchers: map[*watcher]struct{}{},
		ended:    map[string]struct{}{},
		wake:     make(chan struct{}, 1),
	}
}

// Check reports the containment that covers an interaction, the widest first.
// While the entry of a kill is being written (milliseconds; at most 2 s), Check
// waits for it if the kill covers the interaction.
func (c *Containments) Check(in *guardbook.Interaction) (Containment, bool) {
	s := c.current.Load()
	if s == nil {
		return Containment{}, false
	}
	k := s.covering(in)
	if k == nil {
		return Containment{}, false
	}
	<-k.ready
	return k.view(), true
}

func (s *snapshot) covering(in *guardbook.Interaction) *containment {
	if k := s.byScope[Scope{ScopeTenant, tenantOf(in)}]; k != nil {
		return k
	}
	if k := s.byScope[Scope{ScopeAgent, in.Agent}]; k != nil {
		return k
	}
	if k := s.byScope[Scope{ScopeSession, in.Session}]; k != nil {
		return k
	}
	if in.Kind == guardbook.KindToolCall && in.Tool != nil {
		return s.byScope[Scope{ScopeTool, in.Tool.Name}]
	}
	return nil
}

// view is the containment with its counts as of now.
func (k *containment) view() Containment {
	v := k.Containment
	v.Refused, v.Cut = k.counts.refused.Load(), k.counts.cut.Load()
	return v
}

// Refused counts one attempt that a containment stopped.
func (c *Containments) Refused(id string) {
	if k := c.byID(id); k != nil {
		k.counts.refused.Add(1)
	}
}

// Cut counts one running stream that a containment ended.
func (c *Containments) Cut(id string) {
	if k := c.byID(id); k != nil {
		k.counts.cut.Add(1)
	}
}

func (c *Containments) byID(id string) *containment {
	if s := c.current.Load(); s != nil {
		for _, k := range s.byScope {
			if k.ID == id {
				return k
			}
		}
	}
	return nil
}

// Watch returns a context that ends with a *ContainedError as its cause when a
// kill of its agent, session or tenant covers the interaction: a running stream
// is cut by it. The function that comes with it must be called.
func (c *Containments) Watch(ctx context.Context, in *guardbook.Interaction) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watcher{
		// No kind: a contained tool does not cut a stream.
		in:     guardbook.Interaction{Tenant: in.Tenant, Agent: in.Agent, Session: in.Session},
		cancel: cancel,
	}
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	c.mu.Unlock()
	if k, ok := c.Check(&w.in); ok {
		cancel(&ContainedError{k})
	}
	return ctx, func() {
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
		cancel(context.Canceled)
	}
}

// cut ends the watched streams that a containment covers.
func (c *Containments) cut(k *containment) {
	one := &snapshot{map[Scope]*containment{k.scope: k}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		if one.covering(&w.in) != nil {
			w.cancel(&ContainedError{k.view()})
		}
	}
}

// List returns what is contained, the oldest first.
func (c *Containments) List() []Containment {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []Containment{}
	if s := c.current.Load(); s != nil {
		for _, k := range s.byScope {
			out = append(out, k.view())
		}
	}
	slices.SortFunc(out, func(a, b Containment) int {
		if n := a.EffectiveAt.Compare(b.EffectiveAt); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// get returns the containment of a scope; c.mu is held.
func (c *Containments) get(s Scope) *containment {
	if cur := c.current.Load(); cur != nil {
		return cur.byScope[s]
	}
	return nil
}

// put adds or replaces the containment of a scope; c.mu is held.
func (c *Containments) put(k *containment) {
	next := &snapshot{byScope: map[Scope]*containment{}}
	if cur := c.current.Load(); cur != nil {
		maps.Copy(next.byScope, cur.byScope)
	}
	next.byScope[k.scope] = k
	c.current.Store(next)
}

// remove ends a containment; c.mu is held.
func (c *Containments) remove(k *containment) {
	c.ended[k.ID] = struct{}{}
	cur := c.current.Load()
	if cur == nil || cur.byScope[k.scope] == nil || cur.byScope[k.scope].ID != k.ID {
		return
	}
	if len(cur.byScope) == 1 {
		c.current.Store(nil)
		return
	}
	next := &snapshot{byScope: maps.Clone(cur.byScope)}
	delete(next.byScope, k.scope)
	c.current.Store(next)
}

// nothingTo explains that a scope is not contained, and what is.
func (c *Containments) nothingTo(s Scope) error {
	const most = 20
	var names []string
	for _, k := range c.List() {
		names = append(names, k.Scope)
	}
	text := "nothing is"
	if n := len(names); n > most {
		text = fmt.Sprintf("contained are %s and %d more", strings.Join(names[:most], ", "), n-most)
	} else if n > 0 {
		text = "contained are " + strings.Join(names, ", ")
	}
	return &problem{kind: ErrNotFound, text: fmt.Sprintf("%s is not contained; %s", s, text)}
}
