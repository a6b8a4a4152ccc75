package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/guardbook/guardbook"
)

// bodyLimit is the size of a request that the server takes.
const bodyLimit = 32 << 20

// Next sends a request on its way.
type Next = func(*http.Request) (*http.Response, error)

// Middleware returns a middleware for openai-go and anthropic-sdk-go
// (option.WithMiddleware): every attempt of every call goes through the guard, streamed
// or not. A block is an error of that SDK with status 403, from which AsBlocked takes
// the decision; it is not retried.
func (g *Guard) Middleware() func(*http.Request, Next) (*http.Response, error) {
	return g.forward
}

// RoundTripper returns a transport for any client of a provider's API. What it sends
// without the guard, when policy lets it, goes through base; nil: http.DefaultTransport.
func (g *Guard) RoundTripper(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return roundTripper{g, base}
}

type roundTripper struct {
	g    *Guard
	base http.RoundTripper
}

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.g.forward(r, t.base.RoundTrip)
}

// forward sends a provider's request through the gateway.
func (g *Guard) forward(r *http.Request, next Next) (*http.Response, error) {
	way, err := routeOf(r)
	if err != nil {
		closeBody(r)
		return answer(r, http.StatusForbidden, "endpoint_refused", err.Error(), ""), nil
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	ctx, scope := r.Context(), scopeOf(r.Context())
	q := question{Kind: guardbook.KindInput, Session: cmp.Or(scope.Session, g.o.Session), Client: g.id, ClientSeq: g.seq.Add(1), Via: via}
	if offersTools(body) {
		q.Kind = guardbook.KindToolCall
	}
	resp, err := g.through(ctx, r, way, body, q, scope)
	switch {
	case err == nil:
		return resp, nil
	case ctx.Err() != nil:
		g.tell("unanswered", []question{q}, ctx.Err())
		return nil, ctx.Err()
	}
	g.away(err)
	if !g.open(q.Kind) {
		g.tell("refused", []question{q}, err)
		return answer(r, http.StatusServiceUnavailable, "guardbook_unavailable",
			"Guardbook cannot be reached, and without its decision this call is refused: "+err.Error(), err.Error()), nil
	}
	g.tell("unguarded", []question{q}, err)
	straight := r.Clone(ctx)
	setBody(straight, body)
	return next(straight)
}

// through asks the gateway. An error means that it could not be reached.
func (g *Guard) through(ctx context.Context, r *http.Request, way route, body []byte, q question, scope Scope) (*http.Response, error) {
	if !g.breaker.allow() {
		return nil, errors.New("the server did not answer before, and is not asked for some seconds")
	}
	s, err := g.reach(ctx)
	if err != nil {
		g.breaker.failed()
		return nil, err
	}
	out := r.Clone(ctx)
	to, err := url.Parse(s.url + way.path)
	if err != nil {
		g.breaker.succeeded()
		return nil, err
	}
	to.RawQuery = r.URL.RawQuery
	out.URL, out.Host, out.RequestURI = to, to.Host, ""
	setBody(out, body)
	asked := ""
	if g.o.AsksTools {
		asked = "asked"
	}
	for name, v := range map[string]string{
		"X-Guardbook-Key": s.key, "X-Guardbook-Session": q.Session, "X-Guardbook-User": cmp.Or(scope.User, g.o.User),
		"X-Guardbook-Parent": cmp.Or(scope.Parent, g.o.Parent), "X-Guardbook-Client": g.id,
		"X-Guardbook-Client-Seq": strconv.FormatInt(q.ClientSeq, 10), "X-Guardbook-Upstream": way.upstream, "X-Guardbook-Block": "raise",
		"X-Guardbook-Tool-Calls": asked,
	} {
		if v != "" {
			out.Header.Set(name, v)
		}
	}
	resp, err := g.http.Transport.RoundTrip(out)
	if err != nil {
		if ctx.Err() == nil {
			g.breaker.failed()
			g.lost(err)
		} else {
			g.breaker.succeeded() // the caller gave up, which says nothing about the server
		}
		return nil, err
	}
	g.breaker.succeeded()
	g.settle(true)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		resp.Body = newWatched(resp.Body)
	}
	resp.Request = r
	return resp, nil
}

// route is where a provider's request goes at the gateway.
type route struct {
	path     string // at the gateway
	upstream string // the client's own base URL
}

// endings are the paths of an OpenAI-compatible API that has no /v1.
var endings = []string{"/chat/completions", "/completions", "/embeddings", "/responses", "/moderations", "/models"}

// routeOf finds out which provider's API a request is for, and where it begins.
func routeOf(r *http.Request) (route, error) {
	base := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}
	path := r.URL.EscapedPath()
	if i := strings.Index(path, "/openai/deployments/"); i >= 0 {
		base.Path = path[:i]
		return route{"/azure" + path[i:], base.String()}, nil
	}
	provider := "/openai"
	if r.Header.Get("Anthropic-Version") != "" {
		provider = "/anthropic"
	}
	if i := strings.Index(path, "/v1/"); i >= 0 {
		base.Path = path[:i]
		return route{provider + path[i:], base.String()}, nil
	}
	for _, e := range endings {
		if strings.HasSuffix(path, e) {
			base.Path = strings.TrimSuffix(path, e) + "/" // the whole base: it has another version, or none
			return route{provider + "/v1" + e, base.String()}, nil
		}
	}
	return route{}, fmt.Errorf("the request is not sent: the guard does not know which API the path %q belongs to", path)
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer closeBody(r)
	b, err := io.ReadAll(io.LimitReader(r.Body, bodyLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read the request's body: %w", err)
	}
	if len(b) > bodyLimit {
		return nil, fmt.Errorf("guardbook: the request's body is larger than %d bytes", bodyLimit)
	}
	return b, nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // it was read, or is not wanted
	}
}

func setBody(r *http.Request, body []byte) {
	r.ContentLength = int64(len(body))
	if len(body) == 0 {
		r.Body, r.GetBody = nil, nil
		return
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body = io.NopCloser(bytes.NewReader(body))
}

// offersTools reports whether the model may answer a request with a tool call. What
// cannot be read may.
func offersTools(body []byte) bool {
	if len(body) == 0 {
		return false
	}
	var told map[string]any
	if err := json.Unmarshal(body, &told); err != nil {
		return true
	}
	for _, name := range []string{"tools", "functions", "mcp_servers", "web_search_options", "requests"} {
		if v, ok := told[name]; ok && v != nil {
			return true
		}
	}
	return false
}

// answer is an error in the shape that both providers' SDKs read, and do not retry.
func answer(r *http.Request, status int, code, message, unavailable string) *http.Response {
	type inner struct {
		Type        string `json:"type"`
		Code        string `json:"code"`
		Message     string `json:"message"`
		Unavailable string `json:"guardbook_unavailable,omitzero"`
	}
	b, _ := json.Marshal(struct { // strings marshal
		Type  string `json:"type"`
		Error inner  `json:"error"`
	}{"error", inner{"guardbook", code, message, unavailable}})
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(b)), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}, "X-Should-Retry": {"false"}},
		Body:   io.NopCloser(bytes.NewReader(b)),
	}
}
