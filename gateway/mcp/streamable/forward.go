package streamable

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp"
)

const (
	statusClientGone = 499
	retryUpstream    = time.Second
	maxErrorBody     = 64 << 10
)

// request makes the request that goes upstream.
func (x *exchange) request(ctx context.Context, method string, body []byte) *http.Request {
	u := *x.up.url
	out := &http.Request{Method: method, URL: &u, Host: u.Host, Header: x.requestHeader(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if body != nil {
		out.Header.Set("Content-Type", "application/json")
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	} else {
		out.Header.Del("Content-Type")
	}
	return out.WithContext(ctx)
}

// forward sends a request on and brings the answer back.
func (x *exchange) forward(body []byte) {
	resp, err := x.roundTrip(x.request(x.ctx, x.r.Method, body))
	if err != nil {
		x.unreachable(err)
		return
	}
	defer func(body io.Closer) { _ = body.Close() }(resp.Body) // nothing more is read
	x.keep(resp)
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // unreadable is neither JSON nor a stream
	switch enc := strings.ToLower(resp.Header.Get("Content-Encoding")); enc {
	case "", "identity":
	case "gzip", "x-gzip": // asked not to, it compressed all the same
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			x.broken("is not compressed as it says")
			return
		}
		resp.Body = io.NopCloser(z)
	default:
		x.broken("comes in an encoding that was not asked for")
		return
	}
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400, code < 200:
		x.broken(fmt.Sprintf("has status %d; a redirection would lead past Guardbook: configure the address that the server is at", code))
	case code >= 400:
		x.failed(resp, media)
	case media == "text/event-stream":
		x.stream(resp)
	case media == "application/json":
		x.json(resp)
	case x.r.Method == http.MethodDelete, code == http.StatusAccepted, code == http.StatusNoContent:
		responseHeader(x.w.Header(), resp.Header)
		x.w.Header().Del("Content-Type")
		x.setMarks()
		x.w.WriteHeader(code)
	default:
		if n, _ := io.ReadFull(resp.Body, make([]byte, 1)); n == 0 {
			responseHeader(x.w.Header(), resp.Header)
			x.setMarks()
			x.w.WriteHeader(code)
			return
		}
		x.broken("is neither JSON nor an event stream")
	}
}

// keep ties the connection to the session that the server names, and ends it with the
// server's.
func (x *exchange) keep(resp *http.Response) {
	id := x.r.Header.Get(headerID)
	if id != "" && (x.r.Method == http.MethodDelete && resp.StatusCode < 300 || resp.StatusCode == http.StatusNotFound) {
		x.sessions.drop(sessionKey(x.up.name, id))
		return
	}
	given := resp.Header.Get(headerID)
	if id == "" && given != "" && len(given) <= 1024 && resp.StatusCode < 300 && x.method == "initialize" {
		x.session = x.sessions.put(sessionKey(x.up.name, given), x.who, x.session)
		x.kept = true
	}
}

// json brings back an answer that is not streamed.
func (x *exchange) json(resp *http.Response) {
	body, large, err := readLimited(resp.Body, x.o.BodyLimit)
	switch {
	case err != nil:
		x.interrupted()
		return
	case large:
		x.broken(fmt.Sprintf("is larger than the limit of %d bytes", x.o.BodyLimit))
		return
	}
	if k, killed := x.o.Gateway.Guard().Contained(x.ctx); killed {
		x.killed(k)
		return
	}
	r := x.session.Handle(x.ctx, mcp.FromServer, body)
	x.note(r.Decision)
	x.answered = x.answered || r.Response && r.ID == x.id
	responseHeader(x.w.Header(), resp.Header)
	x.setMarks()
	switch {
	case r.Forward != nil:
		x.write(resp.StatusCode, r.Forward)
	case x.id != "":
		why := "The server's answer cannot be passed on."
		if r.Refusal != nil {
			why = r.Refusal.Message
		}
		x.write(http.StatusBadGateway, rpcError(x.id, mcp.CodeInternal, why))
	default:
		x.w.Header().Del("Content-Type")
		x.w.WriteHeader(http.StatusAccepted)
	}
}

// failed brings back an error of the server: its status, and its headers, so that a
// client can do what OAuth asks of it. What the error says is read like anything else
// that a server says.
func (x *exchange) failed(resp *http.Response, media string) {
	body, large, err := readLimited(resp.Body, maxErrorBody)
	if err != nil && x.ctx.Err() != nil {
		x.interrupted()
		return
	}
	if large || err != nil || !utf8.Valid(body) {
		body = nil
	}
	if x.r.Method != http.MethodGet || resp.StatusCode != http.StatusMethodNotAllowed { // a server need not offer that stream
		x.record(&gateway.Refusal{Status: resp.StatusCode, Code: "upstream_status", Message: fmt.Sprintf("The MCP server %s answered with status %d.", x.up.name, resp.StatusCode)})
	}
	if media == "application/json" && body != nil {
		if doc, err := document.Parse(body); err == nil && doc.Root().Get("jsonrpc").Exists() && x.id != "" && idOf(doc.Root()) == x.id {
			r := x.session.Handle(x.ctx, mcp.FromServer, body)
			x.note(r.Decision)
			x.answered = x.answered || r.Response && r.ID == x.id
			body = r.Forward
		} else {
			body = x.scanned(body)
		}
	} else {
		body = x.scanned(body)
	}
	responseHeader(x.w.Header(), resp.Header)
	x.setMarks()
	if body == nil {
		x.w.Header().Del("Content-Type")
		x.w.WriteHeader(resp.StatusCode)
		return
	}
	x.w.Header().Set("X-Content-Type-Options", "nosniff")
	x.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	x.w.WriteHeader(resp.StatusCode)
	_, _ = x.w.Write(body) // a client that has gone is no news here
}

// scanned is the body of an error when it may pass; else a text in its place.
func (x *exchange) scanned(body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	in := guardbook.Interaction{Kind: guardbook.KindToolResult, Tenant: x.who.Tenant, Agent: x.who.Agent, Session: x.who.Session,
		User: x.who.User, Parent: x.who.Parent, Path: entryPath + "/http-error",
		Tool: &guardbook.Tool{Server: x.up.name, Name: "http-error"}, Content: []guardbook.Part{guardbook.TextPart(string(body))}}
	ds, err := x.keeper.Decide(context.WithoutCancel(x.ctx), &in)
	if err != nil || len(ds) != 1 {
		return nil
	}
	x.note(ds[0])
	switch {
	case !ds[0].Action.Releases():
		return rpcError(x.id, mcp.CodeBlocked, gateway.BlockText(ds[0]))
	case ds[0].Action == guardbook.ActionRedact && len(ds[0].Content) == 1:
		return []byte(ds[0].Content[0].Text)
	}
	return body
}

func (x *exchange) record(f *gateway.Refusal) {
	f.Agent, f.Session, f.Tenant = x.who.Agent, x.who.Session, x.who.Tenant
	x.keeper.Refused(context.WithoutCancel(x.ctx), guardbook.RefusalEntry{Agent: f.Agent, Session: f.Session, Path: entryPath, Status: f.Status, Code: f.Code, Message: f.Message})
}

// broken refuses an answer that cannot be read.
func (x *exchange) broken(why string) {
	x.refuse(&gateway.Refusal{Status: http.StatusBadGateway, Code: "upstream_broken", Retry: retryUpstream,
		Message: "The answer of MCP server " + x.up.name + " " + why + "; it is not passed on unread."})
}

// interrupted says why an answer could not be read to its end.
func (x *exchange) interrupted() {
	if k, killed := x.o.Gateway.Guard().Contained(x.ctx); killed {
		x.killed(k)
		return
	}
	if x.r.Context().Err() != nil {
		x.refuse(&gateway.Refusal{Status: statusClientGone, Code: "client_gone", Message: "The client went away before the answer was complete."})
		return
	}
	x.broken("ended early")
}

// killed answers a request that a kill ended before its answer began.
func (x *exchange) killed(k gateway.Containment) {
	x.o.Gateway.Guard().Cut(k)
	x.refuse(&gateway.Refusal{Status: http.StatusForbidden, Code: "contained", Message: gateway.StopText(k)})
}

// unreachable says why no answer came.
func (x *exchange) unreachable(err error) {
	if k, killed := x.o.Gateway.Guard().Contained(x.ctx); killed {
		x.killed(k)
		return
	}
	if x.r.Context().Err() != nil {
		x.refuse(&gateway.Refusal{Status: statusClientGone, Code: "client_gone", Message: "The client went away before the MCP server answered."})
		return
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		x.refuse(&gateway.Refusal{Status: http.StatusGatewayTimeout, Code: "upstream_timeout", Retry: retryUpstream,
			Message: "The MCP server " + x.up.name + " did not begin to answer in time."})
		return
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	reason := err.Error()
	if len(reason) > 200 {
		reason = strings.ToValidUTF8(reason[:200], "") + "..."
	}
	x.refuse(&gateway.Refusal{Status: http.StatusBadGateway, Code: "upstream_unreachable", Retry: retryUpstream,
		Message: fmt.Sprintf("The MCP server %s cannot be reached (%s). Check mcp_servers in the config file and the network.", x.up.name, reason)})
}
