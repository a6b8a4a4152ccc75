// Package archive is the queryable projection of the book. It holds nothing of
// its own: it can be dropped and rebuilt. The engines are in packages of their
// own (archive/sqlite) and pass one shared suite (archive/conformance).
package archive

import (
	"context"
	"errors"
	"time"

	"github.com/guardbook/guardbook"
)

var (
	// ErrNotFound says that no entry has the id that was asked for.
	ErrNotFound = errors.New("no such entry")
	// ErrCorrupt says that the engine's own storage is damaged. Reset mends it, at
	// the cost of reading the book anew.
	ErrCorrupt = errors.New("the archive is damaged")
)

// MaxLimit is the most entries that one Events call returns.
const MaxLimit = 10_000

// Archive stores entries and finds them again. It is safe for concurrent use;
// there is one writer at a time.
type Archive interface {
	// Cursor says which log was written last and the sequence number that comes
	// next in it. An empty archive returns "", 0.
	Cursor(ctx context.Context) (log string, next int64, err error)
	// Write stores entries of one log, in order, and moves the cursor behind the
	// last one, all in one transaction. Entries that are there already are left
	// alone, so a batch may be written twice.
	Write(ctx context.Context, entries []guardbook.Entry) error
	// Events returns the entries that match, in the order of the book (logs in the
	// order in which they were first written, then sequence).
	Events(ctx context.Context, q Query) ([]guardbook.Entry, error)
	// Event returns one entry by its id, or ErrNotFound.
	Event(ctx context.Context, id string) (guardbook.Entry, error)
	// Counts counts the entries that match by one of CountBy. Entries without the
	// property are left out; with ByClass an entry counts once for each class of
	// its findings. Limit and Desc are ignored.
	Counts(ctx context.Context, q Query, by By) (map[string]int64, error)
	// Reset drops every entry and the cursor. It also mends a damaged store.
	Reset(ctx context.Context) error
	Close() error
}

// Query says which entries are meant. The zero value means all of them; every
// field that is set narrows it.
type Query struct {
	Types   []guardbook.EntryType // any of these
	Tenant  string
	Agent   string
	Session string
	Tool    string // the tool's name
	Rule    string
	Class   guardbook.Class  // an entry with a finding of this class
	Action  guardbook.Action // the decision
	// MinSeverity keeps entries that have a severity, at this level or above.
	MinSeverity *guardbook.Severity
	// NoCanaries leaves out what the instance's own test interactions left: entries of
	// guardbook.CanaryTypes of the agent guardbook.CanaryAgent. It has no effect when
	// Agent names that agent.
	NoCanaries bool
	// Since (inclusive) and Until (exclusive) are about ts, when it occurred.
	Since, Until time.Time
	// After and Before keep entries behind and ahead of a sequence number of Log:
	// the key for paging. Logs that come later or earlier count as behind or ahead.
	After, Before *int64
	// Log is the log that After and Before count in; empty: the newest.
	Log string
	// Limit is the most entries to return; 0 or more than MaxLimit: MaxLimit.
	Limit int
	// Desc returns the newest first.
	Desc bool
}

// By is a property that entries are counted by.
type By string

// The properties that entries are counted by.
const (
	ByClass    By = "class"
	ByAgent    By = "agent"
	ByAction   By = "decision"
	BySeverity By = "severity" // keyed by the severity's name
	ByType     By = "type"
	ByTool     By = "tool"
	ByRule     By = "rule"
	ByKind     By = "kind"
	ByDay      By = "day" // of ts, UTC: "2026-01-31"
)

// CountBy lists every property that entries are counted by.
var CountBy = []By{ByClass, ByAgent, ByAction, BySeverity, ByType, ByTool, ByRule, ByKind, ByDay}
