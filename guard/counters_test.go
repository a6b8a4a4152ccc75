package guard_test

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
)

// identity checks seen = allowed + blocked + held + errored + open for every path,
// and returns how many paths there are.
func identity(t *testing.T, c map[string]int64) int {
	t.Helper()
	n := 0
	for name, seen := range c {
		path, ok := strings.CutPrefix(name, "seen.")
		if !ok {
			continue
		}
		n++
		if sum := c["allowed."+path] + c["blocked."+path] + c["held."+path] + c["errored."+path] + c["open."+path]; sum != seen || c["open."+path] < 0 {
			t.Errorf("%s: seen %d, and %d in all: %v", path, seen, sum, c)
		}
		if c["flagged."+path]+c["redacted."+path] > c["allowed."+path] {
			t.Errorf("%s: more flagged and redacted than allowed", path)
		}
	}
	return n
}

func TestWhatArrivesOnAPathLeavesItOnce(t *testing.T) {
	injection := &word{find: "bait", class: guardbook.ClassPromptInjection}
	secret := &word{find: "key", class: guardbook.ClassSecret}
	g := newGuard(t, billing, injection, secret)
	m := g.book
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			identity(t, g.Counters())
			time.Sleep(time.Millisecond)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	var workers sync.WaitGroup
	const each = 200
	texts := []string{"hello", "bait", "a key", "more"}
	for w := range 8 {
		workers.Go(func() {
			path := fmt.Sprintf("path/%d", w%2)
			for i := range each {
				if w == 7 && i == each/2 {
					m.mu.Lock()
					m.fail = errors.New("no space")
					m.mu.Unlock()
				}
				if w == 7 && i == each/2+20 {
					m.mu.Lock()
					m.fail = nil
					m.mu.Unlock()
				}
				_, _ = g.Decide(context.Background(), &guardbook.Interaction{Kind: guardbook.KindInput, Agent: "billing-bot", Session: "s", Path: path,
					Content: []guardbook.Part{guardbook.TextPart(texts[i%len(texts)])}})
			}
		})
	}
	workers.Wait()
	close(stop)
	wg.Wait()
	c := g.Counters()
	if identity(t, c) != 2 || c["seen.path/0"] != 4*each || c["seen.path/1"] != 4*each {
		t.Errorf("two paths of %d: %v", 4*each, c)
	}
	if c["open.path/0"] != 0 || c["open.path/1"] != 0 || c["errored.path/1"] < 20 || c["blocked.path/0"] == 0 || c["redacted.path/0"] == 0 {
		t.Errorf("counters: %v", c)
	}
	if c["interactions"] != c["path.path/0"]+c["path.path/1"] {
		t.Errorf("interactions is not the sum of the paths: %v", c)
	}
}

func TestADecisionThatFailsIsCountedAsAnError(t *testing.T) {
	g := newGuard(t, billing)
	g.book.fail = errors.New("no space")
	_, err := g.Decide(context.Background(), &guardbook.Interaction{Kind: guardbook.KindInput, Agent: "billing-bot", Path: "p"})
	c := g.Counters()
	identity(t, c)
	if err == nil || c["errored.p"] != 1 || c["seen.p"] != 1 || c["path.p"] != 0 {
		t.Errorf("error %v, counters %v", err, c)
	}
}

func TestNamesThatCallersMakeUpAreBounded(t *testing.T) {
	g := newGuard(t, billing, &word{find: "bait", class: guardbook.ClassPromptInjection}, &word{find: "key", class: guardbook.ClassSecret}, &word{find: "mail", class: guardbook.ClassPII})
	long := strings.Repeat("x", 100)
	for i := range 300 {
		for _, family := range []string{"inspect/", "mcp/"} {
			for _, text := range []string{"", "bait", "key", "mail"} {
				in := guardbook.Interaction{Kind: guardbook.KindInput, Agent: "billing-bot", Path: fmt.Sprint(family, i, long), Content: []guardbook.Part{guardbook.TextPart(text)}}
				if text == "mail" {
					in.Kind = guardbook.KindOutput
				}
				if _, err := g.Decide(context.Background(), &in); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 700 {
		g.Called(guardbook.ModelCalls{Path: "openai/chat", Model: fmt.Sprint(i, strings.Repeat(`"`, 200)), Calls: 1, OutputTokens: 1 << 40})
	}
	g.Called(guardbook.ModelCalls{Path: "openai/chat", Model: "\x1b[31m" + strings.Repeat("x", 500) + "\u202e", Calls: 2})
	c := g.Counters()
	if n := identity(t, c); n != 65 || c["path.(other)"] != 4*(600-64) {
		t.Errorf("%d paths, %d in other", n, c["path.(other)"])
	}
	b, err := json.Marshal(guardbook.HeartbeatEntry{Counters: c, Calls: g.Calls()})
	if err != nil || len(b) > 60_000 {
		t.Errorf("a heartbeat of %d bytes, %v", len(b), err)
	}
	var calls, rest int64
	for _, m := range g.Calls() {
		calls += m.Calls
		if m.Model == "(other)" {
			rest = m.Calls
		}
		if len(m.Model) > 100 || strings.ContainsAny(m.Model, "\x1b\u202e") {
			t.Errorf("model %q", m.Model)
		}
	}
	if n := len(g.Calls()); n != 61 || calls != 702 || rest != 642 {
		t.Errorf("%d pairs, %d calls, %d of them other", n, calls, rest)
	}
}

func TestCanariesAreJudgedByAPolicyOfTheirOwn(t *testing.T) {
	g := newGuard(t, billing, &word{find: "marker", class: guardbook.ClassAnomaly})
	for range 10 { // billing-bot may do three a minute; nobody else may do anything
		in := guardbook.Interaction{Kind: guardbook.KindToolCall, Agent: guardbook.CanaryAgent, Path: "p",
			Tool: &guardbook.Tool{Name: "anything", Arguments: []byte(`{"x":"a marker"}`)}}
		ds, err := g.Decide(context.Background(), &in)
		if err != nil || ds[0].Action != guardbook.ActionRedact || len(ds[0].Findings) != 1 || string(ds[0].Arguments) != `{"x":"a [REDACTED:anomaly]"}` {
			t.Fatalf("%v %+v", err, ds[0])
		}
	}
	if e := g.book.last(t); e.Alert != "" || e.Policy != guardbook.CanaryAgent {
		t.Errorf("entry: %+v", e)
	}
}
