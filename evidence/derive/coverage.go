package derive

import (
	"slices"
	"sort"
	"time"

	"github.com/guardbook/guardbook"
)

// coverage says, for each agent and stretch of time, whether it was guarded.
type coverage struct {
	m map[string][]*stretch
}

type stretch struct {
	span
	state, detail string
	decisions     int64
}

// The states of a stretch, worst first.
const (
	coverGap      = "gap"
	coverDegraded = "degraded"
	coverNoPolicy = "no-policy"
	coverMonitor  = "monitor-only"
	coverFull     = "covered"
)

func newCoverage(s *state) *coverage {
	c := &coverage{m: map[string][]*stretch{}}
	for name, a := range s.agents.m {
		spans := slices.Clone(a.spans)
		if len(spans) == 0 && a.decisions > 0 {
			spans = []span{{a.firstSeen, a.lastSeen.Add(time.Microsecond)}}
		}
		for _, p := range spans {
			c.m[name] = append(c.m[name], s.stretches(name, p)...)
		}
	}
	return c
}

// stretches cuts an agent's time in the register at every moment at which its
// cover may have changed, and joins what is alike.
func (s *state) stretches(name string, p span) []*stretch {
	if p.start.Before(s.p.From) {
		p.start = s.p.From
	}
	if end := s.p.To; p.end.IsZero() || p.end.After(end) {
		p.end = end
	}
	if !p.start.Before(p.end) {
		return nil
	}
	cuts := []time.Time{p.start, p.end}
	cut := func(t time.Time) {
		if t.After(p.start) && t.Before(p.end) {
			cuts = append(cuts, t)
		}
	}
	for _, g := range s.life.gaps {
		cut(g.Start)
		cut(g.End)
	}
	for _, d := range s.life.degraded {
		cut(d.start)
		cut(d.end)
	}
	for _, a := range s.policies.attempts {
		if a.applied() {
			cut(a.ts)
		}
	}
	slices.SortFunc(cuts, time.Time.Compare)
	var out []*stretch
	for i := 1; i < len(cuts); i++ {
		if !cuts[i-1].Before(cuts[i]) {
			continue
		}
		state, detail := s.coverAt(name, cuts[i-1], cuts[i])
		if n := len(out); n > 0 && out[n-1].state == state && out[n-1].detail == detail && out[n-1].end.Equal(cuts[i-1]) {
			out[n-1].end = cuts[i]
			continue
		}
		out = append(out, &stretch{span: span{cuts[i-1], cuts[i]}, state: state, detail: detail})
	}
	return out
}

// coverAt is an agent's cover between two moments between which nothing changes.
func (s *state) coverAt(name string, start, end time.Time) (state, detail string) {
	for _, g := range s.life.gaps {
		if g.Start.Before(end) && start.Before(g.End) {
			return coverGap, g.Cause
		}
	}
	for _, d := range s.life.degraded {
		if d.start.Before(end) && start.Before(d.end) {
			return coverDegraded, d.detail
		}
	}
	var force *attempt
	for _, a := range s.policies.attempts {
		if a.applied() && !a.ts.After(start) {
			force = a
		}
	}
	if force == nil {
		return coverNoPolicy, "no bundle was in force"
	}
	ref, _, ok := covering(force.Policies, name)
	switch {
	case !ok:
		return coverNoPolicy, "no policy of the bundle covers the agent: everything it does is stopped"
	case ref.Mode == guardbook.ModeMonitor:
		return coverMonitor, "policy " + ref.Policy
	}
	return coverFull, "policy " + ref.Policy
}

// decision counts a decision into its stretch.
func (c *coverage) decision(agent string, at time.Time) {
	list := c.m[agent]
	i := sort.Search(len(list), func(i int) bool { return list[i].end.After(at) })
	if i < len(list) && !at.Before(list[i].start) {
		list[i].decisions++
	}
}

func (c *coverage) write(sink Sink) error {
	t, err := newTable(sink, "00-summary/coverage", []column{{name: "agent"}, {name: "start"}, {name: "end"}, {name: "seconds"},
		{name: "state"}, {name: "traffic"}, {name: "decisions"}, {name: "detail"}}, 0)
	if err != nil {
		return err
	}
	for _, name := range sorted(c.m) {
		for _, p := range c.m[name] {
			traffic := "traffic"
			if p.decisions == 0 {
				traffic = "no-traffic"
			}
			if err := t.row(name, stamp(p.start), stamp(p.end), int64(p.end.Sub(p.start)/time.Second), p.state, traffic, p.decisions, p.detail); err != nil {
				return err
			}
		}
	}
	return t.close()
}
