package verify

import (
	"fmt"
	"io"
	"strings"

	"github.com/guardbook/guardbook/evidence/derive"
)

// Exit codes.
const (
	ExitIntact     = 0 // intact, complete, pinned and anchored
	ExitBroken     = 1 // something was altered, is missing or does not fit
	ExitIncomplete = 3 // intact, but incomplete, unanchored or unpinned
)

// maxListed bounds how many problems of one kind a report names; all are counted.
const maxListed = 20

// Report is what verification found.
type Report struct {
	Package  string `json:"package"`
	Where    string `json:"where"`
	BuiltAt  string `json:"built_at"`
	BuiltBy  string `json:"built_by"`
	Tool     string `json:"tool"`
	From     string `json:"from"`
	To       string `json:"to"`
	Manifest struct {
		Listed    int    `json:"listed"`
		Match     int    `json:"match"`
		Altered   int    `json:"altered"`
		Missing   int    `json:"missing"`
		Unlisted  int    `json:"unlisted"`
		Signature string `json:"signature"` // ok | invalid | missing
		Key       string `json:"key"`       // name and fingerprint of the key that was used
		Pinned    bool   `json:"pinned"`
	} `json:"manifest"`
	Found struct {
		First string `json:"first"`
		Last  string `json:"last"`
	} `json:"found"`
	Logs        []Log `json:"logs"`
	Restarts    int   `json:"restarts"`
	Regressions int   `json:"clock_regressions"`
	MaxGap      struct {
		Seconds int64  `json:"seconds"`
		Start   string `json:"start,omitzero"`
		End     string `json:"end,omitzero"`
	} `json:"max_heartbeat_gap"`
	Gaps        int `json:"gaps"`
	Populations struct {
		Listings int `json:"listings"`
		Equal    int `json:"equal"`
	} `json:"listings"`
	Proofs struct {
		Checked int `json:"checked"`
		Valid   int `json:"valid"`
	} `json:"proofs"`
	Anchors struct {
		Given      int   `json:"given"`
		Valid      int   `json:"valid"`
		Size       int64 `json:"anchored_size"`
		Unanchored int64 `json:"unanchored_entries"`
	} `json:"anchors"`
	Exceptions   int              `json:"exceptions"`
	NotEvaluated int              `json:"checks_not_evaluated"`
	Problems     []Problem        `json:"problems"`
	Counts       map[string]int64 `json:"problems_by_code"`
	Incomplete   []string         `json:"incomplete"`
	Result       string           `json:"result"` // INTACT | INTACT, INCOMPLETE | NOT INTACT
	ExitCode     int              `json:"exit_code"`
}

// Log is one recomputed log.
type Log struct {
	Epoch            int    `json:"epoch"`
	Origin           string `json:"origin"`
	Entries          int64  `json:"entries"`
	Stated           int64  `json:"stated"` // by scope.json
	Checkpoints      int    `json:"checkpoints"`
	CheckpointsValid int    `json:"checkpoints_valid"`
	Altered          int64  `json:"altered"`
	Missing          int64  `json:"missing"`
	Misplaced        int64  `json:"reordered_or_inserted"`
}

// Problem is one thing that an intact package cannot have.
type Problem struct {
	Code     string `json:"code"`
	File     string `json:"file,omitzero"`
	Log      string `json:"log,omitzero"`
	Seq      int64  `json:"seq,omitzero"`
	Offset   int64  `json:"offset,omitzero"` // byte in the file
	Expected string `json:"expected,omitzero"`
	Got      string `json:"got,omitzero"`
	Message  string `json:"message"`
}

func (r *Report) problem(p Problem) {
	r.Counts[p.Code]++
	if r.Counts[p.Code] <= maxListed {
		r.Problems = append(r.Problems, p)
	}
}

func (r *Report) incomplete(format string, args ...any) {
	r.Incomplete = append(r.Incomplete, fmt.Sprintf(format, args...))
}

// conclude sets the result. It is about the records, never about controls.
func (r *Report) conclude() {
	switch {
	case len(r.Problems) > 0:
		r.Result, r.ExitCode = "NOT INTACT", ExitBroken
	case len(r.Incomplete) > 0:
		r.Result, r.ExitCode = "INTACT, INCOMPLETE", ExitIncomplete
	default:
		r.Result, r.ExitCode = "INTACT", ExitIntact
	}
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s%s\n", label, derive.Plain(fmt.Sprintf(format, args...)))
	}
	m := r.Manifest
	line("Package", "%s  %s .. %s  built %s by %s, %s", r.Package, r.From, r.To, r.BuiltAt, r.BuiltBy, r.Tool)
	pin := "UNPINNED: no --trust given; the key named in the package proves nothing"
	if m.Pinned {
		pin = "PINNED via --trust"
	}
	line("Manifest", "%d/%d files match, %d altered, %d missing, %d unlisted; signature %s key %s (%s)", m.Match, m.Listed, m.Altered, m.Missing, m.Unlisted, strings.ToUpper(m.Signature), m.Key, pin)
	line("Log", "requested %s .. %s   found %s .. %s", r.From, r.To, r.Found.First, r.Found.Last)
	for _, l := range r.Logs {
		line("", "%s: %d entries, %d stated; %d altered, %d missing, %d reordered or inserted", l.Origin, l.Entries, l.Stated, l.Altered, l.Missing, l.Misplaced)
		line("", "%d/%d checkpoints valid, roots recomputed from the raw entries", l.CheckpointsValid, l.Checkpoints)
	}
	gap := "no gap between signs of life"
	if r.Gaps > 0 {
		gap = fmt.Sprintf("%d gaps, the longest %d s (%s .. %s): see COV-01", r.Gaps, r.MaxGap.Seconds, r.MaxGap.Start, r.MaxGap.End)
	}
	line("Time", "%d clock regressions; %d restarts; %s", r.Regressions, r.Restarts, gap)
	if r.Anchors.Given == 0 {
		line("Anchors", "none: the log is signed, and nothing outside the operator's reach fixes it; who holds the key could have rewritten all of it before this package left the house")
	} else {
		line("Anchors", "%d/%d checkpoints given with --anchor fit the log; anchored size %d, %d entries after it are signed but NOT anchored", r.Anchors.Valid, r.Anchors.Given, r.Anchors.Size, r.Anchors.Unanchored)
	}
	line("Listings", "%d/%d made again from the raw entries, equal byte for byte", r.Populations.Equal, r.Populations.Listings)
	line("Proofs", "%d/%d inclusion proofs valid", r.Proofs.Valid, r.Proofs.Checked)
	line("Exceptions", "%d, and %d checks NOT_EVALUATED: see 00-summary/exceptions.csv", r.Exceptions, r.NotEvaluated)
	for _, p := range r.Problems {
		line("PROBLEM", "%s", p.text())
	}
	for _, code := range sortedKeys(r.Counts) {
		if n := r.Counts[code]; n > maxListed {
			line("PROBLEM", "%s: %d in all, %d shown", code, n, maxListed)
		}
	}
	for _, i := range r.Incomplete {
		line("INCOMPLETE", "%s", i)
	}
	line("RESULT", "%s (exit %d). This is about the records: whether they are unchanged and complete. It says nothing about controls.", r.Result, r.ExitCode)
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Problem) text() string {
	s := p.Code + ": " + p.Message
	if p.Log != "" {
		s += fmt.Sprintf(" [log %s, entry %d]", p.Log, p.Seq)
	}
	if p.Offset > 0 || p.Log != "" && p.File != "" {
		s += fmt.Sprintf(" [%s, byte %d]", p.File, p.Offset)
	}
	if p.Expected != "" || p.Got != "" {
		s += fmt.Sprintf(" expected %s, got %s", p.Expected, p.Got)
	}
	return s
}
