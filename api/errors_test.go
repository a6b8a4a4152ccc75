package api_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/api"
	"github.com/guardbook/guardbook/archive"
)

func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 70<<10)
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code, says   string
	}{
		"unknown member":         {"POST", "/api/v1/agents", `{"name":"a","ownr":"x"}`, 400, "invalid", "name, owner, purpose"},
		"duplicate member":       {"POST", "/api/v1/agents", `{"name":"a","name":"b"}`, 400, "malformed_json", "name: the same member twice"},
		"wrong type":             {"POST", "/api/v1/agents", `{"name":7}`, 400, "invalid", "name: a number is not what it must be, a string"},
		"no object":              {"POST", "/api/v1/agents", `[]`, 400, "invalid", "must be a JSON object with the members name, owner, purpose"},
		"no JSON":                {"POST", "/api/v1/agents", `{"name":`, 400, "malformed_json", "not JSON"},
		"not UTF-8":              {"POST", "/api/v1/agents", "{\"name\":\"\xff\"}", 400, "malformed_json", "not JSON"},
		"two values":             {"POST", "/api/v1/agents", `{"name":"a"}{}`, 400, "malformed_json", "not JSON"},
		"too large":              {"POST", "/api/v1/agents", `{"name":"` + long + `"}`, 413, "too_large", "65536"},
		"bad agent name":         {"POST", "/api/v1/agents", `{"name":"Big Bot"}`, 400, "invalid", "a-z"},
		"no agent name":          {"POST", "/api/v1/agents", nil, 400, "invalid", "a-z"},
		"bad overlap":            {"POST", "/api/v1/agents/bot/rotate", `{"overlap":"soon"}`, 400, "invalid", "30m"},
		"overlap too long":       {"POST", "/api/v1/agents/bot/rotate", `{"overlap":"8d"}`, 400, "invalid", "overlap"},
		"no such agent":          {"POST", "/api/v1/agents/nobody/rotate", nil, 404, "not_found", "nobody"},
		"unknown class":          {"GET", "/api/v1/events?class=magic", nil, 400, "invalid", "prompt_injection"},
		"unknown severity":       {"GET", "/api/v1/events?severity=huge", nil, 400, "invalid", "critical"},
		"unknown action":         {"GET", "/api/v1/events?action=stop", nil, 400, "invalid", "block"},
		"unknown type":           {"GET", "/api/v1/events?type=decision,nothing", nil, 400, "invalid", "heartbeat"},
		"misspelt parameter":     {"GET", "/api/v1/events?agnt=x", nil, 400, "invalid", "agent, session"},
		"parameter twice":        {"GET", "/api/v1/events?agent=x&agent=y", nil, 400, "invalid", "once"},
		"bad time":               {"GET", "/api/v1/events?since=yesterday", nil, 400, "invalid", "RFC 3339"},
		"limit too high":         {"GET", "/api/v1/events?limit=1001", nil, 400, "invalid", "1 to 1000"},
		"limit no number":        {"GET", "/api/v1/events?limit=ten", nil, 400, "invalid", "1 to 1000"},
		"bad order":              {"GET", "/api/v1/events?order=up", nil, 400, "invalid", "asc, desc"},
		"bad place":              {"GET", "/api/v1/events?after=-2", nil, 400, "invalid", "after"},
		"bad query":              {"GET", "/api/v1/events?agent=%zz", nil, 400, "invalid", "well formed"},
		"unknown event":          {"GET", "/api/v1/events/none", nil, 404, "not_found", "none"},
		"kill nothing":           {"POST", "/api/v1/kill", `{"reason":"x"}`, 400, "invalid", ""},
		"kill without reason":    {"POST", "/api/v1/kill", `{"scope":"bot"}`, 400, "invalid", "reason"},
		"kill for ever and more": {"POST", "/api/v1/kill", `{"scope":"bot","reason":"x","for":"99999999999d"}`, 400, "invalid", "for"},
		"lift what is free":      {"POST", "/api/v1/lift", `{"scope":"bot","reason":"x"}`, 404, "not_found", ""},
		"unknown alert":          {"GET", "/api/v1/alerts/none", nil, 404, "not_found", "none"},
		"unknown state":          {"GET", "/api/v1/alerts?state=new", nil, 400, "invalid", "acknowledged"},
		"no bundle's hash":       {"GET", "/api/v1/bundles/..%2f..%2fadmin-token", nil, 400, "invalid", "sha256:"},
		"unknown bundle":         {"GET", "/api/v1/bundles/sha256:" + strings.Repeat("0", 64), nil, 404, "not_found", ""},
		"policies without time":  {"GET", "/api/v1/policies/at", nil, 400, "invalid", "time"},
		"before any policy":      {"GET", "/api/v1/policies/at?time=2001-01-01T00:00:00Z", nil, 404, "not_found", "2001"},
		"proof of no number":     {"GET", "/api/v1/book/proof/one", nil, 400, "invalid", "seq"},
		"proof beyond the end":   {"GET", "/api/v1/book/proof/99999", nil, 404, "not_found", "entries"},
		"no tile":                {"GET", "/api/v1/book/tile/../../admin-token", nil, 404, "not_found", ""},
		"tile outside":           {"GET", "/api/v1/book/tile/0%2f..%2f..%2fjournal.db", nil, 404, "not_found", ""},
		"tile that is not there": {"GET", "/api/v1/book/tile/7/999", nil, 404, "not_found", ""},
		"evidence backwards":     {"POST", "/api/v1/evidence", `{"from":"2026-02-01T00:00:00Z","to":"2026-01-01T00:00:00Z"}`, 400, "invalid", "later"},
		"evidence without end":   {"POST", "/api/v1/evidence", `{"from":"2026-02-01T00:00:00Z"}`, 400, "invalid", "to"},
		"record of another kind": {"POST", "/api/v1/evidence/record", `{"op":"login","from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z"}`, 400, "invalid", "evidence_built"},
		"no such path":           {"GET", "/api/v1/nothing", nil, 404, "not_found", "openapi"},
		"wrong method":           {"DELETE", "/api/v1/agents", nil, 405, "method_not_allowed", "GET, POST"},
		"no last event":          {"GET", "/api/v1/events/stream?after=x", nil, 400, "invalid", "after"},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.call(t, c.method, c.path, c.body).want(t, c.status)
			if got := a.code(t); got != c.code || !strings.Contains(string(a.body), c.says) {
				t.Errorf("code %q, want %q; %s does not say %q", got, c.code, a.body, c.says)
			}
		})
	}
}

// panicking is an archive that breaks in the ways that code breaks.
type panicking struct{ api.Archive }

func (panicking) Event(context.Context, string) (guardbook.Entry, error) { panic("at the disco") }

func (panicking) Counts(context.Context, archive.Query, archive.By) (map[string]int64, error) {
	return nil, errors.New("secret detail of the database")
}

func TestWhatGoesWrongInsideIsAnIdOutside(t *testing.T) {
	w := newWorld(t, func(o *api.Options) { o.Archive = panicking{o.Archive} })
	for path, logged := range map[string]string{"/api/v1/events/x": "at the disco", "/api/v1/overview": "secret detail"} {
		a := w.call(t, "GET", path, nil).want(t, 500)
		said := string(a.body)
		if strings.Contains(said, logged) {
			t.Errorf("%s: the caller is told %s", path, said)
		}
		_, rest, _ := strings.Cut(said, "internal error ")
		id, _, _ := strings.Cut(rest, ":")
		if log := w.logs.String(); len(id) != 36 || !strings.Contains(log, id) || !strings.Contains(log, logged) {
			t.Errorf("%s: id %q or cause is not in the log: %s", path, id, log)
		}
	}
}

func TestNothingIsDoneOrShownThatTheBookDidNotTake(t *testing.T) {
	w := newWorld(t, func(o *api.Options) {
		o.Evidence = evidenceFunc(func(_ context.Context, _, _ time.Time, _ string, out io.Writer) error {
			_, err := io.WriteString(out, "the whole package")
			return err
		})
	})
	e := w.decided(t, "billing-bot", guardbook.DecisionEntry{Decision: guardbook.ActionBlock})[0]
	w.rec.fail(errors.New("disk full"))
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/api/v1/events", nil}, {"GET", "/api/v1/events/" + e.ID, nil}, {"GET", "/api/v1/events/stream", nil},
		{"GET", "/api/v1/book/checkpoint", nil}, {"GET", "/api/v1/book/proof/0", nil}, {"GET", "/api/v1/book/tile/0/000.p/1", nil},
		{"POST", "/api/v1/evidence", map[string]string{"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}},
		{"POST", "/api/v1/evidence/record", map[string]string{"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}},
		{"POST", "/api/v1/kill", map[string]string{"scope": "bot", "reason": "x"}},
		{"GET", "/api/v1/bundles/" + w.policies.Current().Hash, nil},
	} {
		a := w.call(t, c.method, c.path, c.body).want(t, 503)
		if a.code(t) != "not_durable" || strings.Contains(string(a.body), "whole package") || strings.Contains(string(a.body), e.ID) {
			t.Errorf("%s %s: %s", c.method, c.path, a.body)
		}
	}
	// A kill does not wait for the book: safety first.
	if a := w.call(t, "GET", "/api/v1/containments", nil).want(t, 200); !strings.Contains(string(a.body), "agent:bot") {
		t.Errorf("the kill is not in force: %s", a.body)
	}
	w.rec.fail(nil)
	w.call(t, "GET", "/api/v1/events", nil).want(t, 200)
	if got := w.operatorOps(t); !slices.Contains(got, "events_read by admin-token") {
		t.Errorf("the first read after the fault is not in the book: %q", got)
	}
}
