// Package api is the HTTP API that operators use, under /api/v1, with the
// health and metrics endpoints beside it. Command line and dashboard do nothing
// that cannot be done here. openapi.yaml describes every route; a test holds the
// two together.
package api

import (
	"context"
	_ "embed"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/clients"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/respond"
)

// Recorder writes facts down in the book. An error means that they are not known
// to be there.
type Recorder interface {
	Append(ctx context.Context, d ...guardbook.Draft) error
}

// Book is the part of the book that is read here.
type Book interface {
	Origin() string
	Size() int64
	Writable() error // nil, or why the last append failed
	Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error
	Prove(ctx context.Context, seq int64) ([]byte, error)
	Checkpoint() book.Checkpoint
}

// Archive is the part of the archive that is read here.
type Archive interface {
	Events(ctx context.Context, q archive.Query) ([]guardbook.Entry, error)
	Event(ctx context.Context, id string) (guardbook.Entry, error)
	Counts(ctx context.Context, q archive.Query, by archive.By) (map[string]int64, error)
}

// Policies gives the policies in force and those that once were.
type Policies interface {
	Current() *policy.Bundle // nil: none is loaded
	Bundle(hash string) (*policy.Bundle, error)
}

// Containments is the kill switch.
type Containments interface {
	Kill(ctx context.Context, scope, by, reason string, d time.Duration) (respond.Containment, error)
	Lift(ctx context.Context, scope, by, reason string) (respond.Containment, error)
	List() []respond.Containment
}

// Evidence builds evidence packages.
type Evidence interface {
	// Build writes the package for [from, to) to w as a zip file.
	Build(ctx context.Context, from, to time.Time, by string, w io.Writer) error
}

// Clients is the account of the SDKs' processes; nil: none is kept.
type Clients interface {
	List() []clients.Client
}

// Rules explains the rules of detectors.
type Rules interface {
	// Meaning says in a sentence what a rule looks for; false: the rule is not known.
	Meaning(rule string) (string, bool)
}

// Counters gives totals since the start of the instance, by name.
type Counters interface {
	Counters() map[string]int64
}

// Options says what the API speaks for. Rules, Ready, Stopping, Log and Now may
// be nil; everything else is required.
type Options struct {
	Access       *access.Store
	Recorder     Recorder
	Book         Book
	BookDir      string // where the checkpoint and the tiles of the current epoch are
	Key          string // verifier key of the checkpoints, C2SP note format
	Fingerprint  string // of that key, for people
	Archive      Archive
	Policies     Policies
	Containments Containments
	Alerts       Alerts
	Evidence     Evidence
	Clients      Clients
	Tools        Tools // nil: no tools are pinned
	Rules        Rules
	Counters     Counters
	Version      string          // of the program
	Secure       bool            // the server is reached by TLS only, perhaps through a proxy: cookies say so
	Ready        func() []string // further reasons why the server is not ready; empty: it is
	Stopping     <-chan struct{} // closed at shutdown: streams end
	Log          *slog.Logger
	Now          func() time.Time
}

type api struct {
	o           Options
	log         *slog.Logger
	now         func() time.Time
	mux         *http.ServeMux
	crossOrigin *http.CrossOriginProtection
	metrics     *metrics
	reads       reads
	minutes     minutes
	streams     atomic.Int64 // open streams of the timeline
}

// A route is one line of the list that both the mux and the OpenAPI document have.
type route struct {
	method, path string
	door         door
	handle       handler
}

//go:embed openapi.yaml
var openAPI []byte

// New returns the handler for /api/, /healthz, /readyz and /metrics. Other paths
// are not found.
func New(o Options) http.Handler {
	a := &api{o: o, log: o.Log, now: o.Now, mux: http.NewServeMux(), crossOrigin: http.NewCrossOriginProtection()}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.metrics = a.newMetrics()
	for _, x := range a.routes() {
		a.mux.Handle(x.method+" "+x.path, a.serve(x.door, x.handle))
	}
	a.mux.Handle("/", a.serve(forAll, a.noRoute))
	return a.mux
}

func (a *api) routes() []route {
	v1 := "/api/v1/"
	return []route{
		{"GET", v1 + "events", forOperators, a.listEvents},
		{"GET", v1 + "events/stream", forOperators, a.streamEvents},
		{"GET", v1 + "events/{id}", forOperators, a.showEvent},

		{"GET", v1 + "clients", forOperators, a.listClients},
		{"GET", v1 + "agents", forOperators, a.listAgents},
		{"POST", v1 + "agents", forOperators, a.createAgent},
		{"POST", v1 + "agents/{name}/rotate", forOperators, a.rotateAgent},
		{"DELETE", v1 + "agents/{name}", forOperators, a.removeAgent},

		{"GET", v1 + "mcp/tools", forOperators, a.listTools},
		{"POST", v1 + "mcp/tools/approve", forOperators, a.approveTool},
		{"POST", v1 + "mcp/tools/reject", forOperators, a.rejectTool},

		{"GET", v1 + "containments", forOperators, a.listContainments},
		{"POST", v1 + "kill", forOperators, a.kill},
		{"POST", v1 + "lift", forOperators, a.lift},

		{"GET", v1 + "alerts", forOperators, a.listAlerts},
		{"GET", v1 + "alerts/{id}", forOperators, a.showAlert},
		{"POST", v1 + "alerts/{id}/ack", forOperators, a.ackAlert},
		{"POST", v1 + "alerts/{id}/assign", forOperators, a.assignAlert},
		{"POST", v1 + "alerts/{id}/close", forOperators, a.closeAlert},

		{"GET", v1 + "policies", forOperators, a.listPolicies},
		{"GET", v1 + "policies/at", forOperators, a.policiesAt},
		{"GET", v1 + "bundles/{hash}", forOperators, a.showBundle},

		{"GET", v1 + "book", forOperators, a.showBook},
		{"GET", v1 + "book/checkpoint", forOperators, a.bookCheckpoint},
		{"GET", v1 + "book/proof/{seq}", forOperators, a.bookProof},
		{"GET", v1 + "book/tile/{path...}", forOperators, a.bookTile},

		{"POST", v1 + "evidence", forOperators, a.buildEvidence},
		{"POST", v1 + "evidence/record", forOperators, a.recordEvidence},
		{"GET", v1 + "overview", forOperators, a.overview},

		{"GET", v1 + "session", forOperators, a.showSession},
		{"POST", v1 + "login/once", forAll, a.loginOnce},
		{"POST", v1 + "login/link", forOperators, a.newLoginLink},
		{"POST", v1 + "login", forAll, a.login},
		{"POST", v1 + "logout", forOperators, a.logout},
		{"POST", v1 + "account", forOperators, a.createAccount},
		{"GET", v1 + "accounts", forOperators, a.listAccounts},
		{"DELETE", v1 + "accounts/{name}", forOperators, a.removeAccount},

		{"GET", "/api/openapi.yaml", forAll, a.showOpenAPI},
		{"GET", "/healthz", forLocal, a.healthz},
		{"GET", "/readyz", forLocal, a.readyz},
		{"GET", "/metrics", forLocal, a.showMetrics},
	}
}

// noRoute tells a wrong method from a wrong path.
func (a *api) noRoute(w http.ResponseWriter, r *http.Request, _ string) error {
	var allowed []string
	for _, m := range []string{"GET", "POST", "DELETE"} {
		x := r.Clone(r.Context())
		x.Method = m
		if _, pattern := a.mux.Handler(x); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 && !slices.Contains(allowed, r.Method) {
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		return &problem{http.StatusMethodNotAllowed, codeMethod, "this path takes " + list}
	}
	return notFound("there is nothing at this path; /api/openapi.yaml lists what there is")
}

func (a *api) showOpenAPI(w http.ResponseWriter, _ *http.Request, _ string) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, err := w.Write(openAPI)
	return err
}
