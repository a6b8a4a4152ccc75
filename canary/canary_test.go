package canary_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/canary"
	"github.com/guardbook/guardbook/detect/pattern"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/anthropic"
	"github.com/guardbook/guardbook/gateway/inspect"
	"github.com/guardbook/guardbook/gateway/openai"
	"github.com/guardbook/guardbook/guard"
	"github.com/guardbook/guardbook/instance"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/respond"
	"github.com/guardbook/guardbook/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// strict lets one agent do nothing at all, and covers no other.
const strict = `
policy: nobody
version: 1
owner: security@example.com
agents: [nobody]
mode: enforce
tools: []
`

// The whole server, with policies that know nothing of tests, plays every test to
// itself, catches each, and sends none of them to a provider.
func TestTheServerCatchesItsOwnTestsWhateverPolicySays(t *testing.T) {
	var sent atomic.Int64
	provider := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer provider.Close()
	data := t.TempDir()
	policies := filepath.Join(data, "policies")
	if err := os.MkdirAll(policies, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(policies, "p.yaml"), []byte(strict), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := instance.Load(map[string]string{"data": data, "listen": "127.0.0.1:0", "canary-every": "1s",
		"openai-upstream": provider.URL, "anthropic-upstream": provider.URL}, func(string) string { return "" }, "")
	if err != nil {
		t.Fatal(err)
	}
	i, err := instance.Start(t.Context(), cfg, derive.Tool{Version: "test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := len(canary.Tests()) + 3 // the first round, and something of the second
	var found []guardbook.CanaryEntry
	for deadline := time.Now().Add(time.Minute); len(found) < want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		found = canaries(t, r)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	found = canaries(t, r)
	if len(found) < want {
		t.Errorf("%d tests were played, want %d", len(found), want)
	}
	for n, e := range found {
		if !e.OK || e.Containment != "" || len(e.Decisions) == 0 {
			t.Errorf("%s, %s: expected %q, got %q", e.Path, e.Cell, e.Expected, e.Got)
		}
		if all := canary.Tests(); n < len(all) && (e.Path != all[n].Path || e.Cell != all[n].Cell) {
			t.Errorf("test %d is %s, %s", n, e.Path, e.Cell)
		}
	}
	if n := sent.Load(); n != 0 {
		t.Errorf("%d requests went to a provider", n)
	}
	entries, err := r.Read(t.Context(), 1, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch e.Type {
		case guardbook.TypeAlert:
			t.Errorf("a test opened an alert: %s", e.Raw)
		case guardbook.TypeStart:
			if b, err := guardbook.Body[guardbook.StartEntry](e); err != nil || b.Canaries != "1s" {
				t.Errorf("start: %s", e.Raw)
			}
		case guardbook.TypeHeartbeat:
			if strings.Contains(string(e.Raw), `"calls"`) {
				t.Errorf("tests were counted as model calls: %s", e.Raw)
			}
		}
	}
}

func canaries(t *testing.T, r *book.Reader) []guardbook.CanaryEntry {
	t.Helper()
	entries, err := r.Read(t.Context(), 1, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return bodies(t, entries)
}

func bodies(t *testing.T, entries []guardbook.Entry) []guardbook.CanaryEntry {
	t.Helper()
	var out []guardbook.CanaryEntry
	for _, e := range entries {
		if e.Type == guardbook.TypeCanary {
			b, err := guardbook.Body[guardbook.CanaryEntry](e)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b)
		}
	}
	return out
}

// world is a gateway whose parts a test can break.
type world struct {
	*canary.Player
	book         *book.Book
	containments *respond.Containments
}

type recorder struct{ *book.Book }

func (r recorder) Append(ctx context.Context, d ...guardbook.Draft) error {
	_, err := r.Book.Append(ctx, d...)
	return err
}

func (r recorder) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	_, err := r.Book.AppendDurable(ctx, d...)
	return err
}

// nobody knows no key but pretends to know an agent of the tests' name.
type nobody struct{}

func (nobody) Authenticate(key string) (agent, tenant string, ok bool) {
	return guardbook.CanaryAgent, guardbook.DefaultTenant, key == "gbk_of-an-older-agent"
}

func newWorld(t *testing.T, detectors []guardbook.Detector, upstream http.RoundTripper) world {
	t.Helper()
	dir := t.TempDir()
	key, _, err := book.LoadKey(filepath.Join(dir, "signing-key"))
	must(t, err)
	b, err := book.Open(filepath.Join(dir, "book"), book.Options{Key: key, Durability: book.Balanced})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	bundle, err := policy.NewBundle([]policy.File{{Name: "p.yaml", Source: []byte(strict)}})
	must(t, err)
	w := world{book: b, containments: respond.NewContainments(recorder{b}, nil)}
	g := guard.New(guard.Options{Book: recorder{b}, Bundle: func() *policy.Bundle { return bundle }, Containments: w.containments,
		Detectors: detectors, CommitmentKey: make([]byte, 32), Budget: 10 * time.Second})
	keys := canary.NewKeys(nobody{})
	gw := gateway.New(gateway.Options{Guard: gateway.NewGuard(g), Keys: keys, Canary: upstream})
	t.Cleanup(gw.Close)
	mux := http.NewServeMux()
	oai, err := openai.Handler(gw, gateway.Upstream{URL: "http://127.0.0.1:1"})
	must(t, err)
	anth, err := anthropic.Handler(gw, gateway.Upstream{URL: "http://127.0.0.1:1"})
	must(t, err)
	mux.Handle("/openai/", oai)
	mux.Handle("/anthropic/", anth)
	mux.Handle("/v1/", inspect.Handler(gw))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.Player = canary.New(canary.Options{URL: srv.URL, Keys: keys, Book: b, Recorder: g, Every: time.Minute})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v1/inspect", strings.NewReader(`{"kind":"input","content":"x"}`))
	must(t, err)
	req.Header.Set(gateway.HeaderKey, "gbk_of-an-older-agent")
	resp, err := srv.Client().Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a registered agent goes as the test agent: %d", resp.StatusCode)
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w world) play(t *testing.T) []guardbook.CanaryEntry {
	t.Helper()
	var tests []canary.Test
	for _, c := range canary.Tests() {
		if c.Path == "anthropic/messages" || c.Path == "inspect" {
			tests = append(tests, c)
		}
	}
	played := w.Play(t.Context(), tests)
	entries, err := w.book.Read(t.Context(), 0, 10_000)
	must(t, err)
	if n := len(bodies(t, entries)); n != len(tests) || len(played) != n {
		t.Fatalf("%d of %d tests are in the book", n, len(tests))
	}
	return played
}

func engine(t *testing.T) []guardbook.Detector {
	t.Helper()
	pack, err := pattern.Load(rules.FS)
	must(t, err)
	return []guardbook.Detector{pattern.New(pack, pattern.Options{})}
}

// blind finds nothing.
type blind struct{}

func (blind) Layer() string   { return "L1" }
func (blind) Version() string { return "blind" }
func (blind) Detect(context.Context, *guardbook.Interaction) ([]guardbook.Finding, error) {
	return nil, nil
}

func TestADetectorThatFindsNothingIsAMissOnEveryPath(t *testing.T) {
	for _, e := range newWorld(t, []guardbook.Detector{blind{}}, canary.Upstream()).play(t) {
		if e.OK || e.Containment != "" || !strings.Contains(e.Got, "no finding") {
			t.Errorf("%s, %s: %+v", e.Path, e.Cell, e)
		}
	}
}

// silent answers tests like a provider would that they had reached.
type silent struct{}

func (silent) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	_, _ = w.WriteString(`{"type":"message","content":[]}`)
	return w.Result(), nil
}

func TestATestThatIsAnsweredFromElsewhereIsAMiss(t *testing.T) {
	for _, e := range newWorld(t, engine(t), silent{}).play(t) {
		if e.OK != (e.Path == "inspect") {
			t.Errorf("%s, %s: %+v", e.Path, e.Cell, e)
		}
	}
}

func TestWithoutAnUpstreamOfTheirOwnTestsGoNowhere(t *testing.T) {
	for _, e := range newWorld(t, engine(t), nil).play(t) {
		if e.OK != (e.Path == "inspect") || e.Path != "inspect" && !strings.Contains(e.Got, "502") {
			t.Errorf("%s, %s: %+v", e.Path, e.Cell, e)
		}
	}
}

func TestAContainedTestIsNoMiss(t *testing.T) {
	w := newWorld(t, engine(t), canary.Upstream())
	k, err := w.containments.Kill(t.Context(), "tenant:default", "somebody", "a drill", 0)
	must(t, err)
	for _, e := range w.play(t) {
		if !e.OK || e.Containment != k.ID {
			t.Errorf("%s, %s: %+v", e.Path, e.Cell, e)
		}
	}
}
