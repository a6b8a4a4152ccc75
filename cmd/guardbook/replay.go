package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook"
)

func newReplay(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "replay SESSION",
		Short:   "Show what happened in a session, step by step",
		Example: "  guardbook replay s-17",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &replay{c: c}
			f := eventFilter{session: args[0]}
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if err := c.everyEvent(cmd.Context(), q, r.step); err != nil {
				return err
			}
			if r.steps == 0 {
				return refused{fmt.Errorf("nothing is in the book about a session %q; guardbook events shows the sessions that there are", args[0])}
			}
			return r.end()
		},
	}
}

// replay prints a session. Times are from its first entry.
type replay struct {
	c       *cli
	steps   int
	first   time.Time
	stopped int // decisions that stopped something
}

func (r *replay) step(e guardbook.Entry) error {
	r.steps++
	if r.c.json {
		return r.c.printRaw([]guardbook.Entry{e})
	}
	at, err := time.Parse(guardbook.TimeLayout, e.TS)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	if r.steps == 1 {
		r.first = at
		fmt.Fprintf(r.c.out, "begins %s\n", at.Format(time.RFC3339Nano))
	}
	f, err := guardbook.Body[eventFacts](e)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%+9.3fs  #%-6d %-12s %-34s %s", at.Sub(r.first).Seconds(), e.Seq, e.Type, printable(f.what(e.Type)), printable(f.Decision))
	lines := []string{strings.TrimRight(line, " ")}
	if e.Type == guardbook.TypeDecision {
		more, err := r.decision(e)
		if err != nil {
			return err
		}
		lines = append(lines, more...)
	}
	_, err = fmt.Fprintln(r.c.out, strings.Join(lines, "\n"))
	return err
}

// decision is what else a decision says; only what is worth a line.
func (r *replay) decision(e guardbook.Entry) ([]string, error) {
	d, err := guardbook.Body[guardbook.DecisionEntry](e)
	if err != nil {
		return nil, err
	}
	if !d.Decision.Releases() {
		r.stopped++
	}
	var out []string
	add := func(name, format string, args ...any) {
		out = append(out, fmt.Sprintf("%12s%-8s %s", "", name, printable(fmt.Sprintf(format, args...))))
	}
	if d.Decision != guardbook.ActionAllow || d.Would != "" {
		add("rule", "%s (%s)", d.Rule, d.Severity)
	}
	if d.Would != "" {
		add("would", "%s: the policy %s is in monitor mode", d.Would, d.Policy)
	}
	if d.Message != "" {
		add("says", "%s", d.Message)
	}
	for _, f := range d.Findings {
		where := ""
		if f.Span != nil {
			where = fmt.Sprintf(" at %s[%d:%d]", f.Span.Path, f.Span.Start, f.Span.End)
		}
		excerpt := ""
		if f.Excerpt != "" {
			excerpt = fmt.Sprintf(" %q", f.Excerpt)
		}
		add("finding", "%s, %s, %.2f, %s %s%s%s", f.Class, f.Severity, f.Confidence, f.Layer, f.Rule, where, excerpt)
	}
	if d.Truncated > 0 {
		add("finding", "and %d more that did not fit into the entry", d.Truncated)
	}
	for _, l := range d.Layers {
		if l.Error != "" {
			add("layer", "%s failed: %s", l.Name, l.Error)
		}
	}
	if d.FailOpen {
		add("layer", "the policy lets it pass all the same (on_error)")
	}
	took := make([]string, 0, len(d.Layers))
	for _, l := range d.Layers {
		took = append(took, fmt.Sprintf("%s %d", l.Name, l.Micros))
	}
	if d.Cached {
		took = append(took, "cached")
	}
	add("took", "%d µs (%s)", d.Micros, strings.Join(took, ", "))
	return out, nil
}

func (r *replay) end() error {
	if r.c.json {
		return nil
	}
	_, err := fmt.Fprintf(r.c.out, "%s, %s\n", howMany(int64(r.steps), "entry", "entries"), howMany(int64(r.stopped), "decision stopped something", "decisions stopped something"))
	return err
}
