package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// Upstream is a provider's API.
type Upstream struct {
	URL string // base URL without "/v1"; one with it means the same
	Key string // the provider's key for clients that bring none; may be empty
}

// handler serves one provider.
type handler struct {
	*Gateway
	p    Protocol
	base *url.URL
	key  string
}

// Handler returns the handler of one provider's API. It serves "/NAME/v1/..." and
// "/k/KEY/NAME/v1/...", where NAME is the protocol's.
func (g *Gateway) Handler(p Protocol, up Upstream) (http.Handler, error) {
	u, err := url.Parse(strings.TrimSuffix(strings.TrimRight(up.URL, "/"), "/v1"))
	if err != nil {
		return nil, fmt.Errorf("%s upstream: %w", p.Name(), err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s upstream %q: must be http://HOST or https://HOST", p.Name(), u.Redacted())
	}
	return &handler{Gateway: g, p: p, base: u, key: up.Key}, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, rest := cutKey(r.URL.EscapedPath())
	api, ok := strings.CutPrefix(rest, "/"+h.p.Name())
	caller, refusal := Identify(r, key, h.o.Keys)
	if refusal != nil {
		refusal.Tenant = caller.Tenant
		h.Refuse(r.Context(), w, h.p, h.p.Name(), refusal)
		return
	}
	if !ok || !strings.HasPrefix(api, "/v1/") || !canonical(api) {
		h.refuseEndpoint(w, r, caller, api)
		return
	}
	if e := h.p.Endpoint(r.Method, api); e != nil {
		h.guarded(w, r, caller, e, api)
		return
	}
	h.passthrough(w, r, caller, api)
}

// canonical reports whether a path means one thing only. Servers differ in what they
// make of "//", "..", and escaped slashes, and an endpoint must not be reached by a
// second name.
func canonical(p string) bool {
	return path.Clean(p) == strings.TrimSuffix(p, "/") && !strings.ContainsAny(p, "%\\;")
}

// passthrough forwards, unread, what policy lets through, and refuses the rest.
func (h *handler) passthrough(w http.ResponseWriter, r *http.Request, c Caller, api string) {
	pass, ok := h.o.Guard.Endpoint(c.Agent, r.Method, api)
	if !ok || h.shadows(api) {
		h.refuseEndpoint(w, r, c, api)
		return
	}
	err := h.o.Guard.Record(r.Context(), guardbook.Draft{Type: guardbook.TypePassthrough, Tenant: c.Tenant, Body: guardbook.PassthroughEntry{
		Agent: c.Agent, Session: c.Session, Path: h.p.Name(), Method: r.Method, Endpoint: clip(api),
		Rule: pass.Rule, Policy: pass.Policy, Bundle: pass.Bundle,
	}})
	if err != nil && h.o.Guard.OnBookError(c.Agent) != guardbook.ActionAllow {
		h.refuse(r.Context(), w, c, h.p.Name(), NotDurable())
		return
	}
	// An agent that is killed loses what runs unread, too.
	in := guardbook.Interaction{Tenant: c.Tenant, Agent: c.Agent, Session: c.Session}
	ctx, cancel := h.o.Guard.Watch(r.Context(), &in)
	defer cancel()
	if k, killed := h.o.Guard.Contained(ctx); killed {
		h.refuse(r.Context(), w, c, h.p.Name(), &Refusal{Status: http.StatusForbidden, Code: "contained", Message: StopText(k)})
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.o.HeaderTimeout)) // a writer without deadlines has no slow clients: a test's recorder
	out := h.outbound(ctx, r, api)
	out.Body, out.ContentLength = r.Body, r.ContentLength
	if r.ContentLength == 0 {
		out.Body = nil
	}
	copyHeader(out.Header, r.Header, "Content-Type", "Content-Encoding")
	resp, err := h.transport.RoundTrip(out)
	if err != nil {
		h.refuse(r.Context(), w, c, h.p.Name(), h.unreachable(ctx, r, err))
		return
	}
	defer resp.Body.Close()
	responseHeader(w.Header(), resp.Header)
	copyHeader(w.Header(), resp.Header, "Content-Length", "Content-Encoding")
	w.WriteHeader(resp.StatusCode)
	copyFlushing(w, resp.Body)
}

// shadows reports whether a path would be a guarded endpoint to a server that does
// not care for capitals or a slash at the end, or with another method.
func (h *handler) shadows(api string) bool {
	plain := strings.ToLower(strings.TrimSuffix(api, "/"))
	return h.p.Endpoint(http.MethodPost, plain) != nil
}

func (h *handler) refuseEndpoint(w http.ResponseWriter, r *http.Request, c Caller, api string) {
	shown := r.Method + " " + api
	f := &Refusal{Status: http.StatusForbidden, Code: "endpoint_refused"}
	if !canonical(api) || !strings.HasPrefix(api, "/v1/") || !document.Plain(strings.ReplaceAll(api, "/", "")) || h.shadows(api) {
		f.Status = http.StatusNotFound
		f.Message = "Guardbook does not forward this path. The API begins at /" + h.p.Name() + "/v1/, and paths must be written in their plain form."
	} else {
		f.Message = fmt.Sprintf("Guardbook does not read the endpoint %s, so it is not forwarded. To let it pass unread, add this line to the agent's policy: endpoints: [%q].", shown, shown)
	}
	h.refuse(r.Context(), w, c, h.p.Name(), f)
}

// refuse is Refuse for a known caller.
func (h *handler) refuse(ctx context.Context, w http.ResponseWriter, c Caller, path string, f *Refusal) {
	f.Agent, f.Session, f.Tenant = c.Agent, c.Session, c.Tenant
	h.Refuse(ctx, w, h.p, path, f)
}

func clip(s string) string {
	if len(s) > 256 {
		return strings.ToValidUTF8(s[:256], "") + "..."
	}
	return s
}
