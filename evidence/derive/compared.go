package derive

import (
	"fmt"
	"strconv"
	"time"

	"github.com/guardbook/guardbook"
)

// compared is one comparison of the book with a provider's own count.
type compared struct {
	from, to                    time.Time
	provider, measure, text     string
	unexplained, book, provided int64
	ref                         Ref
}

// operator looks for comparisons among what operators did. One that was made after
// the window belongs to it when it is about it.
func (s *state) operator(x event, b guardbook.OperatorEntry) {
	if b.Op != "reconciled" {
		return
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(b.Detail[name], 10, 64) // not a number: none was told
		return n
	}
	c := compared{from: when(b.Detail["from"]), to: when(b.Detail["to"]), provider: b.Detail["provider"], measure: b.Detail["measure"],
		unexplained: number("unexplained"), book: number("book"), provided: number("counted"), ref: x.ref}
	c.text = fmt.Sprintf("%s of %s from %s to %s: %d in the book, %d at the provider; %d of %s lines differ without an explanation (tolerance %s); compared by %s",
		c.measure, c.provider, stamp(c.from), stamp(c.to), c.book, c.provided, c.unexplained, orNone(b.Detail["lines"]), orNone(b.Detail["tolerance"]), orNone(b.By))
	if c.from.Before(s.p.To) && c.to.After(s.p.From) {
		s.compared = append(s.compared, c)
	}
}

func (s *state) checkCompared() {
	n := int64(len(s.compared))
	differs, none := s.checks.made("COV-07", n, "comparisons"), s.checks.made("COV-08", n, "comparisons")
	for _, c := range s.compared {
		if c.unexplained > 0 {
			differs.add(Exception{Object: "provider " + orNone(c.provider), Start: later(c.from, s.p.From), End: s.endOf(c.to), Count: c.unexplained, Detail: c.text, Refs: refs(c.ref), DetectedBy: byRuntime})
		}
	}
	none.Note = "guardbook reconcile --record compares with a provider's usage export and writes the result into the book"
	if n == 0 {
		differs.NotEvaluated = noCount
		none.add(Exception{Object: "model calls", Start: s.p.From, End: s.p.To, Detail: "no comparison of the window with a provider's own count is in the book"})
	}
}
