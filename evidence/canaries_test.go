package evidence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
)

// A day on which test interactions are played, missed, stopped by a containment, not
// played for two hours, and turned off.
func TestTestInteractionsAreListedAndTheirAbsenceIsAnException(t *testing.T) {
	s := newScenario(t)
	play := func(ok bool, contained string) {
		for _, kind := range []guardbook.Kind{guardbook.KindInput, guardbook.KindToolCall} {
			s.decide("", func(d *guardbook.DecisionEntry) {
				d.Agent, d.Policy, d.Kind, d.Containment = guardbook.CanaryAgent, "guardbook-canary", kind, contained
			})
		}
		s.add("", guardbook.TypeCanary, guardbook.CanaryEntry{Agent: guardbook.CanaryAgent, Path: "openai/chat", Cell: "tool result", Expected: "a finding",
			Got: "something", OK: ok, Decisions: []string{"a", "b"}, Containment: contained})
	}
	at := func(hour, minute int) {
		s.to(start.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute))
		s.add("", guardbook.TypeHeartbeat, guardbook.HeartbeatEntry{Boot: "b", Interval: 86_400_000, Bundle: "sha256:aaa"})
	}
	s.to(start)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: true, Epoch: 1, Canaries: "5m0s"})
	for m := 0; m < 60; m += 5 {
		at(0, m)
		play(m != 20 && m != 25, map[int]string{30: "k"}[m])
	}
	at(3, 0) // two hours of silence
	play(true, "")
	s.add("", guardbook.TypeStop, guardbook.StopEntry{Boot: "b"})
	at(4, 0)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "c", Clean: true, Epoch: 1, Canaries: "off"})
	s.decide("", nil)
	at(5, 0)
	s.add("", guardbook.TypeStop, guardbook.StopEntry{Boot: "c"})
	at(6, 0)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "d", Clean: true, Epoch: 1})
	at(7, 0)

	s.seal()
	dir := s.build(nil)
	rows := table(t, dir, "detectors/selftests.csv")
	missed := 0
	for _, r := range rows {
		if r["ok"] == "false" {
			missed++
		}
	}
	if len(rows) != 13 || missed != 2 || rows[0]["path"] != "openai/chat" || rows[0]["decisions"] != "a b" {
		t.Errorf("%d tests, %d missed, %v", len(rows), missed, rows[0])
	}
	if n := len(table(t, dir, "CC7.2/population.csv")); n != 1 {
		t.Errorf("the population has %d rows", n)
	}
	if ipe := string(tree(t, dir)["CC7.2/population.ipe.json"]); !strings.Contains(ipe, "agent = guardbook-canary") || !strings.Contains(ipe, `"count": 26`) {
		t.Errorf("the population does not say what it leaves out: %s", ipe)
	}
	var details []string
	for _, r := range table(t, dir, "00-summary/exceptions.csv") {
		switch {
		case r["check"] == "COV-09" && r["record"] == "check":
			if r["n_examined"] != "13" || r["count"] != "4" || !strings.Contains(r["detail"], "2 missed, 1 stopped by a containment") {
				t.Errorf("check %v", r)
			}
		case r["check"] == "COV-09":
			details = append(details, r["start"][11:16]+" "+r["end"][11:16]+" "+r["count"]+" "+r["detail"])
		case r["record"] == "exception" && strings.Contains(r["object"], guardbook.CanaryAgent):
			t.Errorf("a test is an exception to %s: %v", r["check"], r)
		}
	}
	want := []string{
		"00:20 00:25 2 expected: a finding; got: something",
		"00:55 03:00 1 no test interaction was played; one is due every 5m0s",
		"04:00 05:00 1 test interactions are turned off (canary_every: off)",
		"06:00 07:00 1 the program that ran plays no test interactions",
	}
	if strings.Join(details, "\n") != strings.Join(want, "\n") {
		t.Errorf("exceptions:\n%s", strings.Join(details, "\n"))
	}
}
