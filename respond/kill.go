package respond

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// The operations of a ContainmentEntry.
const (
	opKill   = "kill"
	opLift   = "lift"
	opExpire = "expire"
)

// byGuardbook is who did what no person did.
const byGuardbook = "guardbook"

// Kill contains a scope, for a duration (0: until it is lifted). When it returns,
// the kill is in force, whatever the error, unless the error is ErrInvalid.
// ErrNotRecorded says that its entry is not yet in the book; Run goes on trying.
//
// To kill what is contained already is no error: it is one more entry of the same
// containment. It can make the containment last longer, never shorter.
func (c *Containments) Kill(ctx context.Context, scope, by, reason string, d time.Duration) (Containment, error) {
	s, err := ParseScope(scope)
	if err != nil {
		return Containment{}, err
	}
	if by, reason, err = whoAndWhy("kill", by, reason); err != nil {
		return Containment{}, err
	}
	if d < 0 {
		return Containment{}, &problem{kind: ErrInvalid, text: fmt.Sprintf("kill %s: the duration %v is negative", s, d)}
	}
	// An operator who goes away in the middle does not stop a kill.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	for {
		if k, began := c.begin(s, by, reason, d); began {
			return c.inForce(ctx, k)
		}
		if k, again, err := c.killAgain(ctx, s, by, reason, d); again {
			return k, err
		} // it was lifted in between
	}
}

// begin puts a new containment into the snapshot, not yet in force.
func (c *Containments) begin(s Scope, by, reason string, d time.Duration) (*containment, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.get(s) != nil {
		return nil, false
	}
	id := newID()
	k := &containment{
		Containment: Containment{ID: id, Entry: id, Scope: s.String(), By: by, Reason: reason},
		scope:       s,
		counts:      &counts{},
		ready:       make(chan struct{}),
	}
	c.put(k)
	// Taken after the swap and rounded up to what an entry can say: nothing that
	// the kill covers passes Check after this moment.
	k.EffectiveAt = time.Now().UTC().Add(time.Microsecond - 1).Truncate(time.Microsecond)
	if d > 0 {
		k.Until = k.EffectiveAt.Add(d)
	}
	return k, true
}

// inForce makes the entry of a kill durable and then the kill effective; also when
// the book fails.
func (c *Containments) inForce(ctx context.Context, k *containment) (Containment, error) {
	draft := killDraft(k.ID, k.Containment)
	err := c.rec.AppendDurable(ctx, draft)
	c.mu.Lock()
	k.Recorded = k.Recorded || err == nil // Apply may have read it back already
	if !k.Recorded {
		c.unsaved = append(c.unsaved, draft)
	}
	c.mu.Unlock()
	close(k.ready)
	c.cut(k)
	c.wakeUp()
	if v := k.view(); !v.Recorded {
		return v, c.notYet(v, err)
	}
	c.log.Warn("contained", "scope", k.Scope, "by", k.By, "containment", k.ID)
	return k.view(), nil
}

// killAgain adds a kill entry to a containment that is in force; false: it is no
// longer there.
func (c *Containments) killAgain(ctx context.Context, s Scope, by, reason string, d time.Duration) (Containment, bool, error) {
	c.steps.Lock()
	defer c.steps.Unlock()
	c.mu.Lock()
	k := c.get(s)
	c.mu.Unlock()
	if k == nil {
		return Containment{}, false, nil
	}
	<-k.ready // so that the first kill is first in the book
	v := k.view()
	v.By, v.Reason, v.Entry = by, reason, newID()
	var until time.Time
	if d > 0 {
		until = time.Now().UTC().Add(d).Truncate(time.Microsecond)
	}
	v.Until = later(k.Until, until)
	draft := killDraft(v.Entry, v)
	draft.Time = time.Now()
	err := c.rec.AppendDurable(ctx, draft)
	c.mu.Lock()
	if err != nil {
		c.unsaved = append(c.unsaved, draft)
	}
	if k = c.get(s); k != nil {
		c.extend(k, v.Until)
	}
	c.mu.Unlock()
	c.wakeUp()
	if err != nil {
		v.Recorded = false
		return v, true, c.notYet(v, err)
	}
	return v, true, nil
}

// extend lets a containment last longer; c.mu is held.
func (c *Containments) extend(k *containment, until time.Time) {
	next := *k
	next.Until = later(k.Until, until)
	c.put(&next)
}

// later is the later of two ends; zero is never.
func later(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	if a.After(b) {
		return a
	}
	return b
}

func killDraft(id string, k Containment) guardbook.Draft {
	return guardbook.Draft{
		ID: id, Type: guardbook.TypeContainment, Time: k.EffectiveAt,
		Body: guardbook.ContainmentEntry{
			Op: opKill, Containment: k.ID, Scope: k.Scope, By: k.By, Reason: k.Reason,
			EffectiveAt: stamp(k.EffectiveAt), Until: stamp(k.Until),
		},
	}
}

func (c *Containments) notYet(k Containment, err error) error {
	c.log.Error("a kill is in force but not yet in the book", "scope", k.Scope, "by", k.By, "containment", k.ID, "error", err)
	return &problem{kind: ErrNotRecorded, err: err, text: fmt.Sprintf(
		"%s is contained since %s, but this is not yet in the book (%v); it is tried again until it is written", k.Scope, stamp(k.EffectiveAt), err)}
}

// Lift ends a containment. Its entry, with the counts, is durable before it is no
// longer in force; when the book cannot be written, the scope stays contained and
// the error is ErrNotRecorded.
func (c *Containments) Lift(ctx context.Context, scope, by, reason string) (Containment, error) {
	s, err := ParseScope(scope)
	if err != nil {
		return Containment{}, err
	}
	if by, reason, err = whoAndWhy("lift", by, reason); err != nil {
		return Containment{}, err
	}
	c.steps.Lock()
	defer c.steps.Unlock()
	c.mu.Lock()
	k := c.get(s)
	c.mu.Unlock()
	if k == nil {
		return Containment{}, c.nothingTo(s)
	}
	v, err := c.end(ctx, k, opLift, by, reason)
	if err != nil {
		return v, &problem{kind: ErrNotRecorded, err: err, text: fmt.Sprintf("%s stays contained: the lift could not be written to the book (%v)", s, err)}
	}
	c.log.Warn("containment lifted", "scope", k.Scope, "by", by, "containment", k.ID)
	return v, nil
}

// end writes the entry that ends a containment, then ends it; c.steps is held.
func (c *Containments) end(ctx context.Context, k *containment, op, by, reason string) (Containment, error) {
	<-k.ready
	now := time.Now().UTC()
	v := k.view()
	v.Entry = newID()
	draft := guardbook.Draft{
		ID: v.Entry, Type: guardbook.TypeContainment, Time: now,
		Body: guardbook.ContainmentEntry{
			Op: op, Containment: k.ID, Scope: k.Scope, By: by, Reason: reason,
			EffectiveAt: stamp(now), Refused: v.Refused, CutStreams: v.Cut,
		},
	}
	c.mu.Lock()
	drafts := append(c.unsavedOf(k.ID), draft) // a kill stands before its lift
	c.mu.Unlock()
	if err := c.rec.AppendDurable(ctx, drafts...); err != nil {
		return v, err
	}
	c.mu.Lock()
	for _, d := range drafts {
		c.saved(d.ID)
	}
	c.remove(k)
	c.mu.Unlock()
	c.wakeUp()
	v.Recorded = true
	return v, nil
}

// unsavedOf returns the drafts of one containment that the book has not taken;
// c.mu is held.
func (c *Containments) unsavedOf(id string) []guardbook.Draft {
	var out []guardbook.Draft
	for _, d := range c.unsaved {
		if d.Body.(guardbook.ContainmentEntry).Containment == id {
			out = append(out, d)
		}
	}
	return out
}

// saved forgets a draft that is in the book; c.mu is held.
func (c *Containments) saved(entry string) {
	c.unsaved = slices.DeleteFunc(c.unsaved, func(d guardbook.Draft) bool { return d.ID == entry })
}

// whoAndWhy checks what every operator's step must say.
func whoAndWhy(step, by, reason string) (string, string, error) {
	by, reason = strings.TrimSpace(by), strings.TrimSpace(reason)
	switch {
	case by == "":
		return "", "", &problem{kind: ErrInvalid, text: step + ": who does it is missing"}
	case reason == "":
		return "", "", &problem{kind: ErrInvalid, text: step + ": a reason is required; it is what the record is for"}
	case len(reason) > maxReason:
		return "", "", &problem{kind: ErrInvalid, text: fmt.Sprintf("%s: the reason has %d bytes, at most %d are allowed", step, len(reason), maxReason)}
	}
	return by, strings.ToValidUTF8(reason, "\uFFFD"), nil
}
