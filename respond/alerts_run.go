package respond

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guardbook/guardbook"
)

// Follower is the part of the book that is read.
type Follower interface {
	Size() int64
	Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error
}

// mostSteps is how many alert entries go into one append.
const mostSteps = 256

// Run follows the book from a sequence number on and does what the alerts need:
// it writes their entries and delivers notices, until ctx ends or the book cannot
// be read; it returns that error. What is in the book when Run is called was there
// before this run: it is only folded, and acted on when all of it is known.
func (a *Alerts) Run(ctx context.Context, book Follower, from int64) error {
	old := book.Size()
	g, ctx := errgroup.WithContext(ctx)
	caughtUp := make(chan struct{})
	if from >= old {
		close(caughtUp)
	}
	g.Go(func() error {
		next := from
		return book.Follow(ctx, from, func(entries []guardbook.Entry) error {
			for _, e := range entries {
				if err := a.Apply(e); err != nil { // one bad entry does not stop alerts
					a.log.Error("an entry could not be read for alerts", "seq", e.Seq, "error", err)
				}
			}
			before := next
			next += int64(len(entries))
			if before < old && next >= old {
				close(caughtUp)
			}
			a.wakeUp()
			return nil
		})
	})
	g.Go(func() error {
		select {
		case <-caughtUp:
		case <-ctx.Done():
			return ctx.Err()
		}
		a.mu.Lock()
		a.caughtUp = true
		a.mu.Unlock()
		return a.act(ctx, g)
	})
	return g.Wait()
}

// act does what is due, again and again. Attempts at delivery run in goroutines
// of g, one for each.
func (a *Alerts) act(ctx context.Context, g *errgroup.Group) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.wake:
		case <-timer.C:
		}
		due := a.due(time.Now())
		for _, f := range due.flights {
			g.Go(func() error {
				a.fly(ctx, f)
				return nil
			})
		}
		if len(due.drafts) > 0 {
			a.write(ctx, due.drafts)
			due.wait = 0 // what is due next may have changed
		}
		timer.Reset(due.wait)
	}
}

// due is what must be done now, and how long it takes until there may be more.
type due struct {
	drafts  []guardbook.Draft
	flights []flight
	wait    time.Duration
}

func (a *Alerts) due(now time.Time) due {
	const longest = time.Minute
	a.mu.Lock()
	defer a.mu.Unlock()
	out := due{wait: longest}
	at := func(t time.Time) bool { // t is over; else wake up then
		if t.After(now) {
			out.wait = min(out.wait, t.Sub(now))
			return false
		}
		return true
	}
	for id, x := range a.work {
		idle := true
		if reason, when := x.stepDue(a.o.RepeatEvery); reason != "" {
			idle = false
			if x.writing == "" && len(out.drafts) < mostSteps && at(later2(when, a.holdUntil)) {
				d := x.step(reason)
				x.writing = d.ID
				out.drafts = append(out.drafts, d)
			}
		}
		if x.noticeDue() {
			idle = false
			if x.delivering == "" && a.flying[x.Receiver] < maxFlying && at(later2(x.nextAttempt, x.notBefore)) {
				f := a.flight(x)
				x.delivering = f.last
				a.flying[x.Receiver]++
				out.flights = append(out.flights, f)
			}
		}
		if idle {
			delete(a.work, id)
		}
	}
	return out
}

// later2 is the later of two moments.
func later2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// stepDue says which entry an alert must get, and when; "": none.
func (x *alert) stepDue(every time.Duration) (op string, when time.Time) {
	switch {
	case !x.recorded:
		return opOpened, time.Time{}
	case x.State == StateClosed:
		return "", time.Time{} // the close has the last count
	case x.Severity > x.recordedSeverity:
		return opRepeated, time.Time{}
	case x.Count > x.recordedCount:
		return opRepeated, x.lastStep.Add(every)
	}
	return "", time.Time{}
}

// step is the entry that says how an alert stands.
func (x *alert) step(op string) guardbook.Draft {
	b := guardbook.AlertEntry{
		Op: op, Alert: x.ID, Key: x.Key, Agent: x.Agent, Session: x.Session, Rule: x.Rule, Class: x.Class,
		Severity: x.Severity, Title: x.Title, Receiver: x.Receiver, Event: x.Event, Count: x.Count,
	}
	if op == opOpened {
		b.Event, b.Reopens = x.ID, x.Reopens
	}
	return guardbook.Draft{ID: newID(), Type: guardbook.TypeAlert, Tenant: x.Tenant, Body: b}
}

// write appends steps. When the book fails, it is not known whether they are in
// it: they are not tried again before they could have been read back.
func (a *Alerts) write(ctx context.Context, drafts []guardbook.Draft) {
	const least, most = time.Second, 30 * time.Second
	err := a.rec.Append(ctx, drafts...)
	if err == nil {
		a.mu.Lock()
		a.hold = 0
		a.mu.Unlock()
		return
	}
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold = min(max(2*a.hold, least), most)
	a.holdUntil = time.Now().Add(a.hold)
	for _, d := range drafts {
		if x := a.alerts[d.Body.(guardbook.AlertEntry).Alert]; x != nil && x.writing == d.ID {
			x.writing = ""
		}
	}
	a.log.Error("alert entries could not be written to the book; trying again", "entries", len(drafts), "in", a.hold, "error", err)
}
