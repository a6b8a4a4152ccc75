// Package respond acts on what the guard decided: containments (the kill switch)
// and alerts. The state of both is a fold of the book's entries: it is rebuilt at
// start, and everything that changes it is an entry with who, when and why.
package respond

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
)

// Recorder is the part of the book that this package writes to. An error means
// that the entries are not known to be written. Both methods honour ctx.
type Recorder interface {
	// Append returns once the entries are durable in the book's mode.
	Append(ctx context.Context, drafts ...guardbook.Draft) error
	// AppendDurable returns once the entries are synced to the disk, whatever the mode.
	AppendDurable(ctx context.Context, drafts ...guardbook.Draft) error
}

// What kind of error it is, for errors.Is; the API maps them to a status.
var (
	ErrInvalid     = errors.New("invalid")      // the request itself is wrong: 400
	ErrNotFound    = errors.New("not found")    // there is no such containment or alert: 404
	ErrConflict    = errors.New("conflict")     // the state does not allow it: 409
	ErrNotRecorded = errors.New("not recorded") // the book could not be written: 503
)

// problem is an error whose text is a whole sentence and that has a kind.
type problem struct {
	kind error
	text string
	err  error // the cause, if there is one
}

func (p *problem) Error() string { return p.text }

func (p *problem) Unwrap() []error {
	if p.err == nil {
		return []error{p.kind}
	}
	return []error{p.kind, p.err}
}

// newID returns a UUIDv7 (RFC 9562), the form of every entry's id.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// stamp writes a time as entries do.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(guardbook.TimeLayout)
}

// unstamp reads a time of an entry; a missing or unreadable one is zero.
func unstamp(s string) time.Time {
	t, err := time.Parse(guardbook.TimeLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
