package pattern

import (
	"cmp"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
)

// finish merges what overlaps, lets weak signals of one idea add up, and writes
// the findings out.
func (s *scan) finish() []guardbook.Finding {
	if len(s.found) == 0 {
		return nil
	}
	slices.SortStableFunc(s.found, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.rule.Class, b.rule.Class), cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
	})
	signals := s.signals()
	merged := s.found[:0:0]
	for _, m := range s.found {
		if n := len(merged); n > 0 {
			last := &merged[n-1]
			if last.path == m.path && last.rule.Class == m.rule.Class && m.start < last.end {
				*last = join(*last, m)
				continue
			}
		}
		merged = append(merged, m)
	}
	if len(merged) > s.e.opt.MaxFindings {
		slices.SortStableFunc(merged, func(a, b match) int { return cmp.Compare(b.confidence, a.confidence) })
		merged = merged[:s.e.opt.MaxFindings]
	}
	out := make([]guardbook.Finding, 0, len(merged))
	for _, m := range merged {
		out = append(out, guardbook.Finding{
			Class: m.rule.Class, Severity: m.rule.Severity, Confidence: max(m.confidence, signals[m.rule]), Rule: m.rule.ID, Layer: "L1",
			Span:    &guardbook.Span{Path: m.path, Start: m.start, End: m.end},
			Excerpt: excerpt(m), Message: firstSentence(m.rule.Meaning),
		})
	}
	return out
}

// join is one finding for two that overlap: the surer rule, or the more special
// one when both are as sure, over everything that either covers.
func join(a, b match) match {
	best := a
	if b.confidence > a.confidence || b.confidence == a.confidence && generic(a.rule) && !generic(b.rule) {
		best = b
	}
	best.start, best.end = min(a.start, b.start), max(a.end, b.end)
	return best
}

// generic reports whether a rule knows only the shape of what it finds.
func generic(r *Rule) bool { return strings.Contains(r.ID, "generic") }

// signals lets several rules of one idea that fired together raise the surest of
// them: each other counts for four fifths, as if they were
// independent.
func (s *scan) signals() map[*Rule]float64 {
	best := map[*Rule]float64{}
	for _, m := range s.found {
		if instructs(m.rule.Class) {
			best[m.rule] = max(best[m.rule], m.confidence)
		}
	}
	if len(best) < 2 {
		return nil
	}
	var top *Rule
	for r, c := range best {
		if top == nil || c > best[top] || c == best[top] && r.ID < top.ID {
			top = r
		}
	}
	doubt := 1 - best[top]
	for r, c := range best {
		if r != top {
			doubt *= 1 - 0.8*c
		}
	}
	return map[*Rule]float64{top: min(1-doubt, max(best[top], 0.97))}
}

// instructs reports whether a class is about text that tries to steer an agent.
func instructs(c guardbook.Class) bool {
	switch c {
	case guardbook.ClassPromptInjection, guardbook.ClassJailbreak, guardbook.ClassToolPoisoning, guardbook.ClassMemoryPoisoning:
		return true
	}
	return false
}

func firstSentence(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i+1]
	}
	return s
}
