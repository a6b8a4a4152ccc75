package gateway

import (
	"context"
	"fmt"
	"net/http"

	"github.com/guardbook/guardbook"
)

// recordPassage records that something passes unread by a line of policy. The
// refusal is not nil when it must not pass after all.
func (g *Gateway) recordPassage(ctx context.Context, c Caller, path, method, endpoint string, pass Passage) *Refusal {
	err := g.o.Guard.Record(ctx, guardbook.Draft{Type: guardbook.TypePassthrough, Tenant: c.Tenant, Body: guardbook.PassthroughEntry{
		Agent: c.Agent, Session: c.Session, Path: path, Method: method, Endpoint: clip(endpoint),
		Rule: pass.Rule, Policy: pass.Policy, Bundle: pass.Bundle, Client: c.Client, ClientSeq: c.ClientSeq,
	}})
	if err != nil && g.o.Guard.OnBookError(c.Agent) != guardbook.ActionAllow {
		return NotDurable()
	}
	return nil
}

// passUnread asks policy whether a part of a request that cannot be read may pass.
func (x *exchange) passUnread(n Need) *Refusal {
	pass, ok := x.o.Guard.Endpoint(x.who.Agent, n.Method, n.Path)
	if !ok {
		return &Refusal{Status: http.StatusForbidden, Code: "endpoint_refused",
			Message: fmt.Sprintf("%s To let it pass unread, add this line to the agent's policy: endpoints: [%q].", n.Why, n.Method+" "+n.Path)}
	}
	return x.recordPassage(x.r.Context(), x.who, x.e.Path(), n.Method, n.Path, pass)
}

// unread reports whether the endpoint's answers pass as they come.
func (x *exchange) unread() bool {
	_, ok := x.e.(Unread)
	return ok
}
