package gateway

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// handler serves one provider's API.
type handler struct {
	*Gateway
	p     Protocol
	mount string // "/openai", or "/up/NAME"
	to    target
}

// Handler returns the handler of one provider's API. It serves "/NAME/v1/..." and
// "/k/KEY/NAME/v1/...", where NAME is the protocol's; an upstream with a name of its
// own is served at "/up/NAME/v1/...".
func (g *Gateway) Handler(p Protocol, up Upstream) (http.Handler, error) {
	to, err := up.target(p.Name())
	if err != nil {
		return nil, err
	}
	h := &handler{Gateway: g, p: p, mount: "/" + p.Name(), to: to}
	if up.Name != "" {
		h.mount = "/up/" + up.Name
	}
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, rest := cutKey(r.URL.EscapedPath())
	api, ok := strings.CutPrefix(rest, h.mount)
	caller, refusal := Identify(r, key, h.o.Keys)
	if refusal != nil {
		refusal.Tenant = caller.Tenant
		h.Refuse(r.Context(), w, h.p, h.p.Name(), refusal)
		return
	}
	to, refusal := h.targetOf(caller)
	if refusal != nil {
		h.refuse(r.Context(), w, caller, h.p.Name(), refusal)
		return
	}
	if to != h.to {
		copied := *h
		copied.to = to
		h = &copied
	}
	if !ok || !h.serves(api) || !canonical(api) {
		h.refuseEndpoint(w, r, caller, api)
		return
	}
	if e := h.p.Endpoint(r.Method, api); e != nil {
		h.guarded(w, r, caller, e, api)
		return
	}
	h.passthrough(w, r, caller, api)
}

// serves reports whether a path is one of the provider's API.
func (h *handler) serves(api string) bool {
	if p, ok := h.p.(interface{ Serves(api string) bool }); ok {
		return p.Serves(api)
	}
	return strings.HasPrefix(api, "/v1/")
}

// canonical reports whether a path means one thing only. Servers differ in what they
// make of "//", "..", and escaped slashes, and an endpoint must not be reached by a
// second name.
func canonical(p string) bool {
	return path.Clean(p) == strings.TrimSuffix(p, "/") && !strings.ContainsAny(p, "%\\;")
}

// passthrough forwards, unread, what policy lets through, and refuses the rest.
func (h *handler) passthrough(w http.ResponseWriter, r *http.Request, c Caller, api string) {
	if r.Header.Get("Upgrade") != "" {
		h.refuse(r.Context(), w, c, h.p.Name(), &Refusal{Status: http.StatusForbidden, Code: "endpoint_refused",
			Message: "Guardbook does not read connections that change their protocol (WebSocket), so none is opened, whatever policy lists. Use the provider's API over HTTP."})
		return
	}
	pass, ok := h.o.Guard.Endpoint(c.Agent, r.Method, api)
	if !ok || h.shadows(api) {
		h.refuseEndpoint(w, r, c, api)
		return
	}
	if refusal := h.recordPassage(r.Context(), c, h.p.Name(), r.Method, api, pass); refusal != nil {
		h.refuse(r.Context(), w, c, h.p.Name(), refusal)
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
	resp, err := h.roundTrip(c, out)
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
	if !canonical(api) || !h.serves(api) || !document.Plain(strings.ReplaceAll(api, "/", "")) || h.shadows(api) {
		f.Status = http.StatusNotFound
		f.Message = "Guardbook does not forward this path. The API begins at " + h.mount + "/v1/, and paths must be written in their plain form."
	} else {
		why := ""
		if e, ok := h.p.(Explainer); ok {
			if why = e.Unguarded(r.Method, api); why != "" {
				why = " " + why
			}
		}
		f.Message = fmt.Sprintf("Guardbook does not read the endpoint %s, so it is not forwarded.%s To let it pass unread, add this line to the agent's policy: endpoints: [%q].", shown, why, shown)
	}
	h.refuse(r.Context(), w, c, h.p.Name(), f)
}

// refuse is Refuse for a known caller.
func (h *handler) refuse(ctx context.Context, w http.ResponseWriter, c Caller, path string, f *Refusal) {
	f.Agent, f.Session, f.Tenant, f.Client, f.ClientSeq = c.Agent, c.Session, c.Tenant, c.Client, c.ClientSeq
	h.Refuse(ctx, w, h.p, path, f)
}

func clip(s string) string {
	if len(s) > 256 {
		return strings.ToValidUTF8(s[:256], "") + "..."
	}
	return s
}
