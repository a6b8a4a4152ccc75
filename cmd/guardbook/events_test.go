package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive/conformance"
)

// play runs one command against an address and returns what it printed.
func play(t *testing.T, ctx context.Context, url string, build func(*cli) *cobra.Command, args ...string) (out, errs string, err error) {
	t.Helper()
	t.Setenv("GUARDBOOK_TOKEN", "test")
	var o, e bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &o, err: &e, url: url}
	cmd := build(c)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.PersistentFlags().BoolVar(&c.json, "json", false, "")
	cmd.SetArgs(args)
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	err = cmd.ExecuteContext(ctx)
	return o.String(), e.String(), err
}

func TestWrongUsageIsSaidBeforeTheServerIsAsked(t *testing.T) {
	asked := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was asked") }))
	defer asked.Close()
	for _, c := range []struct {
		build func(*cli) *cobra.Command
		args  []string
		says  string
	}{
		{newEvents, []string{"--class", "nonsense"}, "prompt_injection, jailbreak"},
		{newEvents, []string{"--severity", "grave"}, "info, low, medium, high, critical"},
		{newEvents, []string{"--action", "stop"}, "allow, log, flag, redact, hold, block"},
		{newEvents, []string{"--type", "decision,thing"}, `"thing" is not known: use start`},
		{newEvents, []string{"--since", "yesterday"}, "RFC 3339"},
		{newEvents, []string{"--limit", "-1"}, "0 for all"},
		{newEvents, []string{"-f", "--until", "1h"}, "leave out --until"},
		{newKill, []string{"a"}, "--reason"},
		{newKill, []string{"a", "--reason", " "}, "--reason"},
		{newKill, []string{"planet:x", "--reason", "r"}, "tenant:NAME"},
		{newKill, []string{"a", "--reason", "r", "--for", "long"}, "30m, 2h or 7d"},
		{newKill, []string{"a", "--reason", "r", "--for", "-5m"}, "30m, 2h or 7d"},
		{newLift, []string{"a"}, "--reason"},
		{newAlerts, []string{"list", "--state", "red"}, "open, acknowledged, closed, all"},
		{newAlerts, []string{"assign", "x"}, "--to OWNER"},
		{newAlerts, []string{"close", "x", "--as", "fine", "--comment", "c"}, "true_positive"},
		{newAlerts, []string{"close", "x", "--as", "benign"}, "--comment TEXT"},
	} {
		_, _, err := play(t, t.Context(), asked.URL, c.build, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}

func hostile() guardbook.Entry {
	l := &conformance.Log{Origin: "guardbook/test"}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return l.Add(at, at, guardbook.TypeDecision, guardbook.DecisionEntry{
		Agent: "billing\x1b[2J", Session: "s\u202e17", Kind: guardbook.KindToolCall, Tool: &guardbook.ToolRef{Name: "query\nroot#"},
		Decision: guardbook.ActionBlock, Rule: "p/x", Severity: guardbook.High, Message: "no\rway",
		Findings: []guardbook.Finding{{Class: guardbook.ClassPII, Rule: "pii/card", Layer: "L1", Excerpt: "\x1b]0;x\x07", Span: &guardbook.Span{Path: "/a", Start: 1, End: 2}}},
	})
}

// onePage is a server that has one entry.
func onePage(t *testing.T, e guardbook.Entry) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"events":[%s]}`, e.Raw)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestTextOfAgentsCannotMoveTheTerminal(t *testing.T) {
	s := onePage(t, hostile())
	for _, c := range []struct {
		build func(*cli) *cobra.Command
		args  []string
	}{{newEvents, nil}, {newEvents, []string{"--limit", "0"}}, {newReplay, []string{"s"}}} {
		out, _, err := play(t, t.Context(), s.URL, c.build, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out, "\x1b\r\x07\u202e") || !strings.Contains(out, "block") {
			t.Errorf("%q", out)
		}
	}
}

func TestJSONIsTheEntryAsInTheBook(t *testing.T) {
	e := hostile()
	out, _, err := play(t, t.Context(), onePage(t, e).URL, newEvents, "--json")
	if err != nil || out != string(e.Raw)+"\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestFollowingGoesOnBehindTheLastEntryWhenTheConnectionIsLost(t *testing.T) {
	l := &conformance.Log{Origin: "guardbook/test"}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for range 6 {
		l.Add(at, at, guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "billing", Decision: guardbook.ActionAllow})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var connections atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/book":
			fmt.Fprint(w, `{"origin":"guardbook/test","size":2}`)
		case "/api/v1/events":
			fmt.Fprintf(w, `{"events":[%s]}`, l.Entries[1].Raw)
		case "/api/v1/events/stream":
			var after int
			fmt.Sscan(r.URL.Query().Get("after"), &after)
			n := connections.Add(1)
			if n == 2 {
				http.Error(w, "restarting", http.StatusBadGateway)
				return
			}
			for i := after + 1; i <= after+2 && i < len(l.Entries); i++ {
				fmt.Fprintf(w, "id: %d\ndata: %s\n\n", i, l.Entries[i].Raw)
			}
			if after+2 >= len(l.Entries)-1 {
				w.(http.Flusher).Flush()
				cancel() // all was sent: the person interrupts
				<-r.Context().Done()
			}
		}
	}))
	defer s.Close()
	out, errs, err := play(t, ctx, s.URL, newEvents, "-f", "--json", "--limit", "1")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, line := range lines {
		if line != string(l.Entries[i+1].Raw) {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if len(lines) < 3 || !strings.Contains(errs, "trying again") || connections.Load() < 3 {
		t.Errorf("%d lines, %d connections: %s", len(lines), connections.Load(), errs)
	}
}
