package derive

import (
	"fmt"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// canaries follow the instance's own test interactions: whether they were played all
// the time, and caught.
type canaries struct {
	played, missed, contained int64 // in the window
	decisions, tools          int64 // decisions of the test agent in the window
	misses                    episodes
	runs                      map[string]*canaryRun // by instance
	idle                      []interval            // times in which none were played
}

// canaryRun is what one run of an instance promised, and the last test that it played.
type canaryRun struct {
	setting string
	every   time.Duration
	last    time.Time // of a test, or the run's start
	sign    time.Time // of life
	ref     Ref       // the start entry
}

func (c *canaries) init() {
	c.misses.gap, c.runs = quiet, map[string]*canaryRun{}
}

// canaryStart is the start of a run. The one before has ended, at the latest, with its
// last sign of life.
func (s *state) canaryStart(x event, b guardbook.StartEntry) {
	s.canaryEnd(x.Instance)
	r := &canaryRun{setting: b.Canaries, last: x.ts, sign: x.ts, ref: x.ref}
	r.every, _ = time.ParseDuration(b.Canaries) // "off" and none are no durations: 0
	s.canaries.runs[x.Instance] = r
}

// canarySign is a sign of life of a run.
func (s *state) canarySign(x event) {
	if r := s.canaries.runs[x.Instance]; r != nil && x.ts.After(r.sign) {
		r.sign = x.ts
	}
}

// canaryEnd looks at what a run did not play until its last sign of life.
func (s *state) canaryEnd(instance string) {
	r := s.canaries.runs[instance]
	if r == nil {
		return
	}
	delete(s.canaries.runs, instance)
	s.canaryIdle(instance, r, r.sign)
}

// canaryIdle notes the time since the last test, if it is too long.
func (s *state) canaryIdle(instance string, r *canaryRun, until time.Time) {
	start, end := later(r.last, s.p.From), until
	if end.After(s.p.To) {
		end = s.p.To
	}
	if !start.Before(end) {
		return
	}
	var detail string
	switch {
	case r.setting == "":
		detail = "the program that ran plays no test interactions"
	case r.every <= 0:
		detail = "test interactions are turned off (canary_every: " + r.setting + ")"
	case until.Sub(r.last) > 2*r.every+time.Minute:
		detail = "no test interaction was played; one is due every " + r.setting
	default:
		return
	}
	s.canaries.idle = append(s.canaries.idle, interval{start, end, "instance " + orNone(instance) + ": " + detail, 1, r.ref})
}

func (s *state) canary(x event, b guardbook.CanaryEntry) {
	if r := s.canaries.runs[x.Instance]; r != nil {
		if r.every > 0 {
			s.canaryIdle(x.Instance, r, x.ts)
		}
		r.last = x.ts
	}
	s.canarySign(x)
	if !x.in {
		return
	}
	c := &s.canaries
	c.played++
	switch {
	case !b.OK:
		c.missed++
		c.misses.hit(b.Path+", "+b.Cell, x.ts, x.ref, "expected: "+b.Expected+"; got: "+b.Got)
	case b.Containment != "":
		c.contained++
	}
}

// ofCanary counts a decision of the test agent. It reports whether it is one: such a
// decision is no row of a population, and no exception to anything but COV-09.
func (s *state) ofCanary(x event, b *guardbook.DecisionEntry) bool {
	if b.Agent != guardbook.CanaryAgent {
		return false
	}
	if x.in {
		s.canaries.decisions++
		if b.Kind == guardbook.KindToolCall {
			s.canaries.tools++
		}
	}
	return true
}

func (s *state) checkCanaries() {
	for _, instance := range sorted(s.canaries.runs) {
		s.canaryEnd(instance)
	}
	c := s.checks.made("COV-09", s.canaries.played, "test interactions")
	c.Note = fmt.Sprintf("test interactions that the instances played to themselves, listed in detectors/selftests.csv; %d missed, %d stopped by a containment and therefore without a result; rule packs carry no date, so their age is not judged",
		s.canaries.missed, s.canaries.contained)
	c.addAll(&s.canaries.misses, byRuntime)
	for _, i := range s.canaries.idle {
		object, detail, _ := strings.Cut(i.detail, ": ")
		c.add(Exception{Object: object, Start: i.start, End: i.end, Detail: detail, Refs: refs(i.ref)})
	}
}

// canaryReason is why decisions about test interactions are no rows of a population.
const canaryReason = "test interactions that the instances play to themselves; their results are in detectors/selftests.csv"

var selftestColumns = []column{
	{"row_id", "id of the entry", "text", "id", false},
	{"seq", "place in the log", "count", "seq", false},
	{"occurred_at", "when it was played", "time", "ts", false},
	{"path", "the entry path that it went through", "text", "path", false},
	{"cell", "what was played", "text", "cell", false},
	{"expected", "what a guarded path leaves in the book", "text", "expected", false},
	{"got", "what was there", "text", "got", false},
	{"ok", "false: it was missed", "true or false", "ok", false},
	{"containment_id", "the containment that stopped it; then nothing is known, and ok is true", "text", "containment", true},
	{"decisions", "ids of the decisions that it left", "text", "decisions", true},
	{"duration_us", "how long it took", "microseconds", "us", false},
}

func (w *writer) selftest(x event) error {
	b, ok := body[guardbook.CanaryEntry](x)
	if !ok || !x.in {
		return nil
	}
	return w.selftests.row(x.ID, x.Seq, x.TS, b.Path, b.Cell, b.Expected, b.Got, b.OK, b.Containment, strings.Join(b.Decisions, " "), b.Micros)
}
