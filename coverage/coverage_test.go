package coverage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/canary"
	"github.com/guardbook/guardbook/coverage"
	"github.com/guardbook/guardbook/demo/standin"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/instance"
)

// The test program plays two parts: the tests, and an MCP server that is wrapped.
func TestMain(m *testing.M) {
	if file := os.Getenv(deskFile); file != "" {
		runDesk(file)
	}
	goleak.VerifyTestMain(m)
}

// The agents of the tests: one that may do little, and one that may pass everything
// by that a line of policy can let pass.
const (
	strictAgent, openAgent = "matrix", "matrix-open"

	strictPolicy = `
policy: matrix
version: 1
owner: security@example.com
agents: [matrix]
mode: enforce
tools:
  - {name: note, allow: {text: {type: string}}}
  - {name: "say*", allow: {}}
findings:
  - {class: anomaly, action: block, severity: high}
endpoints: []
`
	openPolicy = `
policy: matrix-open
version: 1
owner: security@example.com
agents: [matrix-open]
mode: enforce
tools: []
findings: []
endpoints: %s
`
)

// marker is what is planted: the first half, and the rest.
const half = "GUARDBOOK-CANARY-5E1F"

// plant puts the marker and the rest into what a cell sends or is answered.
func plant(text, script string, streamed bool) string {
	stream := ""
	if streamed {
		stream = `"stream":true,`
	}
	return strings.NewReplacer("MARK_A", half, "MARK_B", canary.Marker[len(half):], "MARK", "a "+canary.Marker+" b",
		"MODEL", standin.Model+"/"+script, "STREAM", stream).Replace(text)
}

// upstream plays a cell's answer and keeps what it was sent.
type upstream struct {
	mu        sync.Mutex
	row       coverage.Row
	got       []string
	providers http.Handler
}

func newUpstream() *upstream {
	text := plant("MARK", "", false)
	return &upstream{providers: standin.New(map[string]standin.Script{
		"text-plain": func(int, string) standin.Turn { return standin.Turn{Text: "Hello."} },
		"text":       func(int, string) standin.Turn { return standin.Turn{Text: text} },
		"call": func(int, string) standin.Turn {
			return standin.Turn{Calls: []standin.Call{{Name: "note", Arguments: `{"text":"` + text + `"}`}}}
		},
	})}
}

// script is the answer that is planted, or the group's own.
func script(r coverage.Row) string {
	answer, plain := r.Cell.Answer, r.Group.Answer
	if r.Streamed {
		answer, plain = r.Cell.Events, r.Group.Events
	}
	if answer == "" {
		return plain
	}
	return answer
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	row := u.row
	u.got = append(u.got, r.Method+" "+r.URL.Path+"\n"+string(body))
	u.mu.Unlock()
	says := script(row)
	switch says {
	case "text-plain", "text", "call":
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			r.URL.Path = "/openai" + r.URL.Path
		}
		u.providers.ServeHTTP(w, r)
		return
	case "":
		says = `{}`
	}
	says = plant(says, "", false)
	if !row.Streamed {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, says)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for line := range strings.Lines(strings.TrimSpace(says)) {
		var e struct {
			Type string `json:"type"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Type != "" {
			fmt.Fprintf(w, "event: %s\n", e.Type)
		}
		fmt.Fprintf(w, "data: %s\n\n", strings.TrimSpace(line))
	}
	if row.Group.Done {
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
}

// play makes the upstream ready for a row.
func (u *upstream) play(r coverage.Row) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.row, u.got = r, nil
}

func (u *upstream) sent() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.got)
}

// world is a running instance in front of the upstream.
type world struct {
	url, upstreamURL string
	up               *upstream
	keys             map[string]string
	book             *book.Reader
	client           *http.Client
}

func newWorld(t *testing.T, m *coverage.Matrix, more string) *world {
	t.Helper()
	w := &world{up: newUpstream(), keys: map[string]string{}, client: &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}}
	t.Cleanup(w.client.CloseIdleConnections)
	srv := httptest.NewServer(w.up)
	t.Cleanup(srv.Close)
	w.upstreamURL = srv.URL
	data := t.TempDir()
	var lines []string
	for _, r := range m.Rows() {
		if r.Cell.Policy != "" && !slices.Contains(lines, r.Cell.Policy) {
			lines = append(lines, r.Cell.Policy)
		}
	}
	list, err := json.Marshal(lines)
	must(t, err)
	policies := filepath.Join(data, "policies")
	must(t, os.MkdirAll(policies, 0o700))
	must(t, os.WriteFile(filepath.Join(policies, "strict.yaml"), []byte(strictPolicy), 0o600))
	must(t, os.WriteFile(filepath.Join(policies, "open.yaml"), fmt.Appendf(nil, openPolicy, list), 0o600))
	file := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(file, []byte("client_upstreams: any\n"+more), 0o600))
	cfg, err := instance.Load(map[string]string{"data": data, "listen": "127.0.0.1:0", "canary-every": "off",
		"openai-upstream": srv.URL, "anthropic-upstream": srv.URL, "durability": "balanced"}, func(string) string { return "" }, file)
	must(t, err)
	i, err := instance.Start(t.Context(), cfg, derive.Tool{Version: "test"}, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		cancel()
		must(t, <-done)
	})
	w.url = i.URL()
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	must(t, err)
	for _, agent := range []string{strictAgent, openAgent} {
		var made struct{ Key string }
		body := w.call(t, http.MethodPost, w.url+"/api/v1/agents", `{"name":"`+agent+`"}`, map[string]string{"Authorization": "Bearer " + strings.TrimSpace(string(token)), "Content-Type": "application/json"})
		must(t, json.Unmarshal(body.body, &made))
		w.keys[agent] = made.Key
	}
	w.book, err = book.OpenReader(filepath.Join(data, "book"))
	must(t, err)
	t.Cleanup(func() { w.book.Close() })
	return w
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (w *world) call(t *testing.T, method, url, body string, headers map[string]string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := w.client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return reply{resp.StatusCode, resp.Header, b}
}

// drive sends what a row says as an agent, in a session of its own.
func (w *world) drive(t *testing.T, r coverage.Row, agent, session string) reply {
	t.Helper()
	w.up.play(r)
	headers := map[string]string{gateway.HeaderKey: w.keys[agent], gateway.HeaderSession: session}
	if strings.HasPrefix(r.Group.URL(), "/azure/") {
		headers["X-Guardbook-Upstream"] = w.upstreamURL
	}
	for k, v := range r.Cell.Headers {
		headers[k] = v
	}
	name := script(r)
	if name != "text" && name != "call" {
		name = "text-plain"
	}
	return w.call(t, r.Group.Method(), w.url+r.Group.URL(), plant(r.Cell.Send, name, r.Streamed), headers)
}

// entries waits until a session has an entry that is wanted, and returns all of the
// session's.
func (w *world) entries(t *testing.T, session string, wanted func(guardbook.Entry) bool) []guardbook.Entry {
	t.Helper()
	var of []guardbook.Entry
	for range 100 {
		of = nil
		found := false
		for from := int64(0); ; {
			list, err := w.book.Read(t.Context(), 1, from, 1000)
			must(t, err)
			if len(list) == 0 {
				break
			}
			for _, e := range list {
				from = e.Seq + 1
				if bytes.Contains(e.Raw, []byte(`"session":"`+session+`"`)) {
					of = append(of, e)
					found = found || wanted(e)
				}
			}
		}
		if found {
			return of
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the entry that is expected is not in the book; of this session are:")
	for _, e := range of {
		t.Logf("%s", e.Raw)
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T) *coverage.Matrix {
	t.Helper()
	m, err := coverage.Load()
	must(t, err)
	return m
}

func TestEveryCellIsWhatTheMatrixSays(t *testing.T) {
	m := load(t)
	w := newWorld(t, m, "")
	n := 0
	for _, r := range m.Rows() {
		if r.Cell.MCP != "" {
			continue
		}
		n++
		session := fmt.Sprintf("cell-%d-", n)
		t.Run(r.Name(), func(t *testing.T) {
			switch r.Cell.State {
			case coverage.Guarded:
				w.guarded(t, r, session)
			case coverage.Unread:
				w.unread(t, r, session)
			case coverage.Refused:
				w.refused(t, r, session)
				if r.Cell.Policy != "" {
					w.passed(t, r, session+"open")
				}
			}
		})
	}
}

// fits reports whether an entry is the decision that a row must leave.
func fits(t *testing.T, e guardbook.Entry, r coverage.Row) bool {
	t.Helper()
	if e.Type != guardbook.TypeDecision {
		return false
	}
	d, err := guardbook.Body[guardbook.DecisionEntry](e)
	must(t, err)
	if string(d.Kind) != r.Cell.Kind || d.Path != r.Group.Path || d.Role != r.Cell.Role {
		return false
	}
	if r.Cell.Tool != "" && (d.Tool == nil || d.Tool.Name != r.Cell.Tool) {
		return false
	}
	if r.Cell.State == coverage.Unread {
		return d.Decision == guardbook.ActionAllow && len(d.Findings) == 0
	}
	if d.Decision != guardbook.ActionBlock {
		return false
	}
	if r.Cell.Gone != "" {
		return true
	}
	return slices.ContainsFunc(d.Findings, func(f guardbook.Finding) bool { return f.Rule == canary.Rule })
}

// guarded: the finding is in the book under its path, kind and role, and what was
// blocked did not reach the other side.
func (w *world) guarded(t *testing.T, r coverage.Row, session string) {
	got := w.drive(t, r, strictAgent, session)
	w.entries(t, session, func(e guardbook.Entry) bool { return fits(t, e, r) })
	gone := canary.Marker
	if r.Cell.Gone != "" {
		gone = r.Cell.Gone
	}
	for _, sent := range w.up.sent() {
		if strings.Contains(sent, gone) {
			t.Errorf("it went up: %s", sent)
		}
	}
	if reached := bytes.Contains(got.body, []byte(canary.Marker)) || bytes.Contains(got.body, []byte(canary.Marker[len(half):])); reached != r.Cell.Passes {
		t.Errorf("it reached the client: %v, and the matrix says %v: %s", reached, r.Cell.Passes, got.body)
	}
	if r.Streamed && !strings.Contains(got.header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("the answer is not streamed: %d %s", got.status, got.body)
	}
}

// unread: what cannot be read passes within something that is decided on.
func (w *world) unread(t *testing.T, r coverage.Row, session string) {
	w.drive(t, r, strictAgent, session)
	w.entries(t, session, func(e guardbook.Entry) bool { return fits(t, e, r) })
	if r.Group.Path == "inspect" {
		return
	}
	if sent := w.up.sent(); len(sent) != 1 || !strings.Contains(sent[0], r.Cell.Send) {
		t.Errorf("it did not go up as it was: %s", sent)
	}
}

// refused: the refusal is in the book, and nothing went up.
func (w *world) refused(t *testing.T, r coverage.Row, session string) {
	code := r.Cell.Code
	if code == "" {
		code = "endpoint_refused"
	}
	got := w.drive(t, r, strictAgent, session)
	if got.status < 400 {
		t.Errorf("answered with %d: %s", got.status, got.body)
	}
	if r.Cell.Policy != "" && !strings.Contains(string(got.body), "endpoints: [") {
		t.Errorf("the answer does not say how to let it pass: %s", got.body)
	}
	w.entries(t, session, func(e guardbook.Entry) bool {
		b, err := guardbook.Body[guardbook.RefusalEntry](e)
		return e.Type == guardbook.TypeRefusal && err == nil && b.Code == code && b.Path == r.Group.Path
	})
	if sent := w.up.sent(); len(sent) != 0 {
		t.Errorf("it went up: %s", sent)
	}
}

// passed: by a line of policy it passes unread, and that is in the book.
func (w *world) passed(t *testing.T, r coverage.Row, session string) {
	w.drive(t, r, openAgent, session)
	w.entries(t, session, func(e guardbook.Entry) bool { return e.Type == guardbook.TypePassthrough })
	sent := w.up.sent()
	if len(sent) != 1 || !strings.Contains(sent[0], plant(r.Cell.Send, "text-plain", r.Streamed)) {
		t.Errorf("it did not go up as it was: %s", sent)
	}
}

// Every test that the running instance plays to itself stands for a cell.
func TestEveryCanaryStandsForACell(t *testing.T) {
	m := load(t)
	rows := map[string]int{}
	for _, r := range m.Rows() {
		if name := r.Canary(); name != "" {
			rows[r.Group.Path+" "+name]++
		}
	}
	for _, c := range canary.Tests() {
		if n := rows[c.Path+" "+c.Cell]; n != 1 {
			t.Errorf("%s, %s stands for %d cells", c.Path, c.Cell, n)
		}
		delete(rows, c.Path+" "+c.Cell)
	}
	for name := range rows {
		t.Errorf("the matrix names a canary that there is not: %s", name)
	}
}

func TestThePageIsUpToDate(t *testing.T) {
	b, err := os.ReadFile("../docs/coverage.md")
	must(t, err)
	if string(b) != load(t).Page() {
		t.Error("docs/coverage.md is not what the matrix says: go generate ./coverage")
	}
}
