package derive

import (
	"fmt"
	"time"

	"github.com/guardbook/guardbook"
)

// defaultInterval is the heartbeat's interval until a heartbeat says another.
const defaultInterval = 30 * time.Second

// life follows when each instance showed that it was there.
type life struct {
	m        map[string]*instance
	gaps     []Gap
	restarts int
	beats    int64 // heartbeats in the window
	degraded []interval
	boots    map[string]*counterTie
	now      *counterTie // of the boot that writes
}

// interval is a stretch of time about an instance or an agent.
type interval struct {
	start, end time.Time
	detail     string
	count      int64
	ref        Ref
}

type instance struct {
	name     string
	sign     time.Time // last sign of life
	interval time.Duration
	stopped  bool
}

// counterTie compares what an instance counted between two of its heartbeats
// with the decisions that are in the book between them.
type counterTie struct {
	boot          string
	base, counted int64 // the counter at the first heartbeat of the window, and what it rose by until the last
	entries, at   int64 // decisions since the first, and how many they were at the last
	from, to      Ref
}

func (l *life) init() {
	l.m, l.boots = map[string]*instance{}, map[string]*counterTie{}
}

// alive notes a sign of life; the time since the one before is a gap when it is
// longer than twice the heartbeat's interval.
func (s *state) alive(name string, ts time.Time, cause string) *instance {
	i := s.life.m[name]
	if i == nil {
		i = &instance{name: name, interval: defaultInterval, sign: ts}
		s.life.m[name] = i
		if len(s.life.m) == 1 && ts.Sub(s.p.From) > 2*i.interval {
			s.gap(Gap{Instance: name, Start: s.p.From, End: ts, Cause: "the book begins here"})
		}
		return i
	}
	if ts.Sub(i.sign) > 2*i.interval {
		if i.stopped {
			cause = "stopped on purpose and started again"
		}
		s.gap(Gap{Instance: name, Start: i.sign, End: ts, Cause: cause})
	}
	if ts.After(i.sign) {
		i.sign = ts
	}
	i.stopped = false
	return i
}

// gap keeps the part of a gap that lies in the window.
func (s *state) gap(g Gap) {
	if g.Start.Before(s.p.From) {
		g.Start = s.p.From
	}
	if g.End.After(s.p.To) {
		g.End = s.p.To
	}
	if !g.Start.Before(g.End) {
		return
	}
	s.life.gaps = append(s.life.gaps, g)
	if g.Duration() > s.facts.MaxGap.Duration() {
		s.facts.MaxGap = g
	}
}

func (s *state) start(x event, b guardbook.StartEntry) {
	cause := "ended without a stop entry (crash, kill or power loss) and started again"
	if b.Clean {
		cause = "stopped on purpose and started again"
	}
	if b.Lost != "" {
		cause += "; lost: " + b.Lost
	}
	if x.in && len(s.life.m) > 0 {
		s.life.restarts++
	}
	s.alive(x.Instance, x.ts, cause)
	s.canaryStart(x, b)
	s.life.now = nil
	if x.in {
		s.life.now = &counterTie{boot: b.Boot, from: x.ref, to: x.ref}
		s.life.boots[b.Boot] = s.life.now
	}
}

func (s *state) stop(x event, b guardbook.StopEntry) {
	s.alive(x.Instance, x.ts, "no heartbeat while it ran (stalled, or the book could not be written)").stopped = true
	s.canarySign(x)
	s.canaryEnd(x.Instance)
}

func (s *state) heartbeat(x event, b guardbook.HeartbeatEntry) {
	i := s.alive(x.Instance, x.ts, "no heartbeat while it ran (stalled, or the book could not be written)")
	s.canarySign(x)
	if b.Interval > 0 {
		i.interval = time.Duration(b.Interval) * time.Millisecond
	}
	if !x.in {
		return
	}
	s.life.beats++
	t := s.life.boots[b.Boot]
	if t == nil {
		t = &counterTie{boot: b.Boot, base: b.Counters["interactions"], from: x.ref}
		s.life.boots[b.Boot], s.life.now = t, t
	}
	t.counted, t.at, t.to = b.Counters["interactions"]-t.base, t.entries, x.ref
}

func (s *state) degraded(x event, b guardbook.DegradedEntry) {
	from, to := when(b.From), when(b.To)
	if !from.Before(s.p.To) || to.Before(s.p.From) {
		return
	}
	var refused, allowed int64
	for _, n := range b.Refused {
		refused += n
	}
	for _, n := range b.Allowed {
		allowed += n
	}
	s.life.degraded = append(s.life.degraded, interval{from, to, fmt.Sprintf(
		"the book could not be written (%s): %d interactions refused, %d let through without an entry", b.Error, refused, allowed), allowed, x.ref})
}

// settleLife looks at what happened after each instance's last sign of life. A
// window that has not passed yet is IPE-05's matter.
func (s *state) settleLife() {
	end := s.p.To
	if len(s.life.m) == 0 {
		s.gap(Gap{Start: s.p.From, End: end, Cause: "no instance left a sign of life", Open: true})
		return
	}
	newest := time.Time{}
	for _, i := range s.life.m {
		if i.sign.After(newest) {
			newest = i.sign
		}
	}
	for _, name := range sorted(s.life.m) {
		i := s.life.m[name]
		if end.Sub(i.sign) <= 2*i.interval {
			continue
		}
		cause := "no sign of life until the end of the window"
		if i.stopped {
			cause = "stopped on purpose and not started again"
		}
		s.gap(Gap{Instance: name, Start: i.sign, End: end, Cause: cause, Open: true})
	}
}
