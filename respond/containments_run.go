package respond

import (
	"bytes"
	"context"
	"time"

	"github.com/guardbook/guardbook"
)

// Apply folds one entry of the book into the state. It takes entries in the order
// of the book, ignores those that are not about containment, and may be given an
// entry again, also one that this Containments wrote. Before Run it also counts
// refused attempts and cut streams; after that, Refused and Cut count them.
func (c *Containments) Apply(e guardbook.Entry) error {
	switch e.Type {
	case guardbook.TypeContainment:
		b, err := guardbook.Body[guardbook.ContainmentEntry](e)
		if err != nil {
			return err
		}
		return c.applyStep(e, b)
	case guardbook.TypeDecision, guardbook.TypeStream:
		if bytes.Contains(e.Raw, []byte(`"containment":`)) {
			return c.applyCount(e)
		}
	}
	return nil
}

func (c *Containments) applyStep(e guardbook.Entry, b guardbook.ContainmentEntry) error {
	s, err := ParseScope(b.Scope)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.saved(e.ID)
	if _, over := c.ended[b.Containment]; over {
		c.mu.Unlock()
		return nil
	}
	k := c.get(s)
	if b.Op != opKill {
		if k != nil && k.ID == b.Containment {
			c.remove(k)
		} else {
			c.ended[b.Containment] = struct{}{}
		}
		c.mu.Unlock()
		c.wakeUp()
		return nil
	}
	if k != nil && k.ID == b.Containment {
		select {
		case <-k.ready:
			next := *k
			next.Recorded, next.Until = true, later(k.Until, unstamp(b.Until))
			c.put(&next)
		default: // our own kill, still on its way: inForce does the rest
			k.Recorded = true
		}
		c.mu.Unlock()
		c.wakeUp()
		return nil
	}
	k = &containment{
		Containment: Containment{
			ID: b.Containment, Entry: e.ID, Scope: b.Scope, By: b.By, Reason: b.Reason,
			EffectiveAt: unstamp(b.EffectiveAt), Until: unstamp(b.Until), Recorded: true,
		},
		scope:  s,
		counts: &counts{},
		ready:  make(chan struct{}),
	}
	close(k.ready)
	c.put(k)
	c.mu.Unlock()
	c.cut(k)
	c.wakeUp()
	return nil
}

// applyCount counts what a containment did before this start.
func (c *Containments) applyCount(e guardbook.Entry) error {
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	if running {
		return nil
	}
	if e.Type == guardbook.TypeDecision {
		b, err := guardbook.Body[struct {
			Containment string `json:"containment"`
		}](e)
		if err != nil {
			return err
		}
		c.Refused(b.Containment)
		return nil
	}
	b, err := guardbook.Body[guardbook.StreamEntry](e)
	if err != nil {
		return err
	}
	if b.Phase == "close" {
		c.Cut(b.Containment)
	}
	return nil
}

func (c *Containments) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run ends containments whose time is over and writes the kill entries that the
// book did not take, until ctx ends; it returns ctx's error. A containment whose
// end cannot be written stays in force until it can.
func (c *Containments) Run(ctx context.Context) error {
	const least, most = 250 * time.Millisecond, 10 * time.Second
	c.mu.Lock()
	c.running = true
	c.mu.Unlock()
	wait := least
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		case <-timer.C:
		}
		next := most
		if c.save(ctx) && c.expire(ctx) {
			wait = least
		} else if ctx.Err() == nil {
			next, wait = wait, min(2*wait, most)
		}
		if until := c.nextEnd(); !until.IsZero() && wait == least {
			next = min(next, max(time.Until(until), 0))
		}
		timer.Reset(next)
	}
}

// save writes the kill entries that are not in the book; true: all are.
func (c *Containments) save(ctx context.Context) bool {
	c.steps.Lock()
	defer c.steps.Unlock()
	c.mu.Lock()
	drafts := append([]guardbook.Draft(nil), c.unsaved...)
	c.mu.Unlock()
	for _, d := range drafts {
		if err := c.rec.AppendDurable(ctx, d); err != nil {
			return false
		}
		b := d.Body.(guardbook.ContainmentEntry)
		c.mu.Lock()
		c.saved(d.ID)
		if k := c.byID(b.Containment); k != nil {
			next := *k
			next.Recorded = true
			c.put(&next)
		}
		c.mu.Unlock()
		c.log.Info("a kill that was in force is now in the book", "scope", b.Scope, "containment", b.Containment)
	}
	return true
}

// expire ends what has reached its end; true: all of it.
func (c *Containments) expire(ctx context.Context) bool {
	c.steps.Lock()
	defer c.steps.Unlock()
	done := true
	now := time.Now()
	for _, v := range c.List() {
		if v.Until.IsZero() || v.Until.After(now) {
			continue
		}
		if k := c.byID(v.ID); k != nil {
			if _, err := c.end(ctx, k, opExpire, byGuardbook, "its time was over"); err != nil {
				c.log.Error("a containment stays in force: its end could not be written to the book", "scope", k.Scope, "error", err)
				done = false
			} else {
				c.log.Warn("containment expired", "scope", k.Scope, "containment", k.ID)
			}
		}
	}
	return done
}

// nextEnd is when the next containment's time is over; zero: none has an end.
func (c *Containments) nextEnd() time.Time {
	var next time.Time
	for _, v := range c.List() {
		if !v.Until.IsZero() && (next.IsZero() || v.Until.Before(next)) {
			next = v.Until
		}
	}
	return next
}
