package guard_test

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/guard"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/respond"
)

const billing = `
policy: billing-bot
version: 1
owner: payments-team@example.com
agents: ["billing-bot"]
mode: enforce
on_error: {input: allow, tool_call: block}
tools:
  - name: query_database
    allow:
      query: {type: sql, dialect: postgres, statements: [select], tables: [products, orders], require_where: true, max_limit: 500}
  - name: note
    allow: {text: {type: string, max_length: 200}}
findings:
  - {class: prompt_injection, channels: [input, tool_result], threshold: 0.8, action: block, severity: critical}
  - {class: secret, channels: [input, output, tool_call], action: redact, severity: high}
  - {class: pii, channels: [output], action: flag, severity: low}
limits: {tool_calls_per_minute: 3}
alerts: {from: high, to: security-oncall}
`

// memory is a book that keeps its drafts and can be told to fail.
type memory struct {
	mu     sync.Mutex
	drafts []guardbook.Draft
	fail   error
}

func (m *memory) Append(_ context.Context, d ...guardbook.Draft) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.drafts = append(m.drafts, d...)
	return nil
}

func (m *memory) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	return m.Append(ctx, d...)
}

func (m *memory) last(t *testing.T) guardbook.DecisionEntry {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.drafts[len(m.drafts)-1].Body.(guardbook.DecisionEntry)
	if !ok {
		t.Fatalf("the last entry is no decision: %T", m.drafts[len(m.drafts)-1].Body)
	}
	return e
}

// word is a detector that finds a word as a class with full confidence.
type word struct {
	find  string
	class guardbook.Class
	ran   atomic.Int64
	do    func(context.Context) error
}

func (w *word) Layer() string   { return "L1" }
func (w *word) Version() string { return "word/" + w.find }

func (w *word) Detect(ctx context.Context, in *guardbook.Interaction) ([]guardbook.Finding, error) {
	w.ran.Add(1)
	if w.do != nil {
		if err := w.do(ctx); err != nil {
			return nil, err
		}
	}
	texts, err := in.Texts()
	var out []guardbook.Finding
	for _, t := range texts {
		for at := 0; ; {
			i := strings.Index(t.Text[at:], w.find)
			if i < 0 {
				break
			}
			at += i
			out = append(out, guardbook.Finding{Class: w.class, Severity: guardbook.Medium, Confidence: 1, Rule: "word", Layer: "L1",
				Span: &guardbook.Span{Path: t.Path, Start: at, End: at + len(w.find)}})
			at += len(w.find)
		}
	}
	return out, err
}

// Hold holds what could be the beginning of the word.
func (w *word) Hold(_ guardbook.Kind, text string) int {
	for n := min(len(w.find)-1, len(text)); n > 0; n-- {
		if strings.HasPrefix(w.find, text[len(text)-n:]) {
			return n
		}
	}
	return 0
}

type house struct {
	*guard.Guard
	book         *memory
	containments *respond.Containments
}

func newGuard(t *testing.T, source string, detectors ...guardbook.Detector) house {
	t.Helper()
	bundle, err := policy.NewBundle([]policy.File{{Name: "p.yaml", Source: []byte(source)}})
	if err != nil {
		t.Fatal(err)
	}
	h := house{book: &memory{}}
	h.containments = respond.NewContainments(h.book, nil)
	h.Guard = guard.New(guard.Options{
		Book: h.book, Bundle: func() *policy.Bundle { return bundle }, Containments: h.containments,
		Detectors: detectors, CommitmentKey: make([]byte, 32), Budget: 50 * time.Millisecond,
	})
	return h
}

func (h house) one(t *testing.T, in guardbook.Interaction) guardbook.Decision {
	t.Helper()
	if in.Agent == "" {
		in.Agent = "billing-bot"
	}
	ds, err := h.Decide(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return ds[0]
}

func call(name, args string) guardbook.Interaction {
	return guardbook.Interaction{Kind: guardbook.KindToolCall, Tool: &guardbook.Tool{Name: name, Arguments: jsontext.Value(args)}}
}

func text(kind guardbook.Kind, s string) guardbook.Interaction {
	return guardbook.Interaction{Kind: kind, Content: []guardbook.Part{guardbook.TextPart(s)}}
}

func TestAToolCallOutsidePolicyIsBlockedAndSaysWhy(t *testing.T) {
	h := newGuard(t, billing)
	d := h.one(t, call("query_database", `{"query":"SELECT * FROM users"}`))
	if d.Action != guardbook.ActionBlock || d.Rule != "billing-bot/tools/query_database/query" || d.Severity != guardbook.High {
		t.Errorf("got %+v", d)
	}
	want := `Blocked by policy billing-bot: table "users" is not among products, orders. Choose another approach; do not retry.`
	if d.Message != want {
		t.Errorf("message\n got %s\nwant %s", d.Message, want)
	}
	e := h.book.last(t)
	if e.Decision != guardbook.ActionBlock || e.Rule != d.Rule || e.Bundle == "" || e.Alert != "security-oncall" || e.Tool.Name != "query_database" {
		t.Errorf("entry %+v", e)
	}
}

func TestTheEntryCommitsToTheContentAndHoldsNoneOfIt(t *testing.T) {
	h := newGuard(t, billing)
	in := text(guardbook.KindInput, "my mother's maiden name is Quillfeather")
	d := h.one(t, in)
	e := h.book.last(t)
	if got := guard.Commitment(guard.Salt(make([]byte, 32), d.Entry), &in); got != e.Commitment {
		t.Errorf("the salt does not open the commitment: %s, %s", got, e.Commitment)
	}
	other := text(guardbook.KindInput, "my mother's maiden name is Quillfeathers")
	if guard.Commitment(guard.Salt(make([]byte, 32), d.Entry), &other) == e.Commitment {
		t.Error("another content opens the same commitment")
	}
}

func TestADetectorThatFailsIsRecordedAndPolicyDecides(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(context.Context) error
		want string
	}{
		"panics":        {func(context.Context) error { panic("agent text") }, "panic: string"},
		"fails":         {func(context.Context) error { return errors.New("incomplete: budget of 1 MiB used up") }, "incomplete: budget of 1 MiB used up"},
		"takes forever": {func(ctx context.Context) error { <-ctx.Done(); time.Sleep(20 * time.Millisecond); return nil }, "timeout after 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newGuard(t, billing, &word{find: "x", do: c.do})
			if d := h.one(t, text(guardbook.KindInput, "hello")); d.Action != guardbook.ActionAllow {
				t.Errorf("on_error says allow for input, got %s", d.Action)
			}
			e := h.book.last(t)
			if !e.FailOpen || len(e.Layers) != 1 || e.Layers[0].Error != c.want {
				t.Errorf("entry %+v", e)
			}
			d := h.one(t, call("note", `{"text":"hello"}`))
			if d.Action != guardbook.ActionBlock || d.Rule != "billing-bot/on_error/tool_call" {
				t.Errorf("on_error says block for tool calls, got %+v", d)
			}
			if h.Counters()["layer.L1.errors"] != 2 || h.Counters()["fail_open"] != 1 {
				t.Errorf("counters %v", h.Counters())
			}
		})
	}
}

func TestWhatWasScannedIsNotScannedAgainAndIsStillDecided(t *testing.T) {
	w := &word{find: "ignore", class: guardbook.ClassPromptInjection}
	h := newGuard(t, billing, w)
	for i := range 3 {
		d := h.one(t, text(guardbook.KindInput, "please ignore this"))
		if d.Action != guardbook.ActionBlock || d.Cached != (i > 0) || h.book.last(t).Cached != (i > 0) {
			t.Errorf("round %d: %+v", i, d)
		}
	}
	if w.ran.Load() != 1 || len(h.book.drafts) != 3 {
		t.Errorf("the detector ran %d times for %d entries", w.ran.Load(), len(h.book.drafts))
	}
	h.one(t, text(guardbook.KindToolResult, "please ignore this"))
	if w.ran.Load() != 2 {
		t.Error("the same bytes on another channel were not scanned")
	}
}

func TestAFailedScanIsNotCached(t *testing.T) {
	w := &word{find: "x", do: func(context.Context) error { return errors.New("no") }}
	h := newGuard(t, billing, w)
	h.one(t, text(guardbook.KindInput, "hello"))
	h.one(t, text(guardbook.KindInput, "hello"))
	if w.ran.Load() != 2 {
		t.Errorf("ran %d times", w.ran.Load())
	}
}

func TestMonitorModeLetsPassAndSaysWhatWouldHaveHappened(t *testing.T) {
	h := newGuard(t, strings.Replace(billing, "mode: enforce", "mode: monitor", 1), &word{find: "sk-1", class: guardbook.ClassSecret})
	d := h.one(t, call("drop_everything", `{}`))
	if d.Action != guardbook.ActionAllow || d.Would != guardbook.ActionBlock || d.Message != "" {
		t.Errorf("%+v", d)
	}
	d = h.one(t, text(guardbook.KindOutput, "key sk-1"))
	if d.Action != guardbook.ActionAllow || d.Would != guardbook.ActionRedact || d.Content != nil {
		t.Errorf("%+v", d)
	}
	if e := h.book.last(t); e.Would != guardbook.ActionRedact || e.Mode != guardbook.ModeMonitor || e.Alert != "security-oncall" {
		t.Errorf("%+v", e)
	}
}

func TestAKilledAgentGetsNothingMoreInMonitorModeToo(t *testing.T) {
	h := newGuard(t, strings.Replace(billing, "mode: enforce", "mode: monitor", 1))
	if _, err := h.containments.Kill(t.Context(), "billing-bot", "ann", "it sends data out", 0); err != nil {
		t.Fatal(err)
	}
	d := h.one(t, text(guardbook.KindInput, "hello"))
	if d.Action != guardbook.ActionBlock || d.Rule != "containment/agent:billing-bot" || strings.Contains(d.Message, "sends data") {
		t.Errorf("%+v", d)
	}
	if e := h.book.last(t); e.Containment == "" || e.Mode != guardbook.ModeEnforce {
		t.Errorf("%+v", e)
	}
	if list := h.containments.List(); len(list) != 1 || list[0].Refused != 1 {
		t.Errorf("the refused attempt was not counted: %+v", list)
	}
}

func TestAnAgentWithoutPolicyIsBlocked(t *testing.T) {
	h := newGuard(t, billing)
	in := text(guardbook.KindInput, "hello")
	in.Agent = "stranger"
	if d := h.one(t, in); d.Action != guardbook.ActionBlock || d.Rule != "no-policy" {
		t.Errorf("%+v", d)
	}
}

func TestTheFourthCallInAMinuteIsOverALimitOfThree(t *testing.T) {
	h := newGuard(t, billing)
	for i := range 4 {
		d := h.one(t, call("note", `{"text":"hello"}`))
		if (d.Action == guardbook.ActionBlock) != (i == 3) {
			t.Errorf("call %d: %+v", i+1, d)
		}
		if i == 3 && d.Rule != "billing-bot/limits/tool_calls_per_minute" {
			t.Errorf("rule %s", d.Rule)
		}
	}
}

func TestAConversationIsOneRequestHoweverLong(t *testing.T) {
	h := newGuard(t, strings.Replace(billing, "{tool_calls_per_minute: 3}", "{requests_per_minute: 2}", 1))
	for i := range 3 {
		var turn []*guardbook.Interaction
		for range 5 {
			in := text(guardbook.KindInput, "hello")
			in.Agent, in.Role = "billing-bot", "user"
			turn = append(turn, &in)
		}
		ds, err := h.Decide(t.Context(), turn...)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if (d.Action == guardbook.ActionBlock) != (i == 2) {
				t.Errorf("request %d: %+v", i+1, d)
			}
		}
	}
}

func TestRedactionReplacesTheSpansAndNothingElse(t *testing.T) {
	h := newGuard(t, billing, &word{find: "sk-1", class: guardbook.ClassSecret})
	d := h.one(t, text(guardbook.KindOutput, "a sk-1 é sk-1sk-1 b"))
	want := []guardbook.Part{guardbook.TextPart("a [REDACTED:secret] é [REDACTED:secret][REDACTED:secret] b")}
	if diff := cmp.Diff(want, d.Content); diff != "" || d.Action != guardbook.ActionRedact {
		t.Errorf("%s\n%s", d.Action, diff)
	}
	d = h.one(t, call("note", ` { "text" : "a \"sk-1\" \\" } `))
	if got, want := string(d.Arguments), ` { "text" : "a \"[REDACTED:secret]\" \\" } `; got != want {
		t.Errorf("arguments\n got %s\nwant %s", got, want)
	}
}

func TestWhatCannotBeRedactedIsBlocked(t *testing.T) {
	h := newGuard(t, strings.Replace(billing, "allow: {text: {type: string, max_length: 200}}", "allow: {}\n    additional: true", 1), &word{find: "sk 1", class: guardbook.ClassSecret})
	d := h.one(t, call("note", `{"sk 1":"x"}`))
	if d.Action != guardbook.ActionBlock || d.Arguments != nil {
		t.Errorf("%+v", d)
	}
}

func TestWhenTheBookFailsPolicyDecidesAndTheIntervalIsWrittenLater(t *testing.T) {
	h := newGuard(t, billing)
	h.book.fail = errors.New("disk full")
	in := text(guardbook.KindInput, "hello")
	in.Agent = "billing-bot"
	ds, err := h.Decide(t.Context(), &in)
	if !errors.Is(err, guard.ErrNotDurable) || ds[0].Action != guardbook.ActionBlock || ds[0].Rule != "billing-bot/on_error/book" {
		t.Errorf("%v %+v", err, ds)
	}
	h.book.fail = nil
	h.one(t, text(guardbook.KindInput, "hello again"))
	var found *guardbook.DegradedEntry
	for _, d := range h.book.drafts {
		if e, ok := d.Body.(guardbook.DegradedEntry); ok {
			found = &e
		}
	}
	if found == nil || found.Refused["input"] != 1 || found.Error != "disk full" || found.From == "" || found.To == "" {
		t.Errorf("degraded entry: %+v", found)
	}
}

func TestAPolicyMayLetPassWhatCannotBeWrittenDown(t *testing.T) {
	h := newGuard(t, strings.Replace(billing, "on_error: {", "on_error: {book: allow, ", 1))
	h.book.fail = errors.New("disk full")
	in := text(guardbook.KindInput, "hello")
	in.Agent = "billing-bot"
	ds, err := h.Decide(t.Context(), &in)
	if err != nil || ds[0].Action != guardbook.ActionAllow {
		t.Errorf("%v %+v", err, ds)
	}
	h.book.fail = nil
	if err := h.Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, ok := h.book.drafts[len(h.book.drafts)-1].Body.(guardbook.DegradedEntry); !ok || e.Allowed["input"] != 1 {
		t.Errorf("%+v", h.book.drafts)
	}
}

func TestCountersAddUp(t *testing.T) {
	h := newGuard(t, billing)
	h.one(t, text(guardbook.KindInput, "hello"))
	h.one(t, call("nothing", `{}`))
	h.one(t, text(guardbook.KindOutput, "there"))
	sums := map[string]int64{}
	for k, n := range h.Counters() {
		if head, _, ok := strings.Cut(k, "."); ok {
			sums[head] += n
		}
	}
	for _, by := range []string{"decision", "kind", "path"} {
		if sums[by] != 3 || h.Counters()["interactions"] != 3 {
			t.Errorf("%s adds up to %d of %d", by, sums[by], h.Counters()["interactions"])
		}
	}
}
