package client_test

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
)

func TestDecisionsAreObeyed(t *testing.T) {
	w := newWorld(t)
	g := w.guard()
	ctx := client.WithScope(t.Context(), client.Scope{Session: "s-17", User: "u-1", Task: "Answer the customer."})

	if text, err := g.Input(ctx, "What do I owe?"); err != nil || text != "What do I owe?" {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := g.Output(ctx, "Ask "+mail+"."); err != nil || text != "Ask "+redacted+"." {
		t.Errorf("got %q, %v", text, err)
	}
	_, err := g.ToolResult(ctx, guardbook.Tool{Server: "crm", Name: "read"}, injection)
	var blocked *client.BlockedError
	if !errors.As(err, &blocked) || blocked.Decision.Rule != "billing-bot/findings/prompt_injection" || blocked.Decision.Entry == "" || !strings.Contains(err.Error(), "billing-bot") {
		t.Errorf("got %v", err)
	}
	args, err := g.ToolCall(ctx, guardbook.Tool{Name: "send_email", Arguments: jsontext.Value(`{"to":"boss","body":"ask ` + mail + `"}`)})
	if err != nil || string(args) != `{"to":"boss","body":"ask `+redacted+`"}` {
		t.Errorf("got %s, %v", args, err)
	}
	if _, err := g.ToolCall(ctx, guardbook.Tool{Name: "drop_table"}); !errors.As(err, &blocked) || !strings.Contains(err.Error(), "drop_table") {
		t.Errorf("got %v", err)
	}
	if _, ok := client.AsBlocked(err); ok {
		t.Error("no error is no block")
	}

	ds := entries[guardbook.DecisionEntry](t, w, guardbook.TypeDecision)
	if len(ds) != 5 {
		t.Fatalf("%d decisions", len(ds))
	}
	for i, d := range ds {
		if d.Session != "s-17" || d.User != "u-1" || d.Path != "inspect/go" || d.Client != g.Client() || d.ClientSeq != int64(i+1) {
			t.Errorf("decision %d: %+v", i, d)
		}
	}
}

func TestManyAreDecidedInTheirOrder(t *testing.T) {
	w := newWorld(t)
	g := w.guard()
	ins := make([]guardbook.Interaction, 600)
	for i := range ins {
		ins[i] = guardbook.Interaction{Kind: guardbook.KindToolCall, Tool: &guardbook.Tool{Name: []string{"query_database", "drop_table"}[i%2], Arguments: jsontext.Value(`{"query":"x"}`)}}
	}
	ds, err := g.Decide(t.Context(), ins...)
	if err != nil || len(ds) != len(ins) {
		t.Fatal(len(ds), err)
	}
	for i, d := range ds {
		if d.Action.Releases() != (i%2 == 0) {
			t.Fatalf("%d: %+v", i, d)
		}
	}
}

func TestWithoutAServerCallsAreRefusedAndTextsPass(t *testing.T) {
	w := newWorld(t)
	g := w.guard(func(o *client.Options) {
		o.OnUnavailable = map[guardbook.Kind]guardbook.Action{guardbook.KindOutput: guardbook.ActionBlock}
	})
	if _, err := g.Input(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if text, err := g.Input(t.Context(), injection); err != nil || text != injection {
		t.Errorf("an input did not pass: %v", err)
	}
	_, err := g.ToolCall(t.Context(), guardbook.Tool{Server: "crm", Name: "query_database"})
	var away *client.UnavailableError
	if !errors.As(err, &away) || away.Kind != guardbook.KindToolCall || !away.Retryable() {
		t.Errorf("a call: %v", err)
	}
	if _, ok := client.AsBlocked(err); ok {
		t.Error("unavailable was taken for blocked")
	}
	if _, err := g.Output(t.Context(), "an output"); !errors.As(err, &away) {
		t.Errorf("an output that fails closed: %v", err)
	}
	w.start()
	if _, err := g.Input(t.Context(), "after"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := g.Flush(ctx); err != nil {
		t.Fatal(err)
	}

	seen := map[int64]string{}
	for _, d := range entries[guardbook.DecisionEntry](t, w, guardbook.TypeDecision) {
		seen[d.ClientSeq] += "decision"
	}
	var degraded []guardbook.ClientEntry
	for _, e := range entries[guardbook.ClientEntry](t, w, guardbook.TypeClient) {
		if e.Event == "degraded" {
			degraded = append(degraded, e)
			continue
		}
		seen[e.ClientSeq] += e.Event
		if e.Agent != agent || e.Client != g.Client() || e.Path != "inspect/go" || e.Reason == "" {
			t.Errorf("entry %+v", e)
		}
	}
	want := map[int64]string{1: "decision", 2: "unguarded", 3: "unanswered", 4: "unanswered", 5: "decision"}
	for n, s := range want {
		if seen[n] != s {
			t.Errorf("number %d: %q, want %q", n, seen[n], s)
		}
	}
	if len(degraded) != 1 || degraded[0].Count != 3 || degraded[0].From == "" || degraded[0].To == "" {
		t.Errorf("degraded: %+v", degraded)
	}
}

// Whatever ends the server, every number is in the book: as a decision, or as told
// afterwards.
func TestNoNumberIsLostWhenTheServerGoesAndComesBack(t *testing.T) {
	w := newWorld(t)
	g := w.guard(func(o *client.Options) { o.Budget = 2 * time.Second })
	const n = 2000
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for range n / 8 {
				_, _ = g.Input(t.Context(), "What do I owe?") // unguarded is fine: it is counted
			}
			_ = worker
		})
	}
	time.Sleep(30 * time.Millisecond)
	w.stop()
	time.Sleep(50 * time.Millisecond)
	w.start()
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := g.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	decided, told := 0, 0
	for _, d := range entries[guardbook.DecisionEntry](t, w, guardbook.TypeDecision) {
		seen[d.ClientSeq] = true
		decided++
	}
	for _, e := range entries[guardbook.ClientEntry](t, w, guardbook.TypeClient) {
		if e.ClientSeq > 0 {
			seen[e.ClientSeq] = true
			told++
		}
	}
	t.Logf("%d decided, %d told afterwards", decided, told)
	for i := int64(1); i <= n; i++ {
		if !seen[i] {
			t.Errorf("number %d is lost", i)
		}
	}
}

// What a process could not tell before it ended, a later one tells.
func TestALaterProcessTellsWhatADeadOneCouldNot(t *testing.T) {
	w := newWorld(t)
	data := t.TempDir()
	same := func(o *client.Options) { o.Data = data }
	dead := w.guard(same)
	w.stop()
	if _, err := dead.ToolCall(t.Context(), guardbook.Tool{Name: "query_database"}); err == nil {
		t.Fatal("a call passed without a decision")
	}
	client.Die(dead)
	w.start()
	later := w.guard(same)
	if _, err := later.Input(t.Context(), "hello"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dead process's event is in the book", func() bool {
		for _, e := range entries[guardbook.ClientEntry](t, w, guardbook.TypeClient) {
			if e.Client == dead.Client() && e.ClientSeq == 1 && e.Kind == guardbook.KindToolCall {
				return true
			}
		}
		return false
	})
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		o    client.Options
		want string
	}{
		"no agent":    {client.Options{}, "name the agent"},
		"no key":      {client.Options{Agent: "a", URL: "http://127.0.0.1:1"}, "GUARDBOOK_KEY"},
		"no url":      {client.Options{Agent: "a", URL: "localhost:8787", Key: "k"}, "http://HOST:PORT"},
		"wrong words": {client.Options{Agent: "a", OnUnavailable: map[guardbook.Kind]guardbook.Action{guardbook.KindInput: "open"}}, "use allow or block"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GUARDBOOK_URL", "")
			t.Setenv("GUARDBOOK_KEY", "")
			t.Setenv("GUARDBOOK_AGENT", "")
			g, err := client.New(c.o)
			if err == nil {
				_ = g.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A guard that is made and not used asks nothing and starts nothing.
func TestNothingIsStartedBeforeItIsUsed(t *testing.T) {
	t.Setenv("GUARDBOOK_URL", "")
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	binary := filepath.Join(dir, "guardbook")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\ntouch "+ran+"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := client.New(client.Options{Agent: "bot", Data: dir, Binary: binary, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil { // which waits for whatever went on behind it
		t.Fatal(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program was run")
	}
	g, err = client.New(client.Options{Agent: "bot", Data: dir, Binary: binary, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	_, _ = g.Input(t.Context(), "hello") // passes without a decision
	if _, err := os.Stat(ran); err != nil {
		t.Errorf("used, it does not look for a server: %v", err)
	}
}
