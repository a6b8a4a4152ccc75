package evidence_test

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/evidence"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/verify"
)

// table reads a CSV file of a package as a list of records by column.
func table(t *testing.T, dir, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, c := range rows[0] {
			m[c] = row[i]
		}
		out = append(out, m)
	}
	return out
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBuildingTwiceGivesTheSameBytesButForTimesAndSignature(t *testing.T) {
	s := newScenario(t)
	s.play()
	first := s.build(func(o *evidence.Options) { o.Now = func() time.Time { return end.Add(time.Hour) } })
	// The book grows in between: a build as of the same size is the same.
	size := s.book.Checkpoint().Size
	s.decide("later", nil)
	s.seal()
	second := s.build(func(o *evidence.Options) {
		o.Now = func() time.Time { return end.Add(2 * time.Hour) }
		o.Size = size
	})
	a, b := tree(t, first), tree(t, second)
	var differ []string
	for name, content := range a {
		if b[name] != content {
			differ = append(differ, name)
		}
	}
	slices.Sort(differ)
	want := []string{"00-summary/scope.json", "CC6.1/population.ipe.json", "CC7.2/population.ipe.json", "CC7.3/population.ipe.json", "CC7.4/population.ipe.json",
		"CC8.1/population.ipe.json", "README.md", "SHA256SUMS", "manifest.json", "manifest.sig"}
	if len(a) != len(b) || !slices.Equal(differ, want) {
		t.Errorf("files that differ: %v, want %v (%d and %d files)", differ, want, len(a), len(b))
	}
}

func TestEveryExceptionOfTheDayIsFound(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(nil)
	found := map[string][]map[string]string{}
	outcome := map[string]string{}
	for _, r := range table(t, dir, "00-summary/exceptions.csv") {
		if r["record"] == "check" {
			outcome[r["id"]] = r["outcome"]
			if r["outcome"] == derive.OutcomeNotEvaluated && r["detail"] == "" {
				t.Errorf("%s is not evaluated and does not say why", r["id"])
			}
			continue
		}
		found[r["check"]] = append(found[r["check"]], r)
		if r["management_response"] != "" {
			t.Errorf("%s: a response was written for management", r["id"])
		}
	}
	for check, detail := range map[string]string{
		"COV-01": "without a stop entry", "COV-02": "no decision", "COV-03": "register does not have", "COV-04": "timeout", "COV-05": "incomplete", "COV-06": "numbers 1 to 4",
		"COV-10": "monitor mode", "ACC-01": "no policy", "ACC-02": "pattern", "ACC-03": "would have decided block", "ACC-04": "no owner", "ACC-05": "removed",
		"ALR-01": "no receiver", "ALR-03": "to be acknowledged", "ALR-05": "disposition: none", "ALR-06": "none delivered", "INC-04": "ann", "INC-05": "released after",
		"CHG-01": "no entry before", "CHG-12": "unknown field", "INT-06": "no witness", "INT-08": "not anchored", "IPE-01": "bundle",
	} {
		if !slices.ContainsFunc(found[check], func(r map[string]string) bool {
			return strings.Contains(r["detail"], detail) || strings.Contains(r["object"], detail)
		}) {
			t.Errorf("%s: no exception says %q: %v", check, detail, found[check])
		}
	}
	for check, detail := range map[string]string{"COV-05": "pass without a decision: input", "COV-04": "no decision on tool_call"} {
		if !slices.ContainsFunc(found[check], func(r map[string]string) bool { return strings.Contains(r["detail"], detail) }) {
			t.Errorf("%s: no exception says %q: %v", check, detail, found[check])
		}
	}
	for _, check := range []string{"INT-01", "INT-02", "INT-03", "INT-04", "INT-05", "IPE-05", "INC-03", "ALR-02", "ALR-13"} {
		if outcome[check] != derive.OutcomeNone {
			t.Errorf("%s: %s %v", check, outcome[check], found[check])
		}
	}
	for check, n := range map[string]int{"INC-05": 1, "COV-03": 1, "COV-06": 1, "ALR-03": 1, "CHG-12": 1, "ACC-05": 1, "IPE-01": 1} {
		if len(found[check]) != n {
			t.Errorf("%s: %d exceptions, want %d: %v", check, len(found[check]), n, found[check])
		}
	}
	if len(outcome) != 72 {
		t.Errorf("%d checks are listed", len(outcome))
	}
}

func TestDecisionsThatAreCountedAndMissingAreFound(t *testing.T) {
	s := newScenario(t)
	s.to(start)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: true, Previous: -1, Epoch: 1, Key: s.key.Verifier()})
	s.decide("", nil)
	s.beats(start.Add(time.Minute), "b", 3)
	s.seal()
	for _, r := range table(t, s.build(nil), "00-summary/exceptions.csv") {
		if r["check"] == "IPE-01" && r["record"] == "exception" && strings.Contains(r["object"], "heartbeat counter") && r["count"] == "2" {
			return
		}
	}
	t.Error("no exception says that two decisions are missing")
}

func TestARestartIsToldFromAGapWithoutOne(t *testing.T) {
	s := newScenario(t)
	s.play()
	var causes []string
	for _, r := range table(t, s.build(nil), "00-summary/exceptions.csv") {
		if r["check"] == "COV-01" && r["record"] == "exception" {
			causes = append(causes, r["start"]+" "+r["detail"])
		}
	}
	if len(causes) != 2 || !strings.Contains(causes[0], "without a stop entry") || !strings.Contains(causes[1], "no heartbeat while it ran") {
		t.Errorf("causes: %q", causes)
	}
}

func TestListingsHoldWhatHappened(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(nil)
	scans := table(t, dir, "CC7.2/population.csv")
	byID := map[string]map[string]string{}
	for _, r := range scans {
		byID[r["row_id"]] = r
	}
	alert := s.ids["blocked call"]
	for name, want := range map[string]map[string]string{
		"blocked call": {"action": "block", "alert_id": alert, "threat_class": "tool_misuse", "owasp": "ASI02"},
		"same again":   {"alert_id": alert},
		"no alert":     {"alert_id": "", "severity": "critical"},
		"timeout":      {"degraded": "true", "degraded_detail": "L1: timeout"},
		"monitor":      {"verdict": "block", "action": "allow", "mode": "monitor", "tool": "pay"},
		"refused":      {"containment_id": s.ids["kill"]},
	} {
		for column, value := range want {
			if got := byID[s.ids[name]][column]; got != value {
				t.Errorf("%s: %s is %q, want %q", name, column, got, value)
			}
		}
	}
	if n := len(table(t, dir, "CC6.1/population.csv")); n != 4 {
		t.Errorf("%d tool calls, want 4", n)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "CC7.2/population.jsonl"))
	if err != nil || bytes.Count(raw, []byte("\n")) != len(scans) {
		t.Errorf("%d raw lines for %d rows (%v)", bytes.Count(raw, []byte("\n")), len(scans), err)
	}
	blocks := table(t, dir, "containment/blocks.csv")
	if len(blocks) != 1 || blocks[0]["attempts_refused"] != "1" || blocks[0]["streams_cut"] != "1" || blocks[0]["events_after_block"] != "1" || blocks[0]["blocker_is_lifter"] != "true" {
		t.Errorf("blocks: %v", blocks)
	}
	alerts := table(t, dir, "alerts/alerts.csv")
	if len(alerts) != 1 || alerts[0]["ack_in_time"] != "no" || alerts[0]["title"] != `'=HYPERLINK("http://evil")` || alerts[0]["status_at_period_end"] != "closed" || alerts[0]["delivery"] != "failed" {
		t.Errorf("alerts: %v", alerts)
	}
	var lines []string
	for _, g := range table(t, dir, "registry/grants.csv") {
		lines = append(lines, g["agent"]+" "+g["tool"]+" "+g["effect"]+" "+g["argument"]+" "+g["constraint"])
	}
	if len(lines) != 4 || !strings.Contains(lines[2], `"type":"sql"`) || !strings.HasPrefix(lines[3], "shop-1 * allow") {
		t.Errorf("grants: %q", lines)
	}
	states := map[string]bool{}
	for _, c := range table(t, dir, "00-summary/coverage.csv") {
		states[c["agent"]+" "+c["state"]+" "+c["traffic"]] = true
	}
	for _, s := range []string{"billing-bot covered traffic", "billing-bot gap no-traffic", "shop-1 monitor-only traffic", "quiet no-policy no-traffic"} {
		if !states[s] {
			t.Errorf("coverage lacks %q: %v", s, states)
		}
	}
}

func TestNoConclusionIsWritten(t *testing.T) {
	s := newScenario(t)
	s.play()
	for name, content := range tree(t, s.build(nil)) {
		if strings.HasPrefix(name, "integrity/") || strings.HasSuffix(name, ".jsonl") {
			continue
		}
		for _, word := range []string{"compliant", "effectively", "is effective", "were effective", "passed SOC", "SOC 2 certified"} {
			if strings.Contains(strings.ToLower(content), word) {
				t.Errorf("%s says %q", name, word)
			}
		}
	}
}

func TestRowsAreSplitOverFiles(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(func(o *evidence.Options) { o.RowsPerFile = 7 })
	a, b := table(t, dir, "CC7.2/population.csv"), table(t, dir, "CC7.2/population-002.csv")
	if len(a) != 7 || len(b) != 7 {
		t.Errorf("%d and %d rows", len(a), len(b))
	}
	if r := check(t, s, dir); r.ExitCode != verify.ExitIncomplete {
		t.Errorf("exit %d: %v", r.ExitCode, r.Problems)
	}
}

func TestAWindowThatHasNotPassedIsToldOf(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(func(o *evidence.Options) { o.To = end.Add(48 * time.Hour) })
	for _, r := range table(t, dir, "00-summary/exceptions.csv") {
		if r["id"] == "IPE-05" && r["outcome"] != derive.OutcomeException {
			t.Errorf("IPE-05: %s", r["outcome"])
		}
	}
	if r := check(t, s, dir); !slices.ContainsFunc(r.Incomplete, func(s string) bool { return strings.Contains(s, "IPE-05") }) {
		t.Errorf("incomplete: %v", r.Incomplete)
	}
}

func TestAnEmptyBookGivesNoPackage(t *testing.T) {
	s := newScenario(t)
	_, err := evidence.Build(t.Context(), s.source(), s.options(), filepath.Join(t.TempDir(), "p"))
	if err == nil || !strings.Contains(err.Error(), "no checkpoint signs an entry yet") {
		t.Errorf("error: %v", err)
	}
}

func TestManyEntriesFillWholeTiles(t *testing.T) {
	s := newScenario(t)
	s.to(start)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: true, Previous: -1, Epoch: 1, Key: s.key.Verifier()})
	drafts := make([]guardbook.Draft, 700)
	for i := range drafts {
		drafts[i] = guardbook.Draft{Type: guardbook.TypeRefusal, Time: start, Body: guardbook.RefusalEntry{Path: "inspect", Status: 400, Code: "malformed_json"}}
	}
	if _, err := s.book.Append(t.Context(), drafts...); err != nil {
		t.Fatal(err)
	}
	s.seal()
	dir := s.build(nil)
	if r := check(t, s, dir); r.ExitCode != verify.ExitIncomplete {
		t.Errorf("exit %d: %v", r.ExitCode, r.Problems)
	}
}

func TestLateAndEarlyEntriesAreCounted(t *testing.T) {
	s := newScenario(t)
	s.to(start)
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: true, Previous: -1, Epoch: 1, Key: s.key.Verifier()})
	d := guardbook.DecisionEntry{Agent: "a", Kind: guardbook.KindInput, Decision: guardbook.ActionAllow, Findings: []guardbook.Finding{}, Layers: []guardbook.LayerRun{}}
	for _, at := range []time.Time{start.Add(-time.Second), start, end.Add(-time.Second), end} {
		s.to(latest(at, s.now()).Add(2 * time.Second))
		if _, err := s.book.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeDecision, Time: at, Body: d}); err != nil {
			t.Fatal(err)
		}
	}
	s.seal()
	dir := s.build(nil)
	b, err := os.ReadFile(filepath.Join(dir, "CC7.2/population.ipe.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"row_count": 2`, `"late_arrivals": 1`, `"count": 1,`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("ipe.json lacks %s:\n%s", want, b)
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
