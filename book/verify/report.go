package verify

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// Exit codes of a verification.
const (
	ExitIntact     = 0 // intact, complete, pinned and anchored up to the last signed record
	ExitFailed     = 1 // something is not as it was signed
	ExitCannot     = 2 // the verification could not run
	ExitIncomplete = 3 // intact, but with gaps, not anchored, or signed by a key that nobody vouched for
)

// maxListed bounds the problems that a report lists; it counts them all.
const maxListed = 100

// Report is what a verification found.
type Report struct {
	Result   string         `json:"result"` // intact | incomplete | failed
	Exit     int            `json:"exit"`
	Book     string         `json:"book"` // what was verified
	Pinned   bool           `json:"pinned"`
	Anchors  AnchorReport   `json:"anchors"`
	Logs     []*LogReport   `json:"logs"`
	Counts   map[string]int `json:"problem_counts"` // by kind, all of them
	Problems []Problem      `json:"problems"`       // the first ones, in the order in which they were met
	Gaps     []Gap          `json:"gaps"`           // why an intact book is incomplete
	Notices  []string       `json:"notices"`
}

// AnchorReport is how far the book is fixed by checkpoints that were kept out of
// the operator's reach.
type AnchorReport struct {
	Given      int   `json:"given"`
	Valid      int   `json:"valid"`              // signed by the key, and the tree of that size has its root
	Size       int64 `json:"anchored_size"`      // of the largest valid one
	Unanchored int64 `json:"unanchored_entries"` // signed records after the last valid anchor of their log
}

// LogReport is what was found in one log.
type LogReport struct {
	Epoch           int    `json:"epoch"`
	Origin          string `json:"origin"`
	Key             string `json:"key,omitzero"`         // verifier key that the checkpoints were checked with
	Fingerprint     string `json:"fingerprint,omitzero"` // of that key
	Records         int64  `json:"records"`
	First           string `json:"first,omitzero"` // time of recording of the first and last record
	Last            string `json:"last,omitzero"`
	Altered         int64  `json:"altered"`
	Missing         int64  `json:"missing"`
	Reordered       int64  `json:"reordered"`
	Inserted        int64  `json:"inserted"`
	Checkpoints     int64  `json:"checkpoints"`
	CheckpointsGood int64  `json:"checkpoints_valid"`
	Signed          int64  `json:"signed"`   // size that the newest valid checkpoint signs
	Unsigned        int64  `json:"unsigned"` // records after it
	Anchored        int64  `json:"anchored"` // size that the largest valid anchor fixes
	Tiles           int64  `json:"tiles"`    // hash tiles and bundles compared
	TilesGood       int64  `json:"tiles_equal"`
	Starts          int64  `json:"starts"`
	Unclean         int64  `json:"unclean_starts"` // without a stop before
	Heartbeats      int64  `json:"heartbeats"`
	MaxGap          string `json:"max_heartbeat_gap,omitzero"`
	Regressions     int64  `json:"time_regressions"`
}

// Problem is one thing that is not as it was signed.
type Problem struct {
	Kind     string `json:"kind"` // altered, missing, reordered, inserted, format, header, stored_hash, tile, bundle, checkpoint, time, start, epoch, key, file, empty, anchor
	Log      string `json:"log,omitzero"`
	Seq      *int64 `json:"seq,omitzero"`
	File     string `json:"file,omitzero"`
	Offset   *int64 `json:"offset,omitzero"` // byte in File; absent where File has rows
	Message  string `json:"message"`
	Expected string `json:"expected,omitzero"`
	Actual   string `json:"actual,omitzero"`
}

// Gap is one reason why a book that is intact isn't complete.
type Gap struct {
	Kind    string `json:"kind"` // heartbeat, lost, unsigned, unpinned, unanchored, empty
	Log     string `json:"log,omitzero"`
	From    string `json:"from,omitzero"`
	To      string `json:"to,omitzero"`
	Message string `json:"message"`
}

func (r *Report) problem(p Problem) {
	r.Counts[p.Kind]++
	if len(r.Problems) < maxListed {
		r.Problems = append(r.Problems, p)
	}
}

func (r *Report) gap(g Gap) {
	if len(r.Gaps) < maxListed {
		r.Gaps = append(r.Gaps, g)
	}
}

func (r *Report) total() (n int) {
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// conclude sets result and exit code.
func (r *Report) conclude() {
	switch {
	case r.total() > 0:
		r.Result, r.Exit = "failed", ExitFailed
	case len(r.Gaps) > 0:
		r.Result, r.Exit = "incomplete", ExitIncomplete
	default:
		r.Result, r.Exit = "intact", ExitIntact
	}
}

// WriteText writes the report for people. Nothing that stands in a record can
// move a terminal's cursor.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", head, printable(fmt.Sprintf(format, args...)))
	}
	line("Book", "%s   %s", r.Book, plural(len(r.Logs), "log"))
	for _, l := range r.Logs {
		if l.Records == 0 {
			line("Log", "%s   no records", l.Origin)
		} else {
			line("Log", "%s   found %s..%s", l.Origin, l.First, l.Last)
		}
		contiguous := "contiguous"
		if l.Missing+l.Reordered+l.Inserted > 0 {
			contiguous = "NOT contiguous"
		}
		places := ""
		if l.Records > 0 {
			places = fmt.Sprintf(" seq 0..%s", thousands(l.Records+l.Missing-1))
		}
		line("", "%s records%s %s; %s altered, %s missing, %s reordered, %s inserted",
			thousands(l.Records), places, contiguous, thousands(l.Altered), thousands(l.Missing), thousands(l.Reordered), thousands(l.Inserted))
		line("", "%s/%s checkpoints valid; signed up to size %s, %s records after it are NOT signed yet",
			thousands(l.CheckpointsGood), thousands(l.Checkpoints), thousands(l.Signed), thousands(l.Unsigned))
		line("", "%s/%s tiles and bundles equal", thousands(l.TilesGood), thousands(l.Tiles))
		if l.Key == "" {
			line("Key", "none")
		} else {
			pin := "UNPINNED: it lies beside the log; give --trust"
			if r.Pinned {
				pin = "PINNED via --trust"
			}
			line("Key", "%s", l.Key)
			line("", "%s (%s)", l.Fingerprint, pin)
		}
		gap := "no heartbeats"
		if l.MaxGap != "" {
			gap = "max heartbeat gap " + l.MaxGap
		}
		line("Time", "%s regressions; %s starts, %s of them without a stop before; %s heartbeats, %s",
			thousands(l.Regressions), thousands(l.Starts), thousands(l.Unclean), thousands(l.Heartbeats), gap)
	}
	if a := r.Anchors; a.Given == 0 {
		line("Anchors", "none: the book is signed, and nothing outside the operator's reach fixes it; who holds the key could have rewritten all of it. A checkpoint that was kept elsewhere rules that out up to its size; give it with --anchor")
	} else {
		line("Anchors", "%d/%d checkpoints given with --anchor fit the book; anchored size %s, %s records after it are signed but NOT anchored",
			a.Valid, a.Given, thousands(a.Size), thousands(a.Unanchored))
	}
	for _, n := range r.Notices {
		line("Notice", "%s", n)
	}
	for _, g := range r.Gaps {
		line("GAP", "%s", strings.TrimSpace(g.Log+"  "+g.Message))
	}
	for _, p := range r.Problems {
		line("PROBLEM", "%s", p.String())
	}
	if n := r.total() - len(r.Problems); n > 0 {
		line("", "and %s more", thousands(int64(n)))
	}
	const meaning = "This says the records are unchanged; it does not say controls were effective."
	switch r.Exit {
	case ExitIntact:
		line("RESULT", "INTACT (exit 0). %s", meaning)
	case ExitIncomplete:
		line("RESULT", "INTACT, INCOMPLETE (exit 3): %s. %s", r.gapSummary(), meaning)
	default:
		line("RESULT", "FAILED (exit %d): %s. The records are not the ones that were signed.", r.Exit, plural(r.total(), "problem"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) gapSummary() string {
	counts := map[string]int{}
	var kinds []string
	for _, g := range r.Gaps {
		if counts[g.Kind]++; counts[g.Kind] == 1 {
			kinds = append(kinds, g.Kind)
		}
	}
	var parts []string
	for _, k := range kinds {
		switch k {
		case "heartbeat":
			parts = append(parts, plural(counts[k], "heartbeat gap"))
		case "lost":
			parts = append(parts, plural(counts[k], "epoch")+" began because entries were missing")
		case "unanchored":
			if r.Anchors.Unanchored > 0 {
				k = thousands(r.Anchors.Unanchored) + " " + k
			}
			parts = append(parts, k)
		default:
			parts = append(parts, k)
		}
	}
	return strings.Join(parts, ", ")
}

// String is the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Kind)
	if p.Seq != nil {
		fmt.Fprintf(&b, " seq %d", *p.Seq)
	}
	if p.File != "" {
		fmt.Fprintf(&b, " %s", p.File)
		switch {
		case p.Offset != nil:
			fmt.Fprintf(&b, " offset %d", *p.Offset)
		case p.Seq != nil:
			fmt.Fprintf(&b, " row %d", *p.Seq)
		}
	}
	b.WriteString(": " + p.Message)
	if p.Expected != "" || p.Actual != "" {
		fmt.Fprintf(&b, "; expected %s, actual %s", p.Expected, p.Actual)
	}
	return b.String()
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return thousands(int64(n)) + " " + word + "s"
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) && !unicode.Is(unicode.Bidi_Control, r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func span(from, to time.Time) string {
	return fmt.Sprintf("%s (%s..%s)", to.Sub(from).Round(time.Second), from.Format(time.RFC3339), to.Format(time.RFC3339))
}
