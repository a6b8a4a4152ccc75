// Package streamable guards MCP servers that are reached by HTTP: it serves
// /mcp/SERVER for every configured server, in both eras of the Streamable HTTP
// transport, and sends what was released on to the server's own URL.
//
// What an agent sends with Authorization is for the MCP server: it goes there
// untouched and stands in no log. An agent shows who it is to Guardbook with
// X-Guardbook-Key, with the key in the path, or with the key as a bearer token when
// the server needs none.
package streamable

import (
	"context"
	"encoding/json/jsontext"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Upstream is one configured server.
type Upstream struct {
	URL string
	// Headers are sent with every request, in place of the client's own of the same
	// name: a server's credentials that no agent shall have.
	Headers map[string]string
}

// Options are what a Handler is made of. Gateway and Keeper are required.
type Options struct {
	Gateway *gateway.Gateway
	Keeper  func(tenant string) mcp.Keeper
	Servers map[string]Upstream // by the name in the path and in policies

	BodyLimit     int64         // of one message; default mcp.MaxMessage
	BodyTimeout   time.Duration // for reading a whole request; default 2 min
	HeaderTimeout time.Duration // how long a server may take until it begins to answer; default 10 min
	WriteTimeout  time.Duration // how long a client may take to accept a piece; default 60 s
	KeepAlive     time.Duration // how long a stream stays silent before a comment; default 10 s
	Transport     http.RoundTripper
	// Canary takes the place of every server for the agent guardbook.CanaryAgent. nil:
	// nothing that this agent sends goes anywhere.
	Canary   http.RoundTripper
	Stopping <-chan struct{} // closed when the server stops: streams that never end by themselves end
	Log      *slog.Logger
	Now      func() time.Time
}

// Handler serves /mcp/SERVER, /k/KEY/mcp/SERVER, and the servers' OAuth metadata at
// /.well-known/oauth-protected-resource/mcp/SERVER. It is safe for concurrent use.
type Handler struct {
	o         Options
	servers   map[string]*upstream
	transport http.RoundTripper
	sessions  sessions
}

type upstream struct {
	name     string
	url      *url.URL
	headers  http.Header
	server   pin.Server
	mu       sync.Mutex
	metadata metadata
}

// reserved are headers that a configuration cannot set: they say what a message is.
var reserved = []string{"Content-Length", "Content-Type", "Content-Encoding", "Accept", "Accept-Encoding", "Host", "Connection", "Transfer-Encoding"}

// New returns a handler.
func New(o Options) (*Handler, error) {
	h := &Handler{servers: map[string]*upstream{}}
	if o.BodyLimit == 0 {
		o.BodyLimit = mcp.MaxMessage
	}
	for d, v := range map[*time.Duration]time.Duration{
		&o.BodyTimeout: 2 * time.Minute, &o.HeaderTimeout: 10 * time.Minute, &o.WriteTimeout: time.Minute, &o.KeepAlive: 10 * time.Second,
	} {
		if *d == 0 {
			*d = v
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h.o, h.transport = o, o.Transport
	if h.transport == nil {
		h.transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
			ResponseHeaderTimeout: o.HeaderTimeout, DisableCompression: true,
		}
	}
	for name, s := range o.Servers {
		u, err := CheckServer(name, s)
		if err != nil {
			return nil, err
		}
		up := &upstream{name: name, url: u, headers: http.Header{}, server: pin.Server{Name: name, Identity: pin.URLIdentity(u.String())}}
		for k, v := range s.Headers {
			up.headers.Set(k, v)
		}
		h.servers[name] = up
	}
	return h, nil
}

// CheckServer reports what is wrong with the configuration of a server.
func CheckServer(name string, s Upstream) (*url.URL, error) {
	if !Name(name) {
		return nil, fmt.Errorf("mcp server %.80q: a name is 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'", name)
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf("mcp server %q: url must be an http or https address with a host", name)
	}
	if u.User != nil {
		return nil, fmt.Errorf("mcp server %q: url must not hold a user or password; use headers", name)
	}
	for k := range s.Headers {
		if slices.Contains(reserved, http.CanonicalHeaderKey(k)) || strings.HasPrefix(http.CanonicalHeaderKey(k), "Mcp-") {
			return nil, fmt.Errorf("mcp server %q: header %q cannot be set: it says what a message is", name, k)
		}
	}
	return u, nil
}

// Name reports whether s can name a server in a path and in a policy.
func Name(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 64 && document.Plain(s) && !strings.ContainsAny(s, "/:$")
}

// Close lets go of kept connections.
func (h *Handler) Close() {
	if t, ok := h.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// errorShape tells errors as JSON-RPC does.
type errorShape struct{ id string }

// ErrorBody is a JSON-RPC error.
func (e errorShape) ErrorBody(_ int, _, message string) []byte {
	return rpcError(e.id, mcp.CodeInvalidRequest, message)
}

func rpcError(id string, code int, message string) []byte {
	if id == "" || !jsontext.Value(id).IsValid() {
		id = "null"
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}`, id, code, document.Quote(message))
}

// MetadataPath is where servers' OAuth metadata is, followed by the server's name.
const MetadataPath = "/.well-known/oauth-protected-resource/mcp/"

const (
	prefix      = "/mcp/"
	entryPath   = "mcp"
	headerID    = "Mcp-Session-Id"
	headerSince = "Last-Event-Id"
	headerMCP   = "Mcp-Protocol-Version"
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if name, ok := strings.CutPrefix(path, MetadataPath); ok {
		h.serveMetadata(w, r, name)
		return
	}
	key := ""
	if rest, ok := strings.CutPrefix(path, "/k/"); ok {
		var tail string
		key, tail, _ = strings.Cut(rest, "/")
		path = "/" + tail
	}
	c, refusal := gateway.Identify(r, key, h.o.Gateway.Keys())
	if refusal != nil {
		if refusal.Status == http.StatusUnauthorized {
			// 401 would send an MCP client to look for an OAuth server; there is none for
			// this key.
			refusal.Status = http.StatusForbidden
		}
		refusal.Tenant = c.Tenant
		h.o.Gateway.Refuse(r.Context(), w, errorShape{}, entryPath, refusal)
		return
	}
	x := &exchange{Handler: h, w: w, r: r, who: c, keeper: h.o.Keeper(c.Tenant)}
	up := h.servers[strings.TrimPrefix(path, prefix)]
	if c.Agent == guardbook.CanaryAgent {
		up = canaryServer
	}
	if up == nil || !strings.HasPrefix(path, prefix) {
		x.refuse(&gateway.Refusal{Status: http.StatusNotFound, Code: "endpoint_refused",
			Message: "Guardbook knows no MCP server by this name. Servers are configured under mcp_servers and reached at /mcp/NAME."})
		return
	}
	x.up = up
	if r.URL.RawQuery != "" {
		x.refuse(&gateway.Refusal{Status: http.StatusBadRequest, Code: "endpoint_refused",
			Message: "A guarded MCP server takes no query: it would be sent on unread. Put what the server needs into its configured URL or headers."})
		return
	}
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodDelete:
		x.serve()
	default:
		w.Header().Set("Allow", "POST, GET, DELETE")
		x.refuse(&gateway.Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "Use POST, GET or DELETE."})
	}
}

// exchange is one HTTP request of an agent and its answer.
type exchange struct {
	*Handler
	w       http.ResponseWriter
	r       *http.Request
	who     gateway.Caller
	keeper  mcp.Keeper
	up      *upstream
	ctx     context.Context // ends when the client goes, and when a kill covers the caller
	session *mcp.Session
	kept    bool   // the session outlives the request
	id      string // of the request in the body
	method  string // likewise
	marks   guardbook.Decision

	answered bool // the request in the body was answered
	streamed bool // the answer came as a stream
}

// refuse answers with an error when there is no decision to tell of.
func (x *exchange) refuse(f *gateway.Refusal) {
	f.Agent, f.Session, f.Tenant = x.who.Agent, x.who.Session, x.who.Tenant
	x.o.Gateway.Refuse(x.r.Context(), x.w, errorShape{x.id}, entryPath, f)
}

// serve has a request decided on and sends it on.
func (x *exchange) serve() {
	if f := x.single(); f != nil {
		x.refuse(f)
		return
	}
	if f := x.open(); f != nil {
		x.refuse(f)
		return
	}
	in := guardbook.Interaction{Tenant: x.who.Tenant, Agent: x.who.Agent, Session: x.who.Session}
	ctx, cancel := x.o.Gateway.Guard().Watch(x.r.Context(), &in)
	defer cancel()
	x.ctx = mcp.As(ctx, x.who)
	switch x.r.Method {
	case http.MethodPost:
		x.post()
	case http.MethodGet:
		if x.contained() {
			return
		}
		long, end := context.WithCancel(x.ctx)
		defer end()
		go func() {
			select {
			case <-x.o.Stopping: // nil: never
				end()
			case <-long.Done():
			}
		}()
		x.ctx = long
		x.forward(nil)
	case http.MethodDelete: // also of a contained agent: it only ends something
		x.forward(nil)
	}
}

// contained answers a request of somebody who is killed.
func (x *exchange) contained() bool {
	k, killed := x.o.Gateway.Guard().Contained(x.ctx)
	if !killed {
		return false
	}
	x.refuse(&gateway.Refusal{Status: http.StatusForbidden, Code: "contained", Message: gateway.StopText(k)})
	return true
}

// post takes a message of the agent.
func (x *exchange) post() {
	if media, _, _ := strings.Cut(x.r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		x.refuse(&gateway.Refusal{Status: http.StatusUnsupportedMediaType, Code: "bad_encoding", Message: "A message to an MCP server is sent as application/json."})
		return
	}
	body, refusal := gateway.ReadBody(x.w, x.r, x.o.BodyLimit, x.o.BodyTimeout)
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	doc, err := document.Parse(body)
	if err == nil {
		if why := x.mismatch(doc.Root()); why != "" {
			x.id = idOf(doc.Root())
			f := &gateway.Refusal{Status: http.StatusBadRequest, Code: "header_mismatch", Message: why, Bytes: int64(len(body))}
			f.Agent, f.Session, f.Tenant = x.who.Agent, x.who.Session, x.who.Tenant
			x.o.Gateway.Refuse(x.r.Context(), x.w, mismatchShape{x.id}, entryPath, f)
			return
		}
	}
	result := x.session.Handle(x.ctx, mcp.FromClient, body)
	x.marks, x.method = result.Decision, result.Method
	if !result.Response {
		x.id = result.ID
	}
	if result.Forward == nil {
		x.answer(result)
		return
	}
	defer func() {
		// An answer that can still come, on a stream that the client resumes, is waited for.
		if x.id != "" && !x.answered && (!x.kept || !x.streamed) {
			x.session.Forget(mcp.FromClient, x.id)
		}
	}()
	if x.contained() {
		return
	}
	if result.Arguments != nil {
		x.mirror(doc.Root(), result.Arguments)
	}
	x.forward(result.Forward)
}

// idOf is the id of a request, as written, for an answer that is an error.
func idOf(root document.Value) string {
	if id := root.Get("id"); id.Kind() == '"' || id.Kind() == '0' {
		return id.Raw()
	}
	return ""
}

// answer answers a message that does not go on.
func (x *exchange) answer(r mcp.Result) {
	x.setMarks()
	if r.Answer == nil { // a notification, or an answer to the server: nobody waits for more
		x.w.WriteHeader(http.StatusAccepted)
		return
	}
	status := http.StatusOK
	if r.Refusal != nil && r.Method == "" {
		status = r.Refusal.Status
	}
	x.write(status, r.Answer)
}

func (x *exchange) write(status int, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // the decision is made; whether it arrives is the client's affair
}

// setMarks sets the headers that every guarded answer has.
func (x *exchange) setMarks() {
	action := x.marks.Action
	if action == "" || action == guardbook.ActionLog {
		action = guardbook.ActionAllow
	}
	x.w.Header().Set(gateway.HeaderDecision, string(action))
	if x.marks.Entry != "" {
		x.w.Header().Set(gateway.HeaderEntry, x.marks.Entry)
	}
}

func (x *exchange) note(d guardbook.Decision) {
	if d.Entry != "" && (x.marks.Entry == "" || x.marks.Action != d.Action && guardbook.Stricter(x.marks.Action, d.Action) == d.Action) {
		x.marks = d
	}
}

// readLimited reads an answer's body.
func readLimited(r io.Reader, limit int64) ([]byte, bool, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(b)) > limit {
		return nil, true, nil
	}
	return b, false, err
}
