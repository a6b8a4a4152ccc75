// Package guard decides. Containment, policy, limits and detectors come together
// in one function, Guard.Decide; every entry path calls it and none decides for
// itself. A decision is in the book before Decide returns it.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/respond"
)

// ErrNotDurable means that the book could not be written and that policy says
// to refuse what cannot be recorded. The decisions that come with it all block.
var ErrNotDurable = errors.New("the book cannot be written, and policy refuses what cannot be recorded")

// Recorder is the part of the book that the guard needs. Append returns once the
// entries are durable in the book's mode; an error means "not known to be written".
type Recorder interface {
	Append(ctx context.Context, drafts ...guardbook.Draft) error
}

// Contained is the cancellation cause of a context from Guard.Watch.
type Contained = respond.ContainedError

// Containments answers whether something is contained. Check is called on every
// interaction and must be fast.
type Containments interface {
	Check(in *guardbook.Interaction) (respond.Containment, bool)
	// Refused counts one attempt that the containment stopped.
	Refused(id string)
	// Cut counts one running stream that the containment ended.
	Cut(id string)
	// Watch returns a context that ends, with a *Contained as its cause, when a
	// kill covers the interaction.
	Watch(ctx context.Context, in *guardbook.Interaction) (context.Context, context.CancelFunc)
}

// Options are what a Guard is made of. All but Log, Now and the budgets are
// required.
type Options struct {
	Book         Recorder
	Bundle       func() *policy.Bundle // the bundle in force
	Containments Containments
	Detectors    []guardbook.Detector
	// CommitmentKey derives the salt of every commitment; see Commitment.
	CommitmentKey []byte
	// Budget is the time that one layer may take on a text; BudgetPerKiB is added
	// for each KiB of it. Defaults: 100 ms and 1 ms.
	Budget, BudgetPerKiB time.Duration
	// CacheEntries bounds the cache of findings. Default 65,536.
	CacheEntries int
	Log          *slog.Logger
	Now          func() time.Time
}

// Guard turns interactions into decisions. It is safe for concurrent use.
type Guard struct {
	o        Options
	cache    *cache
	limits   limits
	degraded degraded
	counters counters
}

// New returns a guard.
func New(o Options) *Guard {
	if o.Budget == 0 {
		o.Budget = 100 * time.Millisecond
	}
	if o.BudgetPerKiB == 0 {
		o.BudgetPerKiB = time.Millisecond
	}
	if o.CacheEntries == 0 {
		o.CacheEntries = 1 << 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Guard{o: o, cache: newCache(o.CacheEntries, o.Detectors)}
}

// Policy returns the policy in force for an agent; nil if there is none, in which
// case every decision on that agent blocks.
func (g *Guard) Policy(agent string) *policy.Policy { return policyOf(g.o.Bundle(), agent) }

// Bundle returns the hash of the bundle in force.
func (g *Guard) Bundle() string { return g.o.Bundle().Hash }

// Decide decides on each interaction, in order, and writes the decisions to the
// book as one group before it returns them. The error is nil or ErrNotDurable.
func (g *Guard) Decide(ctx context.Context, ins ...*guardbook.Interaction) ([]guardbook.Decision, error) {
	if len(ins) == 0 {
		return nil, nil
	}
	bundle := g.o.Bundle()
	judged := make([]judgement, len(ins))
	decisions := make([]guardbook.Decision, len(ins))
	drafts := make([]guardbook.Draft, len(ins))
	passage := g.counters.paths.arrive(ins)
	defer passage.end()
	var counted requestCount
	for i, in := range ins {
		judged[i] = g.judge(ctx, bundle, in, &counted)
		decisions[i] = judged[i].decision
		drafts[i] = judged[i].draft(g.o.CommitmentKey)
	}
	if err := g.Record(ctx, drafts...); err != nil {
		return g.unrecorded(judged, err)
	}
	passage.leave(decisions)
	for i := range judged {
		g.count(&judged[i])
	}
	return decisions, nil
}

// Record writes entries of an entry path (refusals, streams, passthroughs) to the
// book. The caller's cancellation does not stop it: what happened is written down
// even when the client has gone.
func (g *Guard) Record(ctx context.Context, drafts ...guardbook.Draft) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := g.o.Book.Append(ctx, drafts...); err != nil {
		g.counters.add("book_errors", 1)
		return err
	}
	g.recovered(ctx)
	return nil
}

// Watch returns a context that ends, with a *Contained as its cause, when a kill
// covers the interaction: a running stream is cut by it.
func (g *Guard) Watch(ctx context.Context, in *guardbook.Interaction) (context.Context, context.CancelFunc) {
	return g.o.Containments.Watch(ctx, in)
}

// Cut counts a running stream that a containment ended.
func (g *Guard) Cut(c *Contained) { g.o.Containments.Cut(c.ID) }

// unrecorded is the answer when the book cannot be written: each policy's
// on_error.book decides, and what was done is kept for the degraded entry.
func (g *Guard) unrecorded(judged []judgement, cause error) ([]guardbook.Decision, error) {
	now := g.o.Now()
	out := make([]guardbook.Decision, len(judged))
	var refused bool
	for i := range judged {
		j := &judged[i]
		out[i] = j.decision
		if j.policy != nil && j.policy.OnBookError() == guardbook.ActionAllow {
			g.degraded.add(now, cause, j.in.Kind, false)
			continue
		}
		g.degraded.add(now, cause, j.in.Kind, true)
		refused = true
		rule := "on_error/book"
		if j.policy != nil {
			rule = j.policy.Name + "/" + rule
		}
		out[i].Action, out[i].Would = guardbook.ActionBlock, ""
		out[i].Content, out[i].Arguments = nil, nil
		out[i].Rule, out[i].Severity = rule, guardbook.High
		out[i].Message = "Refused: the record of this action cannot be written, and policy refuses what cannot be recorded. Try again later."
	}
	if refused {
		return out, fmt.Errorf("%w: %w", ErrNotDurable, cause)
	}
	return out, nil
}

// recovered writes the degraded interval, if there was one, now that the book
// takes entries again.
func (g *Guard) recovered(ctx context.Context) {
	body, ok := g.degraded.take(g.o.Now())
	if !ok {
		return
	}
	g.o.Log.Warn("the book can be written again", "from", body.From, "to", body.To)
	if err := g.o.Book.Append(ctx, guardbook.Draft{Type: guardbook.TypeDegraded, Body: body}); err != nil {
		g.degraded.restore(body)
	}
}

// newEntryID returns a UUIDv7 (RFC 9562).
func newEntryID() string { return uuid.Must(uuid.NewV7()).String() }
