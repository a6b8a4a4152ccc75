package evidence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
)

// A comparison belongs to the window that it is about, also when it was made later.
func TestComparisonsWithAProvidersCountAreEvidence(t *testing.T) {
	check := func(t *testing.T, s *scenario, id string) (examined, count, detail, outcome string) {
		t.Helper()
		dir := s.build(nil)
		for _, r := range table(t, dir, "00-summary/exceptions.csv") {
			switch {
			case r["check"] == id && r["record"] == "check":
				examined, count, outcome = r["n_examined"], r["count"], r["outcome"]
			case r["check"] == id:
				detail = r["detail"]
			}
		}
		return examined, count, detail, outcome
	}
	s := newScenario(t)
	s.to(start)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: true, Epoch: 1, Canaries: "off"})
	s.seal()
	if _, count, detail, _ := check(t, s, "COV-08"); count != "1" || !strings.Contains(detail, "no comparison of the window") {
		t.Errorf("COV-08: %s %s", count, detail)
	}
	if _, _, _, outcome := check(t, s, "COV-07"); outcome != "NOT_EVALUATED" {
		t.Errorf("COV-07 without a comparison: %s", outcome)
	}
	reconciled := func(from, to time.Time, unexplained string) {
		s.add("", guardbook.TypeOperator, guardbook.OperatorEntry{Op: "reconciled", By: "sam", Detail: map[string]string{"provider": "openai", "measure": "calls",
			"from": from.Format(time.RFC3339), "to": to.Format(time.RFC3339), "book": "40", "counted": "47", "lines": "3", "unexplained": unexplained, "tolerance": "0"}})
	}
	s.to(end.Add(48 * time.Hour))
	reconciled(start, end, "2")
	reconciled(start, end, "0")
	reconciled(end.Add(24*time.Hour), end.Add(48*time.Hour), "5") // of another time
	s.seal()
	if examined, count, detail, _ := check(t, s, "COV-07"); examined != "2" || count != "1" || !strings.Contains(detail, "40 in the book, 47 at the provider; 2 of 3 lines differ") {
		t.Errorf("COV-07: %s %s %s", examined, count, detail)
	}
	if examined, count, _, outcome := check(t, s, "COV-08"); examined != "2" || count != "0" || outcome != "NO_EXCEPTION_FOUND" {
		t.Errorf("COV-08: %s %s %s", examined, count, outcome)
	}
}
