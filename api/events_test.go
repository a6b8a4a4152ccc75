package api_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/api"
	"github.com/guardbook/guardbook/archive"
)

func injection(severity guardbook.Severity) guardbook.DecisionEntry {
	return guardbook.DecisionEntry{Decision: guardbook.ActionBlock, Severity: severity, Rule: "billing-bot/findings/prompt_injection",
		Tool: &guardbook.ToolRef{Name: "query_database"}, Alert: "security-oncall",
		Findings: []guardbook.Finding{{Class: guardbook.ClassPromptInjection, Severity: severity, Confidence: 0.9, Rule: "pi-1", Layer: "L1"}}}
}

func allowed() guardbook.DecisionEntry {
	return guardbook.DecisionEntry{Decision: guardbook.ActionAllow}
}

func TestEventsAreTheBytesOfTheBook(t *testing.T) {
	w := newWorld(t)
	e := w.decided(t, "billing-bot", injection(guardbook.High))[0]
	for path, who := range map[string]as{
		"/api/v1/events?agent=billing-bot": w.admin(),
		"/api/v1/events?type=decision":     {"Authorization": "Bearer " + w.token, "Accept": "application/x-ndjson"},
		"/api/v1/events/" + e.ID:           w.admin(),
	} {
		if a := w.callAs(t, who, "GET", path, nil).want(t, 200); !bytes.Contains(a.body, e.Raw) {
			t.Errorf("%s: %s does not hold the entry's bytes %s", path, a.body, e.Raw)
		}
	}
	lines := w.callAs(t, as{"Authorization": "Bearer " + w.token, "Accept": "application/x-ndjson"}, "GET", "/api/v1/events?order=asc&limit=1000", nil).want(t, 200)
	all, err := w.book.Read(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(lines.body, []byte("\n")), []byte("\n")) {
		if !bytes.Equal(line, all[i].Raw) {
			t.Errorf("line %d is %s, want %s", i, line, all[i].Raw)
		}
	}
}

// seqs are the sequence numbers that an answer lists.
func seqs(t *testing.T, a answer) []int64 {
	t.Helper()
	var list struct {
		Events []struct {
			Seq int64 `json:"seq"`
		} `json:"events"`
	}
	a.into(t, &list)
	out := []int64{}
	for _, e := range list.Events {
		out = append(out, e.Seq)
	}
	return out
}

func TestPagesOfEventsFollowOneAnother(t *testing.T) {
	w := newWorld(t)
	var decisions []guardbook.DecisionEntry
	for range 25 {
		decisions = append(decisions, allowed())
	}
	var want []int64
	for _, e := range w.decided(t, "billing-bot", decisions...) {
		want = append(want, e.Seq)
	}
	for _, order := range []string{"asc", "desc"} {
		var got []int64
		path := "/api/v1/events?type=decision&limit=7&order=" + order
		for next := path; ; {
			page := seqs(t, w.call(t, "GET", next, nil).want(t, 200))
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			place := map[string]string{"asc": "after", "desc": "before"}[order]
			next = fmt.Sprintf("%s&%s=%d", path, place, page[len(page)-1])
		}
		if order == "desc" {
			slices.Reverse(got)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", order, diff)
		}
	}
	newest := seqs(t, w.call(t, "GET", "/api/v1/events?type=decision&limit=1", nil).want(t, 200))
	oldest := seqs(t, w.call(t, "GET", "/api/v1/events?type=decision&limit=1&after=-1", nil).want(t, 200))
	if newest[0] != want[24] || oldest[0] != want[0] {
		t.Errorf("the first of the list is %d, behind -1 it is %d", newest[0], oldest[0])
	}
}

func TestFiltersNarrowTheList(t *testing.T) {
	w := newWorld(t)
	low, high := injection(guardbook.Low), injection(guardbook.High)
	high.Session = "s-2"
	es := w.decided(t, "billing-bot", allowed(), low, high)
	for q, want := range map[string][]int64{
		"agent=billing-bot&type=decision": {es[0].Seq, es[1].Seq, es[2].Seq},
		"agent=other":                     {},
		"session=s-2&type=decision":       {es[2].Seq},
		"class=prompt_injection":          {es[1].Seq, es[2].Seq},
		"class=pii":                       {},
		"type=decision&severity=medium":   {es[2].Seq},
		"action=block":                    {es[1].Seq, es[2].Seq},
		"tool=query_database":             {es[1].Seq, es[2].Seq},
		"rule=billing-bot/findings/prompt_injection&type=decision": {es[1].Seq, es[2].Seq},
		"type=decision&until=2001-01-01T00:00:00Z":                 {},
	} {
		if diff := cmp.Diff(want, seqs(t, w.call(t, "GET", "/api/v1/events?order=asc&"+q, nil).want(t, 200))); diff != "" {
			t.Errorf("%s: %s", q, diff)
		}
	}
}

func TestAnEventComesWithItsProofItsPolicyAndItsRules(t *testing.T) {
	w := newWorld(t)
	e := w.decided(t, "billing-bot", injection(guardbook.High))[0]
	// The policy in force changes afterwards: the event keeps the text of its time.
	path := filepath.Join(w.dir, "policies", "billing.yaml")
	if err := os.WriteFile(path, []byte(billingPolicy+"limits: {tool_calls_per_minute: 5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.policies.Reload(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Proof  string
		Policy struct{ Name, File, Bundle, Text string }
		Rules  map[string]string
	}
	a := w.call(t, "GET", "/api/v1/events/"+e.ID, nil).want(t, 200)
	a.into(t, &got)
	if got.Policy.Text != billingPolicy || got.Policy.File != "billing.yaml" || got.Policy.Name != "billing-bot" {
		t.Errorf("policy %+v", got.Policy)
	}
	if got.Rules["pi-1"] == "" {
		t.Errorf("rules %v", got.Rules)
	}
	if !strings.HasPrefix(got.Proof, "c2sp.org/tlog-proof@v1\n") || !strings.Contains(got.Proof, fmt.Sprintf("index %d\n", e.Seq)) {
		t.Errorf("proof %q", got.Proof)
	}
}

func TestReadsOfEvidenceAreInTheBookOnceInAWhile(t *testing.T) {
	w := newWorld(t)
	e := w.decided(t, "billing-bot", allowed())[0]
	for range 3 {
		w.call(t, "GET", "/api/v1/events?agent=billing-bot&limit=5", nil).want(t, 200)
		w.call(t, "GET", "/api/v1/events?agent=billing-bot&limit=7&after=1", nil).want(t, 200)
		w.call(t, "GET", "/api/v1/events/"+e.ID, nil).want(t, 200)
		w.call(t, "GET", "/api/v1/book/checkpoint", nil).want(t, 200)
	}
	w.call(t, "GET", "/api/v1/events?agent=other", nil).want(t, 200)
	want := []string{"events_read by admin-token", "event_read by admin-token", "book_read by admin-token", "events_read by admin-token"}
	if diff := cmp.Diff(want, w.operatorOps(t)); diff != "" {
		t.Error(diff)
	}
}

func TestAgentsAreRegisteredRotatedListedAndRemoved(t *testing.T) {
	w := newWorld(t)
	var made struct{ Agent, Key string }
	w.call(t, "POST", "/api/v1/agents", map[string]string{"name": "billing-bot", "owner": "pay@example.com", "purpose": "bills"}).want(t, 201).into(t, &made)
	if agent, _, ok := w.access.Authenticate(made.Key); agent != "billing-bot" || !ok {
		t.Errorf("the key opens for %q", agent)
	}
	before := time.Now()
	w.decided(t, "billing-bot", allowed(), injection(guardbook.High))
	old := made.Key
	w.call(t, "POST", "/api/v1/agents/billing-bot/rotate", map[string]string{"overlap": "2h"}).want(t, 200).into(t, &made)
	if _, _, ok := w.access.Authenticate(old); !ok {
		t.Error("the old key stopped within the overlap")
	}
	w.call(t, "POST", "/api/v1/agents/billing-bot/rotate", nil).want(t, 200)
	var list struct {
		Agents []struct {
			Agent, Owner, Policy, Mode, LastSeen, Key string
			Decisions                                 map[string]int64
		}
	}
	a := w.call(t, "GET", "/api/v1/agents", nil).want(t, 200)
	if err := json.Unmarshal(a.body, &list, json.MatchCaseInsensitiveNames(true)); err != nil || len(list.Agents) != 1 {
		t.Fatalf("%s: %v", a.body, err)
	}
	got := list.Agents[0]
	if got.Policy != "billing-bot" || got.Mode != "enforce" || got.Decisions["block"] != 1 || got.Decisions["allow"] != 1 || got.LastSeen == "" {
		t.Errorf("agent %+v", got)
	}
	if strings.Contains(string(a.body), old) || strings.Contains(string(a.body), made.Key) {
		t.Error("the list shows a key")
	}
	w.call(t, "DELETE", "/api/v1/agents/billing-bot", nil).want(t, 204)
	w.call(t, "DELETE", "/api/v1/agents/billing-bot", nil).want(t, 404)
	then := w.call(t, "GET", "/api/v1/agents?at="+before.UTC().Format(time.RFC3339Nano), nil).want(t, 200)
	now := w.call(t, "GET", "/api/v1/agents", nil).want(t, 200)
	if !strings.Contains(string(then.body), "billing-bot") || strings.Contains(string(now.body), "billing-bot") {
		t.Errorf("then %s, now %s", then.body, now.body)
	}
}

func TestKillAndLift(t *testing.T) {
	w := newWorld(t)
	var killed struct{ Entry, Scope, EffectiveAt string }
	a := w.call(t, "POST", "/api/v1/kill", map[string]string{"scope": "billing-bot", "reason": "sends data out", "for": "2h"}).want(t, 200)
	if err := json.Unmarshal(a.body, &killed, json.MatchCaseInsensitiveNames(true)); err != nil || killed.Scope != "agent:billing-bot" || killed.EffectiveAt == "" {
		t.Errorf("%s: %v", a.body, err)
	}
	w.settle(t)
	e := w.call(t, "GET", "/api/v1/events/"+killed.Entry, nil).want(t, 200)
	if !strings.Contains(string(e.body), `"by":"admin-token"`) || !strings.Contains(string(e.body), "sends data out") {
		t.Errorf("the entry is %s", e.body)
	}
	if l := w.call(t, "GET", "/api/v1/containments", nil).want(t, 200); !strings.Contains(string(l.body), "agent:billing-bot") {
		t.Errorf("containments %s", l.body)
	}
	w.call(t, "POST", "/api/v1/lift", map[string]string{"scope": "billing-bot", "reason": "mended"}).want(t, 200)
	if l := w.call(t, "GET", "/api/v1/containments", nil).want(t, 200); strings.Contains(string(l.body), "billing-bot") {
		t.Errorf("containments %s", l.body)
	}
}

func TestAnAlertIsAcknowledgedAssignedAndClosed(t *testing.T) {
	w := newWorld(t)
	w.decided(t, "billing-bot", injection(guardbook.High))
	var list struct {
		Alerts []struct {
			Alert, State string
		}
	}
	eventually(t, "an alert is opened", func() bool {
		a := w.call(t, "GET", "/api/v1/alerts?state=open", nil).want(t, 200)
		return json.Unmarshal(a.body, &list, json.MatchCaseInsensitiveNames(true)) == nil && len(list.Alerts) == 1
	})
	path := "/api/v1/alerts/" + list.Alerts[0].Alert
	eventually(t, "its opening is in the book", func() bool {
		return w.call(t, "POST", path+"/ack", map[string]string{"comment": "looking"}).status == 200
	})
	w.call(t, "POST", path+"/ack", nil).want(t, 409)
	w.call(t, "POST", path+"/assign", map[string]string{"owner": "ann"}).want(t, 200)
	w.call(t, "POST", path+"/close", map[string]string{"disposition": "fine"}).want(t, 400)
	w.call(t, "POST", path+"/close", map[string]string{"disposition": "true_positive", "comment": "killed it"}).want(t, 200)
	w.call(t, "POST", path+"/close", map[string]string{"disposition": "true_positive", "comment": "again"}).want(t, 409)
	a := w.call(t, "GET", path, nil).want(t, 200)
	for _, op := range []string{"opened", "acknowledged", "assigned", "closed"} {
		if !strings.Contains(string(a.body), `"op":"`+op+`"`) {
			t.Errorf("no step %s in %s", op, a.body)
		}
	}
	if a := w.call(t, "GET", "/api/v1/alerts?state=closed&agent=billing-bot", nil).want(t, 200); !strings.Contains(string(a.body), "true_positive") {
		t.Errorf("closed alerts %s", a.body)
	}
}

func TestPoliciesNowAndThen(t *testing.T) {
	w := newWorld(t)
	first := w.policies.Current().Hash
	time.Sleep(2 * time.Millisecond) // entries tell time to the microsecond
	between := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(2 * time.Millisecond)
	changed := strings.Replace(billingPolicy, "mode: enforce", "mode: monitor", 1)
	if err := os.WriteFile(filepath.Join(w.dir, "policies", "billing.yaml"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.policies.Reload(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	read := func(path string) (b struct {
		Bundle   string
		Policies []struct{ Policy, Mode, Text string }
		Policy   struct{ Policy, Mode string }
	}) {
		w.call(t, "GET", path, nil).want(t, 200).into(t, &b)
		return b
	}
	if b := read("/api/v1/policies"); b.Bundle == first || b.Policies[0].Mode != "monitor" || b.Policies[0].Text != changed {
		t.Errorf("now: %+v", b)
	}
	if b := read("/api/v1/policies/at?agent=billing-bot&time=" + between); b.Bundle != first || b.Policy.Mode != "enforce" {
		t.Errorf("then: %+v", b)
	}
	if b := read("/api/v1/policies/at?agent=nobody&time=" + between); b.Policy.Policy != "" {
		t.Errorf("for an agent without policy: %+v", b.Policy)
	}
	if b := read("/api/v1/bundles/" + first); b.Policies[0].Text != billingPolicy {
		t.Errorf("by its hash: %+v", b)
	}
}

func TestTheBookIsServedInTheFormatsOfC2SP(t *testing.T) {
	w := newWorld(t)
	w.decided(t, "billing-bot", allowed(), allowed())
	c, err := w.book.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a := w.call(t, "GET", "/api/v1/book/checkpoint", nil).want(t, 200); !bytes.HasPrefix(a.body, []byte(w.book.Origin()+"\n")) {
		t.Errorf("checkpoint %q", a.body)
	}
	tile := fmt.Sprintf("0/000.p/%d", c.Size)
	if a := w.call(t, "GET", "/api/v1/book/tile/"+tile, nil).want(t, 200); int64(len(a.body)) != 32*c.Size {
		t.Errorf("tile %s has %d bytes, want %d", tile, len(a.body), 32*c.Size)
	}
	if a := w.call(t, "GET", fmt.Sprintf("/api/v1/book/tile/entries/000.p/%d", c.Size), nil).want(t, 200); !bytes.Contains(a.body, []byte("billing-bot")) {
		t.Errorf("entries %q", a.body)
	}
	if a := w.call(t, "GET", "/api/v1/book/proof/0", nil).want(t, 200); !bytes.HasPrefix(a.body, []byte("c2sp.org/tlog-proof@v1\n")) {
		t.Errorf("proof %q", a.body)
	}
	var b struct {
		Origin, Key, Fingerprint string
		Size                     int64
	}
	a := w.call(t, "GET", "/api/v1/book", nil).want(t, 200)
	if err := json.Unmarshal(a.body, &b, json.MatchCaseInsensitiveNames(true)); err != nil || b.Origin != w.book.Origin() || b.Key == "" || b.Size < c.Size {
		t.Errorf("book %s: %v", a.body, err)
	}
}

func TestAnEvidencePackageIsInTheBookBeforeItLeaves(t *testing.T) {
	w := newWorld(t)
	a := w.call(t, "POST", "/api/v1/evidence", map[string]string{"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}).want(t, 200)
	if _, err := zip.NewReader(bytes.NewReader(a.body), int64(len(a.body))); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(a.body)
	w.call(t, "POST", "/api/v1/evidence/record", map[string]string{"op": "evidence_sampled", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z",
		"sha256": strings.Repeat("a", 64)}).want(t, 201)
	want := []string{"evidence_built by admin-token", "evidence_sampled by admin-token"}
	if diff := cmp.Diff(want, w.operatorOps(t)); diff != "" {
		t.Error(diff)
	}
	w.settle(t)
	if l := w.call(t, "GET", "/api/v1/events?type=operator", nil).want(t, 200); !bytes.Contains(l.body, []byte(hex.EncodeToString(sum[:]))) {
		t.Errorf("the package's hash is not in the book: %s", l.body)
	}
}

func TestTheOverviewCounts(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.access.Create(t.Context(), access.NewAgent{Name: "billing-bot"}, "test"); err != nil {
		t.Fatal(err)
	}
	w.decided(t, "billing-bot", allowed(), allowed(), injection(guardbook.High))
	w.call(t, "POST", "/api/v1/kill", map[string]string{"scope": "billing-bot", "reason": "x"}).want(t, 200)
	var got struct {
		Agents       int
		Containments int
		Decisions    map[string]int64
		Minutes      []struct {
			Time    string
			Actions map[string]int64
		}
		Size int64
	}
	for range 2 { // counted, and counted again out of memory
		a := w.call(t, "GET", "/api/v1/overview", nil).want(t, 200)
		a.into(t, &got)
		sum := map[string]int64{}
		for _, m := range got.Minutes {
			for k, n := range m.Actions {
				sum[k] += n
			}
		}
		want := map[string]int64{"allow": 2, "block": 1}
		if got.Agents != 1 || got.Containments != 1 || !cmp.Equal(got.Decisions, want) || !cmp.Equal(sum, want) {
			t.Errorf("overview %s", a.body)
		}
	}
}

func TestReadyTellsWhyNot(t *testing.T) {
	w := newWorld(t, func(o *api.Options) { o.Ready = func() []string { return []string{"the archive is far behind"} } })
	if a := w.call(t, "GET", "/readyz", nil).want(t, 503); !strings.Contains(string(a.body), "far behind") {
		t.Errorf("%s", a.body)
	}
}

func TestMetricsAreWhatPrometheusReads(t *testing.T) {
	w := newWorld(t)
	w.call(t, "GET", "/api/v1/session", nil).want(t, 200)
	a := w.call(t, "GET", "/metrics", nil).want(t, 200)
	for _, want := range []string{"guardbook_interactions_total 3", `guardbook_decisions_total{action="block"} 1`, `guardbook_layer_runs_total{layer="L1"} 3`,
		"guardbook_book_writable 1", "guardbook_book_entries ", `guardbook_build_info{version="1.2.3"} 1`,
		`guardbook_api_requests_total{route="GET /api/v1/session",status="200"} 1`, "go_goroutines "} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestCountersBecomeMetrics(t *testing.T) {
	for name, want := range map[string][3]string{
		"fail_open": {"guardbook_fail_open_total", "", ""}, "decision.hold": {"guardbook_decisions_total", "action", "hold"},
		"kind.input": {"guardbook_kinds_total", "kind", "input"}, "path.openai/chat": {"guardbook_paths_total", "path", "openai/chat"},
		"layer.L1.errors": {"guardbook_layer_errors_total", "layer", "L1"}, "a-b.c": {"guardbook_a_b_total", "name", "c"},
	} {
		metric, label, value := api.CounterName(name)
		if got := [3]string{metric, label, value}; got != want {
			t.Errorf("%s becomes %q, want %q", name, got, want)
		}
	}
}

var _ api.Archive = archive.Archive(nil)
