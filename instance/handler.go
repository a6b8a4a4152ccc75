package instance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/guardbook/guardbook/api"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/canary"
	"github.com/guardbook/guardbook/dashboard"
	"github.com/guardbook/guardbook/evidence"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/inspect"
)

// openDoors makes the handler of every path in interface.md: agents' doors first,
// operators' behind them.
func (i *Instance) openDoors(context.Context) error {
	i.keys = canary.NewKeys(i.access)
	i.gateway = gateway.New(gateway.Options{
		Guard: gateway.NewGuard(i.guard), Keys: i.keys, Canary: canary.Upstream(), BlockMode: gateway.BlockMode(i.cfg.BlockMode), Log: i.log,
		Upstreams: i.upstreams(), AnyUpstream: i.cfg.ClientUpstreams == "any",
	})
	doors, err := i.providers()
	if err != nil {
		return err
	}
	operators := api.New(api.Options{
		Access: i.access, Recorder: recorder{i.book}, Book: i.book, BookDir: i.bookDir(),
		Key: i.key.EpochVerifier(i.book.Opened().Epoch), Fingerprint: i.key.Fingerprint(),
		Archive: fresh{i.archive, i.book}, Policies: i.policies, Containments: i.containments, Alerts: i.alerts,
		Evidence: evidenceBuilder{i}, Clients: i.clients, Tools: i.mcp.pins, Rules: i.meaning(), Counters: i.guard, Version: i.build.Version,
		Ready: i.warming, Stopping: i.stopping, Log: i.log,
	})
	mux := http.NewServeMux()
	if err := i.serveMCP(mux, doors); err != nil {
		return err
	}
	for prefix, door := range doors {
		mux.Handle(prefix, door)
	}
	mux.Handle("/k/{key}/", keyInPath(doors))
	inspecting := inspect.Handler(i.gateway)
	mux.Handle("/v1/inspect", inspecting)
	mux.Handle("/v1/inspect/batch", inspecting)
	mux.Handle("/v1/record", inspect.RecordHandler(i.gateway, i.clients))
	for _, path := range []string{"/v1/", "/up/"} {
		mux.HandleFunc(path, i.stray)
	}
	for _, path := range []string{"/api/", "/healthz", "/readyz", "/metrics"} {
		mux.Handle(path, operators)
	}
	mux.Handle("/", dashboard.Handler())
	i.server = gateway.NewServer(mux, i.log)
	return nil
}

// warming says why decisions would still take longer than callers wait.
func (i *Instance) warming() []string {
	if i.policies.Warming() {
		return []string{"the SQL parser that a policy needs is starting: a second or two"}
	}
	return nil
}

// bookDir is where the current epoch's checkpoint and tiles are.
func (i *Instance) bookDir() string {
	return filepath.Join(i.cfg.Data, "book", fmt.Sprint(i.book.Opened().Epoch))
}

// evidenceBuilder builds packages from the running instance's own book.
type evidenceBuilder struct{ i *Instance }

func (b evidenceBuilder) Build(ctx context.Context, from, to time.Time, by string, w io.Writer) error {
	if _, err := b.i.book.Seal(ctx); err != nil { // what is in the book by now belongs into the package
		return err
	}
	r, err := book.OpenReader(filepath.Join(b.i.cfg.Data, "book"))
	if err != nil {
		return err
	}
	defer r.Close()
	src := evidence.FromBook(r, filepath.Join(b.i.cfg.Data, "bundles", "blobs"))
	_, err = evidence.BuildZip(ctx, src, evidence.Options{
		From: from, To: to, Key: b.i.key, By: by, Tool: b.i.build,
		Role: "operator", AuthMethod: "operator API", Recorded: "an operator entry of type evidence_built",
		Archive: evidence.FromArchive(b.i.archive),
	}, w, nil)
	return err
}

// ruleMeanings explains the rules of the first layer.
type ruleMeanings map[string]string

func (m ruleMeanings) Meaning(rule string) (string, bool) {
	s, ok := m[rule]
	return s, ok
}

func (i *Instance) meaning() ruleMeanings {
	m := ruleMeanings{}
	for _, r := range i.engine.Rules() {
		m[r.ID] = r.Meaning
	}
	return m
}
