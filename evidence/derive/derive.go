// Package derive makes every listing of an evidence package out of the entries
// of the book: populations, registers, exceptions, coverage, metrics and
// walkthroughs. It is a function: the same entries and the same Params give the
// same bytes. The package writer uses it to build, and the offline verifier uses
// it to build once more and compare, so it reads no clock, no network and no
// database.
//
// The entries are read twice. The first pass folds them into state per agent,
// alert, containment and session; the second writes rows. No state is kept per
// decision, so that millions of them fit.
package derive

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/guardbook/guardbook"
)

// RowsPerFile is how many rows a population's CSV file holds unless Params says
// otherwise: what a spreadsheet program can open, less the header.
const RowsPerFile = 1_048_575

// MaxProofs bounds the inclusion proofs that a package carries unless Params
// says otherwise. A proof that is left out can be computed from the log in the
// package.
const MaxProofs = 10_000

// Params is everything beside the entries that the listings depend on. It is
// kept in the package's scope.json.
type Params struct {
	Organisation string    `json:"organisation"`
	Environment  string    `json:"environment"`
	From         time.Time `json:"from"` // the window is [From, To), by the time an entry says it occurred
	To           time.Time `json:"to"`
	Key          string    `json:"key"` // verifier key that signs checkpoints and manifest
	Tool         Tool      `json:"tool"`
	RowsPerFile  int       `json:"rows_per_file"`
	MaxProofs    int       `json:"max_proofs"`
	// Unsealed is how many entries the book held beyond the last checkpoint when
	// the package was built; they are not in the package.
	Unsealed int64 `json:"unsealed_entries"`
	// Archive holds the archive's own count of the window's entries by type, if an
	// archive was asked; nil if none was.
	Archive map[string]int64 `json:"archive_counts,omitempty"`
}

// Tool names the build of the program that made the listings.
type Tool struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Dirty   bool   `json:"dirty"`
}

// Log is one epoch of the book, up to a checkpoint.
type Log struct {
	Epoch  int
	Origin string
	Size   int64
	// Checkpoints are the signed notes of sizes up to Size, oldest first.
	Checkpoints [][]byte
	// Entries calls fn with the raw bytes of entries 0 to Size-1 in order. The
	// bytes are fn's only until it returns.
	Entries func(ctx context.Context, fn func(raw []byte) error) error
}

// Input is what Run reads.
type Input struct {
	Params Params
	Logs   []Log // oldest first
	// Text returns a policy file by the hex of its SHA-256. A text that is not
	// there is an error and becomes an exception.
	Text func(sha256 string) ([]byte, error)
}

// Sink takes the files of a package.
type Sink interface {
	Create(name string) (io.WriteCloser, error)
}

// Facts is what Run found out and what does not stand in a listing.
type Facts struct {
	Logs        []LogFacts
	Populations []Population
	Found       struct{ First, Last string } // recorded times of the first and the last entry
	Texts       []string                     // hex SHA-256 of every policy file that was live in the window
	Missing     []string                     // those of Texts that could not be read
	Proofs      []Ref                        // entries that get an inclusion proof
	ProofsLeft  int64                        // further ones beyond Params.MaxProofs
	TieOuts     []TieOut
	Checks      []*Check
	Agents      []string
	Instances   []string
	Restarts    int
	MaxGap      Gap
	Counts      map[string]int64 // entries of the window by type
	Decisions   map[string]int64 // decisions of the window by action
	// Late counts entries of the window that were recorded at or after its end.
	Late int64
}

// Run writes every listing to out.
func Run(ctx context.Context, in Input, out Sink) (*Facts, error) {
	if !in.Params.From.Before(in.Params.To) {
		return nil, fmt.Errorf("evidence window: %s is not before %s", in.Params.From.Format(time.RFC3339), in.Params.To.Format(time.RFC3339))
	}
	if in.Params.RowsPerFile <= 0 {
		in.Params.RowsPerFile = RowsPerFile
	}
	if in.Params.MaxProofs <= 0 {
		in.Params.MaxProofs = MaxProofs
	}
	s := newState(in)
	for i := range in.Logs {
		if err := s.fold(ctx, &in.Logs[i]); err != nil {
			return nil, fmt.Errorf("read log %s: %w", in.Logs[i].Origin, err)
		}
	}
	s.settle()
	w := newWriter(s, out)
	for i := range in.Logs {
		if err := w.write(ctx, &in.Logs[i]); err != nil {
			return nil, fmt.Errorf("write populations of log %s: %w", in.Logs[i].Origin, err)
		}
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	return s.facts, nil
}

// Ref points at an entry.
type Ref struct {
	Epoch int
	Seq   int64
	ID    string
}

func (r Ref) String() string { return fmt.Sprintf("%d/%d %s", r.Epoch, r.Seq, r.ID) }

// ProofName is the file of the entry's inclusion proof in a package.
func (r Ref) ProofName() string {
	return fmt.Sprintf("integrity/proofs/%d-%d.tlog-proof", r.Epoch, r.Seq)
}

// Population describes one population for its ipe.json.
type Population struct {
	ID       string   // CC7.2
	Title    string   //
	Query    string   // what selects a row, in words that name entry members
	Files    []string // CSV files in order
	JSONL    string
	Rows     int64
	Raw      int64 // lines of the JSONL file
	Counted  int64 // rows by the first pass, which does not write
	First    RowRef
	Last     RowRef
	Days     []DayCount
	Excluded []Exclusion
	Late     int64
	Limits   []string
}

// RowRef names a row's entry.
type RowRef struct {
	ID  string `json:"id"`
	Seq int64  `json:"seq"`
	TS  string `json:"ts"`
}

// DayCount is the number of rows of one UTC day.
type DayCount struct {
	Day  string `json:"day"`
	Rows int64  `json:"rows"`
}

// Exclusion says what a population leaves out.
type Exclusion struct {
	Rule   string `json:"rule"`
	Count  int64  `json:"count"`
	Reason string `json:"reason"`
}

// TieOut compares two independent counts of the same thing.
type TieOut struct {
	Population string `json:"-"` // empty: belongs to all
	Name       string `json:"name"`
	PathA      string `json:"path_a"`
	CountA     int64  `json:"count_a"`
	PathB      string `json:"path_b"`
	CountB     int64  `json:"count_b"`
	Delta      int64  `json:"delta"`
	Note       string `json:"note,omitzero"`
	// Tolerated says that a difference has a harmless cause named in Note.
	Tolerated bool `json:"tolerated"`
}

func tie(population, name, pathA string, a int64, pathB string, b int64) TieOut {
	return TieOut{Population: population, Name: name, PathA: pathA, CountA: a, PathB: pathB, CountB: b, Delta: a - b}
}

// Gap is an interval without a sign of life.
type Gap struct {
	Instance   string
	Start, End time.Time
	Cause      string
	Open       bool
}

// Duration is the gap's length.
func (g Gap) Duration() time.Duration { return g.End.Sub(g.Start) }

// stamp writes a time as entries do.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(guardbook.TimeLayout)
}

// when reads a time of an entry; a time that cannot be read is zero.
func when(s string) time.Time {
	t, err := time.Parse(guardbook.TimeLayout, s)
	if err != nil {
		t, err = time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return time.Time{}
		}
	}
	return t.UTC()
}
