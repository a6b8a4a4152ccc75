package api_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/api"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/archive/sqlite"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/respond"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server with everything real behind it: files, book, archive,
// policies, containments, alerts.
type world struct {
	dir      string
	book     *book.Book
	archive  *sqlite.Archive
	access   *access.Store
	policies *policy.Store
	server   *httptest.Server
	token    string
	rec      *recorder
	stopping chan struct{}
	logs     *syncBuffer
}

// recorder is the book, for those who need no receipts; it can be made to fail.
type recorder struct {
	book *book.Book
	mu   sync.Mutex
	err  error
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recorder) Append(ctx context.Context, d ...guardbook.Draft) error {
	return r.AppendDurable(ctx, d...)
}

func (r *recorder) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	r.mu.Lock()
	err := r.err
	r.mu.Unlock()
	if err == nil {
		_, err = r.book.AppendDurable(ctx, d...)
	}
	return err
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// evidenceFunc builds a package.
type evidenceFunc func(ctx context.Context, from, to time.Time, by string, w io.Writer) error

func (f evidenceFunc) Build(ctx context.Context, from, to time.Time, by string, w io.Writer) error {
	return f(ctx, from, to, by, w)
}

func smallPackage(_ context.Context, from, to time.Time, by string, w io.Writer) error {
	z := zip.NewWriter(w)
	f, err := z.Create("scope.txt")
	if err != nil {
		return err
	}
	fmt.Fprintf(f, "%s %s %s", from.Format(time.RFC3339), to.Format(time.RFC3339), by)
	return z.Close()
}

type counters map[string]int64

func (c counters) Counters() map[string]int64 { return c }

type meanings map[string]string

func (m meanings) Meaning(rule string) (string, bool) { s, ok := m[rule]; return s, ok }

const billingPolicy = `policy: billing-bot
version: 1
owner: payments@example.com
agents: ["billing-bot"]
mode: enforce
tools:
  - name: query_database
    allow: {query: {type: string}}
alerts: {from: high, to: security-oncall}
`

func newWorld(t *testing.T, change ...func(*api.Options)) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), stopping: make(chan struct{}), logs: &syncBuffer{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(w.logs, nil))
	key, _, err := book.LoadKey(filepath.Join(w.dir, "signing-key"))
	must(err)
	w.book, err = book.Open(filepath.Join(w.dir, "book"), book.Options{Key: key, Durability: book.Balanced})
	must(err)
	w.rec = &recorder{book: w.book}
	w.archive, err = sqlite.Open(t.Context(), filepath.Join(w.dir, "archive.db"), log)
	must(err)
	must(os.Mkdir(filepath.Join(w.dir, "policies"), 0o700))
	must(os.WriteFile(filepath.Join(w.dir, "policies", "billing.yaml"), []byte(billingPolicy), 0o600))
	w.policies, err = policy.OpenStore(t.Context(), filepath.Join(w.dir, "policies"), filepath.Join(w.dir, "bundles"), w.rec, log)
	must(err)
	w.access, err = access.Open(t.Context(), access.Options{Dir: w.dir, Recorder: w.rec, Log: log,
		History: func(ctx context.Context, fn func(guardbook.Entry) error) error {
			entries, err := w.book.Read(ctx, 0, int(w.book.Size()))
			for _, e := range entries {
				if err := fn(e); err != nil {
					return err
				}
			}
			return err
		}})
	must(err)
	containments := respond.NewContainments(w.rec, log)
	alerts := respond.NewAlerts(w.rec, nil, respond.AlertOptions{Log: log})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = archive.Run(ctx, w.book, w.archive, log) })
	wg.Go(func() { _ = alerts.Run(ctx, w.book, 0) })
	wg.Go(func() { _ = containments.Run(ctx) })
	o := api.Options{
		Access: w.access, Recorder: w.rec, Book: w.book, BookDir: filepath.Join(w.dir, "book", "1"), Key: key.Verifier(), Fingerprint: key.Fingerprint(),
		Archive: w.archive, Policies: w.policies, Containments: containments, Alerts: alerts, Evidence: evidenceFunc(smallPackage),
		Rules: meanings{"pi-1": "text that gives orders to a model"}, Counters: counters{"interactions": 3, "decision.block": 1, "layer.L1.runs": 3},
		Version: "1.2.3", Stopping: w.stopping, Log: log,
	}
	for _, f := range change {
		f(&o)
	}
	w.server = httptest.NewServer(api.New(o))
	b, err := os.ReadFile(filepath.Join(w.dir, access.AdminTokenFile))
	must(err)
	w.token = strings.TrimSpace(string(b))
	t.Cleanup(func() {
		w.server.CloseClientConnections()
		w.server.Close()
		cancel()
		wg.Wait()
		w.access.Close()
		w.archive.Close()
		w.book.Close()
	})
	return w
}

// decided appends decisions of an agent and waits until the archive has them.
func (w *world) decided(t *testing.T, agent string, decisions ...guardbook.DecisionEntry) []guardbook.Entry {
	t.Helper()
	from := w.book.Size()
	for _, d := range decisions {
		d.Agent, d.Kind, d.Policy, d.Bundle, d.Mode = agent, guardbook.KindToolCall, "billing-bot", w.policies.Current().Hash, guardbook.ModeEnforce
		if d.Session == "" {
			d.Session = "s-1"
		}
		if d.Layers == nil {
			d.Layers = []guardbook.LayerRun{}
		}
		if d.Findings == nil {
			d.Findings = []guardbook.Finding{}
		}
		if err := w.rec.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeDecision, Time: time.Now(), Body: d}); err != nil {
			t.Fatal(err)
		}
	}
	w.settle(t)
	entries, err := w.book.Read(t.Context(), from, int(w.book.Size()-from))
	if err != nil {
		t.Fatal(err)
	}
	var out []guardbook.Entry
	for _, e := range entries {
		if e.Type == guardbook.TypeDecision {
			out = append(out, e)
		}
	}
	return out
}

// settle waits until the archive has everything that is in the book now.
func (w *world) settle(t *testing.T) {
	t.Helper()
	size := w.book.Size()
	eventually(t, "the archive has every entry", func() bool {
		_, next, err := w.archive.Cursor(t.Context())
		return err == nil && next >= size
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// operatorOps lists the operator entries of the book: what was done, and by whom.
func (w *world) operatorOps(t *testing.T) []string {
	t.Helper()
	entries, err := w.book.Read(t.Context(), 0, int(w.book.Size()))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Type == guardbook.TypeOperator {
			b, err := guardbook.Body[guardbook.OperatorEntry](e)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b.Op+" by "+b.By)
		}
	}
	return out
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

func (a answer) code(t *testing.T) string {
	t.Helper()
	var e struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	a.into(t, &e)
	return e.Error.Code
}

// as says with which headers a request is sent.
type as map[string]string

func (w *world) admin() as { return as{"Authorization": "Bearer " + w.token} }

// call sends a request as the admin. Every answer is checked against the OpenAPI
// document.
func (w *world) call(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return w.callAs(t, w.admin(), method, path, body)
}

func (w *world) callAs(t *testing.T, who as, method, path string, body any) answer {
	t.Helper()
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		rd = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		rd = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, w.server.URL+path, rd)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range who {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	resp, err := w.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, b}
	checkAnswer(t, method, path, a)
	return a
}

// want fails unless the answer has the status, and returns it.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}
