package derive

import (
	"fmt"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/clients"
)

// clientSeq follows a caller's own numbers: of one process of an SDK, or of one
// session of a caller that names no process.
type clientSeq struct {
	numbers  clients.Numbers
	from, to time.Time
	ref      Ref
}

// number notes one of a caller's own numbers.
func (s *state) number(x event, agent, caller string, n int64) {
	if n <= 0 || !x.in {
		return
	}
	key := agent + " " + caller
	c := s.decisions.sessions[key]
	if c == nil {
		c = &clientSeq{from: x.ts, ref: x.ref}
		s.decisions.sessions[key] = c
	}
	c.numbers.Add(n)
	c.to = x.ts
}

// refusal counts the number of a request that was refused before any decision.
func (s *state) refusal(x event, b guardbook.RefusalEntry) {
	s.number(x, b.Agent, b.Client, b.ClientSeq)
}

// client notes what an SDK told afterwards. A gap that the running program found is
// found here again, from the numbers.
func (s *state) client(x event, b guardbook.ClientEntry) {
	s.number(x, b.Agent, b.Client, b.ClientSeq)
	if !x.in {
		return
	}
	d := &s.decisions
	switch b.Event {
	case "unguarded":
		d.unread.hit(b.Agent, x.ts, x.ref, "an SDK let pass without a decision: "+orNone(string(b.Kind))+": "+b.Reason)
	case "refused", "unanswered":
		d.layers.hit(b.Agent+" (SDK)", x.ts, x.ref, "an SDK got no decision on "+orNone(string(b.Kind))+" ("+b.Event+"): "+b.Reason)
	case "dropped":
		d.unread.hit(b.Agent, x.ts, x.ref, fmt.Sprintf("an SDK could not keep %d events in its spool: what they were is not known", b.Count))
	}
}

// checkNumbers looks for numbers that no entry has.
func (s *state) checkNumbers() {
	d := &s.decisions
	c := s.checks.made("COV-06", int64(len(d.sessions)), "callers that number their interactions")
	for _, key := range sorted(d.sessions) {
		q := d.sessions[key]
		first, last, n := q.numbers.First(), q.numbers.Last(), q.numbers.Count()
		if missing := last - first + 1 - n; missing > 0 {
			c.add(Exception{Object: key, Start: q.from, End: q.to, Count: missing, Refs: refs(q.ref),
				Detail: fmt.Sprintf("numbers %d to %d are %d, and %d are in the book", first, last, last-first+1, n)})
		}
	}
}
