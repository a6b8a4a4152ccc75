package derive

import (
	"context"
	"slices"
	"time"

	"github.com/guardbook/guardbook"
)

// state is what the first pass folds the entries into.
type state struct {
	in    Input
	p     Params
	facts *Facts

	now  string // recorded time of the entry at hand
	last string // recorded time of the last entry of all

	agents      registry
	policies    policies
	alerts      alerts
	containment containments
	life        life
	decisions   decisions
	canaries    canaries
	compared    []compared
	checks      checks
	walk        walks
	clock       episodes // occurred long after recorded
}

func newState(in Input) *state {
	s := &state{in: in, p: in.Params, facts: &Facts{
		Counts: map[string]int64{}, Decisions: map[string]int64{},
	}}
	s.agents.init()
	s.policies.init()
	s.alerts.init()
	s.containment.init()
	s.life.init()
	s.decisions.init()
	s.canaries.init()
	s.checks.init()
	return s
}

// inside reports whether an entry belongs to the window, by when it occurred.
func (s *state) inside(t time.Time) bool { return !t.Before(s.p.From) && t.Before(s.p.To) }

// fold is the first pass over one log.
func (s *state) fold(ctx context.Context, l *Log) error {
	s.facts.Logs = append(s.facts.Logs, LogFacts{Epoch: l.Epoch, Origin: l.Origin})
	facts := &s.facts.Logs[len(s.facts.Logs)-1]
	tree := newTreeCheck(facts, l, s.p.Key)
	seq := int64(-1)
	var before string
	err := l.Entries(ctx, func(raw []byte) error {
		seq++
		tree.add(raw)
		e, err := guardbook.ParseEntry(raw)
		if err != nil {
			facts.Unreadable = append(facts.Unreadable, Ref{l.Epoch, seq, ""})
			return nil //nolint:nilerr // counted: a malformed entry is a fact of the log
		}
		ref := Ref{l.Epoch, e.Seq, e.ID}
		if e.Seq != seq || e.Log != l.Origin {
			facts.Misplaced = append(facts.Misplaced, Ref{l.Epoch, seq, e.ID})
		}
		if e.Rec < before {
			facts.BackInTime = append(facts.BackInTime, ref)
		}
		before = e.Rec
		if facts.FirstRec == "" {
			facts.FirstRec = e.Rec
		}
		facts.LastRec, s.last, s.now = e.Rec, e.Rec, e.Rec
		if s.facts.Found.First == "" {
			s.facts.Found.First = e.Rec
		}
		s.facts.Found.Last = e.Rec
		if err := s.take(e, ref); err != nil {
			facts.Unreadable = append(facts.Unreadable, ref)
		}
		return nil
	})
	tree.finish()
	return err
}

// take folds one entry.
func (s *state) take(e guardbook.Entry, ref Ref) error {
	ts := when(e.TS)
	in := s.inside(ts)
	if in {
		s.facts.Counts[string(e.Type)]++
		if !when(e.Rec).Before(s.p.To) {
			s.facts.Late++
		}
		if !slices.Contains(s.facts.Instances, e.Instance) {
			s.facts.Instances = append(s.facts.Instances, e.Instance)
		}
	}
	if ts.Sub(when(e.Rec)) > 2*time.Second {
		s.clock.hit(e.Instance, ts, ref, "an entry says that it occurred after it was recorded")
	}
	x := event{Entry: e, ref: ref, ts: ts, in: in}
	switch e.Type {
	case guardbook.TypeStart:
		return with(x, s.start)
	case guardbook.TypeStop:
		return with(x, s.stop)
	case guardbook.TypeHeartbeat:
		return with(x, s.heartbeat)
	case guardbook.TypeDecision:
		return with(x, s.decision)
	case guardbook.TypeStream:
		return with(x, s.stream)
	case guardbook.TypePassthrough:
		return with(x, s.passthrough)
	case guardbook.TypePolicy:
		return with(x, s.policy)
	case guardbook.TypeContainment:
		return with(x, s.contain)
	case guardbook.TypeAlert:
		return with(x, s.alert)
	case guardbook.TypeNotification:
		return with(x, s.notification)
	case guardbook.TypeAgent:
		return with(x, s.agent)
	case guardbook.TypeOperator:
		return with(x, s.operator)
	case guardbook.TypeCanary:
		return with(x, s.canary)
	case guardbook.TypeDegraded:
		return with(x, s.degraded)
	case guardbook.TypeRefusal:
		return with(x, s.refusal)
	case guardbook.TypeClient:
		return with(x, s.client)
	}
	return nil
}

// event is an entry with what every fold needs of it.
type event struct {
	guardbook.Entry
	ref Ref
	ts  time.Time
	in  bool // inside the window
}

// keep returns the raw bytes as the state's own.
func (x event) keep() []byte { return slices.Clone(x.Raw) }

// with reads an entry's body and passes both on. A body that does not fit its
// type makes the entry an unreadable one.
func with[T any](x event, fn func(event, T)) error {
	b, err := guardbook.Body[T](x.Entry)
	if err != nil {
		return err
	}
	fn(x, b)
	return nil
}

// settle closes what is open at the end of the entries and runs the checks.
func (s *state) settle() {
	s.settleLife()
	s.settleGrants()
	s.settleAlarms()
	s.facts.Restarts = s.life.restarts
	for name := range s.agents.m {
		s.facts.Agents = append(s.facts.Agents, name)
	}
	slices.Sort(s.facts.Agents)
	slices.Sort(s.facts.Instances)
	s.settleTexts()
	s.tieOuts()
	s.checkCoverage()
	s.checkAccess()
	s.checkAlerts()
	s.checkContainment()
	s.checkChange()
	s.checkIntegrity()
	s.facts.Checks = s.checks.list
	s.chooseProofs()
}

// end is the end of the window, or of the entries when they end before.
func (s *state) end() time.Time {
	if last := when(s.last); last.Before(s.p.To) {
		return last
	}
	return s.p.To
}
