package respond

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// appliedWithin is how long an operator's step waits to be read back.
const appliedWithin = 5 * time.Second

// Ack claims an alert: by owns it from now on. An alert that somebody else owns
// changes hands; one that by has acknowledged already is ErrConflict.
func (a *Alerts) Ack(ctx context.Context, id, by, comment string) (Alert, error) {
	return a.operate(ctx, id, by, func(x *Alert) (guardbook.AlertEntry, error) {
		if x.State == StateAcknowledged && x.Owner == by {
			return guardbook.AlertEntry{}, &problem{kind: ErrConflict, text: fmt.Sprintf("alert %s: %s has acknowledged it already", x.ID, by)}
		}
		return guardbook.AlertEntry{Op: opAcknowledged, Owner: by, Comment: comment}, nil
	})
}

// Assign gives an alert to an owner. It does not acknowledge it: that is for the
// owner to do.
func (a *Alerts) Assign(ctx context.Context, id, by, owner string) (Alert, error) {
	owner = strings.TrimSpace(owner)
	return a.operate(ctx, id, by, func(x *Alert) (guardbook.AlertEntry, error) {
		switch owner {
		case "":
			return guardbook.AlertEntry{}, &problem{kind: ErrInvalid, text: "assign: the owner is missing"}
		case x.Owner:
			return guardbook.AlertEntry{}, &problem{kind: ErrConflict, text: fmt.Sprintf("alert %s: %s owns it already", x.ID, owner)}
		}
		return guardbook.AlertEntry{Op: opAssigned, Owner: owner}, nil
	})
}

// Close ends an alert with one of Dispositions and a comment.
func (a *Alerts) Close(ctx context.Context, id, by, disposition, comment string) (Alert, error) {
	comment = strings.TrimSpace(comment)
	return a.operate(ctx, id, by, func(x *Alert) (guardbook.AlertEntry, error) {
		switch {
		case !slices.Contains(Dispositions, disposition):
			return guardbook.AlertEntry{}, &problem{kind: ErrInvalid, text: fmt.Sprintf("close: disposition %.80q is not known: use one of %s", disposition, strings.Join(Dispositions, ", "))}
		case comment == "":
			return guardbook.AlertEntry{}, &problem{kind: ErrInvalid, text: "close: a comment is required: say what was found and done"}
		}
		return guardbook.AlertEntry{Op: opClosed, Disposition: disposition, Comment: comment, Count: x.Count}, nil
	})
}

// operate checks a step against the state, writes its entry and waits until it is
// read back, which is when it takes effect.
func (a *Alerts) operate(ctx context.Context, id, by string, step func(*Alert) (guardbook.AlertEntry, error)) (Alert, error) {
	if by = strings.TrimSpace(by); by == "" {
		return Alert{}, &problem{kind: ErrInvalid, text: "alert: who does it is missing"}
	}
	a.operating.Lock()
	defer a.operating.Unlock()
	draft, applied, err := a.prepare(id, by, step)
	if err != nil {
		return Alert{}, err
	}
	defer a.readBack(draft.ID)
	if err := a.rec.Append(ctx, draft); err != nil {
		return Alert{}, &problem{kind: ErrNotRecorded, err: err, text: fmt.Sprintf("alert %s: the step could not be written to the book (%v)", id, err)}
	}
	timeout := time.NewTimer(appliedWithin)
	defer timeout.Stop()
	select {
	case <-applied:
		return a.Get(id)
	case <-ctx.Done():
		return Alert{}, ctx.Err()
	case <-timeout.C:
		return Alert{}, fmt.Errorf("alert %s: the step is in the book, but it has not taken effect within %v: look again in a moment", id, appliedWithin)
	}
}

func (a *Alerts) prepare(id, by string, step func(*Alert) (guardbook.AlertEntry, error)) (guardbook.Draft, <-chan struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.alerts[id]
	switch {
	case !a.caughtUp:
		return guardbook.Draft{}, nil, &problem{kind: ErrConflict, text: "the alerts are still being read from the book: try again in a moment"}
	case x == nil:
		return guardbook.Draft{}, nil, unknownAlert(id)
	case x.State == StateClosed:
		return guardbook.Draft{}, nil, &problem{kind: ErrConflict, text: fmt.Sprintf("alert %s is closed", id)}
	case !x.recorded:
		return guardbook.Draft{}, nil, &problem{kind: ErrConflict, text: fmt.Sprintf("alert %s is not yet in the book: try again in a moment", id)}
	}
	body, err := step(&x.Alert)
	if err != nil {
		return guardbook.Draft{}, nil, err
	}
	if len(body.Comment) > maxReason {
		return guardbook.Draft{}, nil, &problem{kind: ErrInvalid, text: fmt.Sprintf("the comment has %d bytes, at most %d are allowed", len(body.Comment), maxReason)}
	}
	body.Alert, body.Key, body.By = x.ID, x.Key, by
	body.Agent, body.Session, body.Rule, body.Class, body.Severity = x.Agent, x.Session, x.Rule, x.Class, x.Severity
	draft := guardbook.Draft{ID: newID(), Type: guardbook.TypeAlert, Tenant: x.Tenant, Body: body}
	applied := make(chan struct{})
	a.waiting[draft.ID] = applied
	return draft, applied, nil
}
