package evidence_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/evidence"
	"github.com/guardbook/guardbook/evidence/derive"
)

const policyText = `policy: billing-bot
version: 1
owner: payments@example.com
agents: ["billing-bot"]
tools:
  - name: query_database
    allow:
      query: {type: sql, statements: [select], tables: [products]}
  - name: "mail_*"
    allow: {}
  - name: "fs_*"
    deny: "no business with files"
---
policy: shop
version: 1
agents: ["shop-*"]
mode: monitor
tools:
  - name: "*"
    allow: {}
`

// scenario is a real book in which everything happens that the listings tell of.
type scenario struct {
	t     *testing.T
	data  string
	key   *book.Key
	book  *book.Book
	at    time.Time
	clock sync.Mutex
	ids   map[string]string // name -> entry id
	sum   string            // of policyText
}

var (
	start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	end   = start.Add(24 * time.Hour)
)

func newScenario(t *testing.T) *scenario {
	t.Helper()
	s := &scenario{t: t, data: t.TempDir(), at: start.Add(-time.Hour), ids: map[string]string{}}
	var err error
	if s.key, _, err = book.LoadKey(filepath.Join(s.data, "signing-key")); err != nil {
		t.Fatal(err)
	}
	s.book, err = book.Open(filepath.Join(s.data, "book"), book.Options{Key: s.key, Durability: book.Balanced, SealEvery: time.Hour, Now: s.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.book.Close() })
	sum := sha256.Sum256([]byte(policyText))
	s.sum = hex.EncodeToString(sum[:])
	blobs := filepath.Join(s.data, "bundles", "blobs")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(blobs, s.sum+".yaml"), []byte(policyText), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scenario) now() time.Time {
	s.clock.Lock()
	defer s.clock.Unlock()
	return s.at
}

// to moves the clock.
func (s *scenario) to(at time.Time) {
	s.clock.Lock()
	defer s.clock.Unlock()
	s.at = at
}

// add appends one entry at the scenario's time and moves a millisecond on.
func (s *scenario) add(name string, kind guardbook.EntryType, body any) string {
	return s.addAs(name, "", kind, body)
}

func (s *scenario) addAs(name, id string, kind guardbook.EntryType, body any) string {
	s.t.Helper()
	r, err := s.book.Append(s.t.Context(), guardbook.Draft{ID: id, Type: kind, Time: s.now(), Body: body})
	if err != nil {
		s.t.Fatal(err)
	}
	s.to(s.now().Add(time.Millisecond))
	if name != "" {
		s.ids[name] = r[0].ID
	}
	return r[0].ID
}

func (s *scenario) decide(name string, change func(*guardbook.DecisionEntry)) string {
	d := guardbook.DecisionEntry{Agent: "billing-bot", Session: "s-1", Kind: guardbook.KindInput, Path: "inspect", Layers: []guardbook.LayerRun{{Name: "L1", Version: "core/1", Micros: 10}},
		Findings: []guardbook.Finding{}, Decision: guardbook.ActionAllow, Policy: "billing-bot", Bundle: "sha256:aaa", Mode: guardbook.ModeEnforce, Commitment: "sha256:00"}
	if change != nil {
		change(&d)
	}
	return s.add(name, guardbook.TypeDecision, d)
}

// beats appends heartbeats every 30 s until a time.
func (s *scenario) beats(until time.Time, boot string, interactions int64) {
	for s.now().Before(until) {
		s.add("", guardbook.TypeHeartbeat, guardbook.HeartbeatEntry{Boot: boot, Interval: 30000, Bundle: "sha256:aaa", Counters: map[string]int64{"interactions": interactions}})
		s.to(s.now().Add(30 * time.Second))
	}
}

// play writes a day on which everything happens.
func (s *scenario) play() {
	s.add("start", guardbook.TypeStart, guardbook.StartEntry{Version: "0.1.0", Boot: "b1", Clean: true, Previous: -1, Epoch: 1, Durable: "balanced", Key: s.key.Verifier()})
	files := []guardbook.PolicyFile{{Name: "all.yaml", SHA256: s.sum}}
	refs := []guardbook.PolicyRef{
		{Policy: "billing-bot", File: "all.yaml", Owner: "payments@example.com", Mode: guardbook.ModeEnforce, Agents: []string{"billing-bot"}},
		{Policy: "shop", File: "all.yaml", Mode: guardbook.ModeMonitor, Agents: []string{"shop-*"}},
	}
	s.add("applied", guardbook.TypePolicy, guardbook.PolicyEntry{Trigger: "start", Outcome: "applied", Bundle: "sha256:aaa", Files: files, Policies: refs})
	for _, a := range []guardbook.AgentEntry{{Agent: "billing-bot", Owner: "pay@example.com"}, {Agent: "shop-1"}, {Agent: "quiet"}, {Agent: "gone", Owner: "x"}} {
		a.Op, a.By, a.Key = "created", "admin", "k-"+a.Agent
		s.add("agent "+a.Agent, guardbook.TypeAgent, a)
	}
	s.beats(start.Add(time.Minute), "b1", 0)

	s.decide("clean", nil)
	s.decide("allowed call", func(d *guardbook.DecisionEntry) {
		d.Kind, d.Tool = guardbook.KindToolCall, &guardbook.ToolRef{Name: "query_database"}
	})
	blocked := s.decide("blocked call", func(d *guardbook.DecisionEntry) {
		d.Kind, d.Tool, d.Decision, d.Severity, d.Alert = guardbook.KindToolCall, &guardbook.ToolRef{Name: "query_database"}, guardbook.ActionBlock, guardbook.High, "oncall"
		d.Rule, d.Message = "billing-bot/tools/query_database/query", "Blocked."
		d.Findings = []guardbook.Finding{{Class: guardbook.ClassToolMisuse, Severity: guardbook.High, Confidence: 1, Rule: d.Rule, Layer: "policy"}}
	})
	s.add("opened", guardbook.TypeAlert, guardbook.AlertEntry{Op: "opened", Alert: blocked, Key: "k1", Agent: "billing-bot", Session: "s-1", Rule: "billing-bot/tools/query_database/query",
		Class: guardbook.ClassToolMisuse, Severity: guardbook.High, Title: "=HYPERLINK(\"http://evil\")", Receiver: "oncall", Event: blocked, Count: 1})
	s.add("sent", guardbook.TypeNotification, guardbook.NotificationEntry{Alert: blocked, Receiver: "oncall", Via: "webhook", Attempt: 1, Outcome: "failed", Status: 500, Error: "500"})
	s.decide("same again", func(d *guardbook.DecisionEntry) {
		d.Kind, d.Tool, d.Decision, d.Severity, d.Alert = guardbook.KindToolCall, &guardbook.ToolRef{Name: "query_database"}, guardbook.ActionBlock, guardbook.High, "oncall"
		d.Rule = "billing-bot/tools/query_database/query"
	})
	s.decide("no alert", func(d *guardbook.DecisionEntry) {
		d.Decision, d.Severity, d.Rule = guardbook.ActionBlock, guardbook.Critical, "billing-bot/findings/prompt_injection"
		d.Findings = []guardbook.Finding{{Class: guardbook.ClassPromptInjection, Severity: guardbook.Critical, Confidence: 0.9, Rule: "pi-1", Layer: "L1"}}
	})
	s.decide("timeout", func(d *guardbook.DecisionEntry) {
		d.Layers[0].Error, d.FailOpen = "timeout", true
	})
	s.decide("incomplete", func(d *guardbook.DecisionEntry) { d.Layers[0].Error = "incomplete: 10 of 20 bytes" })
	s.decide("monitor", func(d *guardbook.DecisionEntry) {
		d.Agent, d.Policy, d.Mode, d.Kind, d.Tool = "shop-1", "shop", guardbook.ModeMonitor, guardbook.KindToolCall, &guardbook.ToolRef{Name: "pay\u202e\x1b[31m"}
		d.Would, d.Rule = guardbook.ActionBlock, "shop/tools"
	})
	s.decide("seq 1", func(d *guardbook.DecisionEntry) { d.Session, d.ClientSeq = "s-9", 1 })
	s.decide("seq 4", func(d *guardbook.DecisionEntry) { d.Session, d.ClientSeq = "s-9", 4 })
	// A process of an SDK: what it could not ask about it tells later, so that no number is missing.
	s.decide("sdk 1", func(d *guardbook.DecisionEntry) { d.Session, d.Client, d.ClientSeq = "s-10", "p-1", 1 })
	s.decide("sdk 3", func(d *guardbook.DecisionEntry) { d.Session, d.Client, d.ClientSeq = "s-11", "p-1", 3 })
	s.add("sdk 2", guardbook.TypeClient, guardbook.ClientEntry{Agent: "billing-bot", Client: "p-1", Event: "unguarded", ClientSeq: 2, Kind: guardbook.KindInput, Reason: "connection refused"})
	s.add("sdk 4", guardbook.TypeClient, guardbook.ClientEntry{Agent: "billing-bot", Client: "p-1", Event: "refused", ClientSeq: 4, Kind: guardbook.KindToolCall, Reason: "connection refused"})
	s.decide("stranger", func(d *guardbook.DecisionEntry) {
		d.Agent, d.Policy, d.Decision = "nobody", "", guardbook.ActionBlock
		d.Rule = "no-policy"
	})
	s.decide("unknown bundle", func(d *guardbook.DecisionEntry) { d.Bundle = "sha256:zzz" })
	s.add("removed", guardbook.TypeAgent, guardbook.AgentEntry{Op: "removed", Agent: "gone", By: "admin"})
	s.decide("after removal", func(d *guardbook.DecisionEntry) { d.Agent = "gone" })
	s.add("pass", guardbook.TypePassthrough, guardbook.PassthroughEntry{Agent: "billing-bot", Path: "openai", Method: "GET", Endpoint: "/v1/models", Rule: "endpoints", Policy: "billing-bot", Bundle: "sha256:aaa"})
	s.add("rejected", guardbook.TypePolicy, guardbook.PolicyEntry{Trigger: "file_change", Outcome: "rejected", Bundle: "sha256:aaa", Rejected: "sha256:bad", Error: "all.yaml:3:1: unknown field", Files: files, Policies: refs})
	s.add("degraded", guardbook.TypeDegraded, guardbook.DegradedEntry{From: s.now().Add(-3 * time.Millisecond).Format(guardbook.TimeLayout), To: s.now().Format(guardbook.TimeLayout), Error: "disk full",
		Refused: map[string]int64{"input": 2}, Allowed: map[string]int64{"output": 1}})

	kill := "0195f000-0000-7000-8000-000000000001"
	s.addAs("kill", kill, guardbook.TypeContainment, guardbook.ContainmentEntry{Op: "kill", Containment: kill, Scope: "agent:shop-1", By: "ann", Reason: "leaks", EffectiveAt: s.now().Format(guardbook.TimeLayout)})
	s.decide("refused", func(d *guardbook.DecisionEntry) {
		d.Agent, d.Decision, d.Severity, d.Rule, d.Containment, d.Alert = "shop-1", guardbook.ActionBlock, guardbook.High, "containment/agent:shop-1", kill, "oncall"
	})
	s.add("cut", guardbook.TypeStream, guardbook.StreamEntry{Agent: "shop-1", Session: "s", Path: "openai", Stream: "x", Phase: "close", Outcome: "contained", Containment: kill})
	s.decide("leak", func(d *guardbook.DecisionEntry) { d.Agent, d.Policy = "shop-1", "shop" })
	s.add("lift", guardbook.TypeContainment, guardbook.ContainmentEntry{Op: "lift", Containment: kill, Scope: "agent:shop-1", By: "ann", Reason: "mended", EffectiveAt: s.now().Format(guardbook.TimeLayout), Refused: 1, CutStreams: 1})
	s.add("login", guardbook.TypeOperator, guardbook.OperatorEntry{Op: "login", By: "ann", Detail: map[string]string{"via": "password"}})
	s.beats(start.Add(10*time.Minute), "b1", 15)

	s.to(start.Add(41 * time.Minute)) // a crash
	s.add("start2", guardbook.TypeStart, guardbook.StartEntry{Version: "0.1.0", Boot: "b2", Clean: false, Previous: s.book.Size() - 1, Epoch: 1, Durable: "balanced", Key: s.key.Verifier()})
	s.beats(start.Add(45*time.Minute), "b2", 0)
	s.to(start.Add(3 * time.Hour))
	s.add("ack", guardbook.TypeAlert, guardbook.AlertEntry{Op: "acknowledged", Alert: blocked, Key: "k1", Agent: "billing-bot", Severity: guardbook.High, By: "ann", Owner: "ann"})
	s.add("closed", guardbook.TypeAlert, guardbook.AlertEntry{Op: "closed", Alert: blocked, Key: "k1", Agent: "billing-bot", Severity: guardbook.High, By: "ann"})
	s.to(end.Add(time.Minute))
	s.add("stop", guardbook.TypeStop, guardbook.StopEntry{Boot: "b2", Reason: "signal"})
	s.seal()
}

func (s *scenario) seal() {
	s.t.Helper()
	if _, err := s.book.Seal(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// source opens the book beside the writer, as the command does.
func (s *scenario) source() evidence.Source {
	s.t.Helper()
	r, err := book.OpenReader(filepath.Join(s.data, "book"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	return evidence.FromBook(r, filepath.Join(s.data, "bundles", "blobs"))
}

func (s *scenario) options() evidence.Options {
	return evidence.Options{Organisation: "Acme", Environment: "prod", From: start, To: end, Key: s.key, By: "j.doe",
		Tool: derive.Tool{Version: "0.1.0", Commit: "abc"}}
}

// build builds a package and returns its folder.
func (s *scenario) build(change func(*evidence.Options)) string {
	s.t.Helper()
	o := s.options()
	if change != nil {
		change(&o)
	}
	dir := filepath.Join(s.t.TempDir(), "package")
	if _, err := evidence.Build(s.t.Context(), s.source(), o, dir); err != nil {
		s.t.Fatal(err)
	}
	return dir
}
