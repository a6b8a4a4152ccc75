package canary

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// readAtOnce is how many entries are read at a time.
const readAtOnce = 500

// sight is what a test left in the book.
type sight struct {
	decisions   []string
	found       bool
	containment string
	failed      string // a layer's error, or the code of a refusal
}

// look finds a test's entries behind a place in the book: those of its session.
func (p *Player) look(ctx context.Context, from int64, session string, t Test) (sight, error) {
	until := time.Now().Add(settleFor)
	var s sight
	for {
		entries, err := p.o.Book.Read(ctx, from, readAtOnce)
		if err != nil {
			return s, err
		}
		for _, e := range entries {
			from = e.Seq + 1
			if bytes.Contains(e.Raw, []byte(session)) {
				if err := s.take(e, session, t); err != nil {
					return s, err
				}
			}
		}
		if len(entries) == readAtOnce {
			continue
		}
		if s.found || s.containment != "" || time.Now().After(until) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// take reads one entry that names the session.
func (s *sight) take(e guardbook.Entry, session string, t Test) error {
	switch e.Type {
	case guardbook.TypeDecision:
		d, err := guardbook.Body[guardbook.DecisionEntry](e)
		if err != nil || d.Session != session {
			return err
		}
		s.decisions = append(s.decisions, e.ID)
		if d.Containment != "" {
			s.containment = d.Containment
		}
		for _, l := range d.Layers {
			if l.Error != "" {
				s.failed = "layer " + l.Name + " failed"
			}
		}
		if d.Kind == t.Kind && d.Path == t.Path && d.Agent == guardbook.CanaryAgent &&
			slices.ContainsFunc(d.Findings, func(f guardbook.Finding) bool { return f.Rule == Rule }) {
			s.found = true
		}
	case guardbook.TypeStream:
		b, err := guardbook.Body[guardbook.StreamEntry](e)
		if err == nil && b.Session == session && b.Containment != "" {
			s.containment = b.Containment
		}
		return err
	case guardbook.TypeRefusal:
		b, err := guardbook.Body[guardbook.RefusalEntry](e)
		if err != nil || b.Session != session {
			return err
		}
		s.failed = "refused, " + b.Code
		if b.Code == "contained" {
			s.containment = between(b.Message, "(", ")")
		}
	}
	return nil
}

// between is what stands between two marks; "unknown" if they are not there.
func between(s, from, to string) string {
	_, rest, ok := strings.Cut(s, from)
	in, _, closed := strings.Cut(rest, to)
	if !ok || !closed || in == "" {
		return "unknown"
	}
	return in
}
