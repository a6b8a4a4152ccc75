package respond

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

const (
	// maxFlying is how many attempts may be under way to one receiver.
	maxFlying = 4
	// notifyWithin bounds one attempt, whatever the receiver does.
	notifyWithin = 30 * time.Second
	// maxRetryAfter bounds what a receiver may ask for.
	maxRetryAfter = 15 * time.Minute
)

// flight is one attempt to deliver a notice.
type flight struct {
	notice   Notice
	receiver Receiver // nil: none has that name
	tenant   string
	last     string // id of the last entry that it will write
}

// flight prepares the next attempt for an alert; a.mu is held.
func (a *Alerts) flight(x *alert) flight {
	n := Notice{
		ID:      x.ID + "." + x.recordedSeverity.String(),
		Attempt: x.attempts + 1,
		Reason:  ReasonOpened,
		Alert:   x.view(false),
	}
	n.Alert.Severity = x.recordedSeverity
	if x.settled {
		n.Reason = ReasonRaised
	}
	if a.o.Link != nil {
		n.Link = a.o.Link(x.ID)
	}
	return flight{notice: n, receiver: a.receivers[x.Receiver], tenant: x.Tenant, last: newID()}
}

// fly makes one attempt and writes down what came of it.
func (a *Alerts) fly(ctx context.Context, f flight) {
	drafts, retryAfter := a.attempt(ctx, f)
	if drafts != nil {
		a.land(ctx, f, drafts)
	}
	a.mu.Lock()
	if x := a.alerts[f.notice.Alert.ID]; x != nil {
		if drafts == nil && x.delivering == f.last {
			x.delivering = ""
		}
		if retryAfter > 0 {
			x.notBefore = time.Now().Add(min(retryAfter, maxRetryAfter))
		}
	}
	a.flying[f.notice.Alert.Receiver]--
	a.mu.Unlock()
	a.wakeUp()
}

// attempt tries once and returns the entries that say so; none when the program
// is stopping and the attempt came to nothing: the next run makes it.
func (a *Alerts) attempt(ctx context.Context, f flight) ([]guardbook.Draft, time.Duration) {
	n := &f.notice
	if f.receiver == nil {
		return []guardbook.Draft{f.settle(opUndelivered, fmt.Sprintf(
			"no receiver named %q is configured: add it to the configuration, or name another one in the policy's alerts", n.Alert.Receiver))}, 0
	}
	began := time.Now()
	d, err := notify(ctx, f.receiver, *n)
	if err != nil && ctx.Err() != nil {
		return nil, 0
	}
	b := guardbook.NotificationEntry{
		Alert: n.Alert.ID, Receiver: n.Alert.Receiver, Via: f.receiver.Via(), Attempt: n.Attempt,
		Outcome: outcomeDelivered, Status: d.Status, Micros: time.Since(began).Microseconds(), Message: d.Message,
	}
	one := guardbook.Draft{ID: newID(), Type: guardbook.TypeNotification, Tenant: f.tenant}
	if err == nil {
		one.Body = b
		return []guardbook.Draft{one, f.settle(opNotified, "")}, 0
	}
	b.Error = clip(err.Error(), 500)
	why := ""
	switch {
	case errors.Is(err, ErrPermanent):
		why = "the receiver refuses it: " + b.Error
	case n.Attempt >= a.o.Attempts:
		why = fmt.Sprintf("given up after %d attempts: %s", n.Attempt, b.Error)
	}
	if why != "" {
		b.Outcome = outcomeGaveUp
		one.Body = b
		a.log.Error("an alert was not delivered", "alert", n.Alert.ID, "receiver", n.Alert.Receiver, "error", why)
		return []guardbook.Draft{one, f.settle(opUndelivered, why)}, 0
	}
	b.Outcome = outcomeFailed
	one.ID, one.Body = f.last, b
	return []guardbook.Draft{one}, d.RetryAfter
}

// notify calls the receiver; a panic of it is an error like any other.
func notify(ctx context.Context, r Receiver, n Notice) (d Delivery, err error) {
	ctx, cancel := context.WithTimeout(ctx, notifyWithin)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the receiver panicked: %v", p)
		}
	}()
	return r.Notify(ctx, n)
}

// settle is the step that ends a notice.
func (f *flight) settle(op, comment string) guardbook.Draft {
	x := &f.notice.Alert
	return guardbook.Draft{ID: f.last, Type: guardbook.TypeAlert, Tenant: f.tenant, Body: guardbook.AlertEntry{
		Op: op, Alert: x.ID, Key: x.Key, Agent: x.Agent, Session: x.Session, Rule: x.Rule, Class: x.Class,
		Severity: x.Severity, Receiver: x.Receiver, Event: x.Facts.Event, Comment: comment,
	}}
}

// land writes the entries of an attempt. While the book fails it tries again: an
// attempt that was made is not made once more because it could not be recorded.
// A stopping program gets a last try.
func (a *Alerts) land(ctx context.Context, f flight, drafts []guardbook.Draft) {
	const most = 30 * time.Second
	for wait := time.Second; ; wait = min(2*wait, most) {
		last := ctx.Err() != nil
		err := a.append(ctx, drafts)
		if err == nil || last {
			return
		}
		a.log.Error("a notification entry could not be written to the book; trying again", "alert", f.notice.Alert.ID, "in", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		a.mu.Lock()
		x := a.alerts[f.notice.Alert.ID]
		over := x == nil || x.delivering != f.last // it was written after all
		a.mu.Unlock()
		if over {
			return
		}
	}
}

func (a *Alerts) append(ctx context.Context, drafts []guardbook.Draft) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return a.rec.Append(ctx, drafts...)
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
