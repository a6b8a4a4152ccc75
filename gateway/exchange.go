package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

const (
	retryUpstream = time.Second
	contextLimit  = 8 << 10 // bytes of Interaction.Context
)

// exchange is one guarded request and its answer.
type exchange struct {
	*handler
	w    http.ResponseWriter
	r    *http.Request
	who  Caller
	e    Endpoint
	call *Call
	ctx  context.Context // ends when the client goes, and when a kill covers the caller
	// opening is the first entry of a streamed answer, until the answer begins.
	opening *opening
	// model is the answer's own name of the model, and tokens what it says that it
	// wrote, when it has told them.
	model  string
	tokens int64
}

// guarded serves a request to an endpoint that the gateway understands.
func (h *handler) guarded(w http.ResponseWriter, r *http.Request, c Caller, e Endpoint, api string) {
	x := &exchange{handler: h, w: w, r: r, who: c, e: e}
	body, refusal := ReadBody(w, r, h.o.BodyLimit, h.o.BodyTimeout)
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	doc, err := document.Parse(body)
	if err != nil {
		x.refuse(SyntaxRefusal(err))
		return
	}
	req, err := e.Request(doc)
	if err != nil {
		x.refuse(&Refusal{Status: http.StatusBadRequest, Code: "malformed_request", Message: err.Error(), Bytes: int64(len(body))})
		return
	}
	if it := queryItem(r.URL); it != nil {
		req.Items = append(req.Items, it)
	}
	x.begin(req)
	for _, n := range req.Needs {
		if refusal := x.passUnread(n); refusal != nil {
			x.refuse(refusal)
			return
		}
	}
	ctx, cancel := h.o.Guard.Watch(r.Context(), &x.call.base)
	defer cancel()
	x.ctx = ctx
	// The decision is made and recorded even if the client goes away meanwhile.
	ds, err := x.call.decide(context.WithoutCancel(ctx), req.Items)
	if err != nil {
		x.refuse(NotDurable())
		return
	}
	if stop := apply(req.Items, ds); stop != nil {
		x.call.decision = *stop
		x.blocked(BlockText(*stop))
		return
	}
	if req.Settled != nil {
		req.Settled()
	}
	x.forward(doc.String(), api)
}

// begin makes the call and its session.
func (x *exchange) begin(req *Request) {
	session := x.who.Session
	if session == "" {
		session = fallbackSession(x.who, req)
		x.who.Session = session
	}
	x.call = &Call{Request: req, guard: x.o.Guard, record: x.record, base: guardbook.Interaction{
		Tenant: x.who.Tenant, Agent: x.who.Agent, Session: session, User: x.who.User, Parent: x.who.Parent,
		Path: x.e.Path(), Context: ContextOf(req), Client: x.who.Client, ClientSeq: x.who.ClientSeq,
	}, asked: x.who.ToolCalls == "asked"}
}

func (x *exchange) record(ctx context.Context, t guardbook.EntryType, body any) error {
	return x.o.Guard.Record(ctx, guardbook.Draft{Type: t, Tenant: x.who.Tenant, Body: body})
}

// fallbackSession names the session of a client that does not: the turns of one
// conversation begin with the same texts.
func fallbackSession(c Caller, req *Request) string {
	h := sha256.New()
	for _, s := range []string{c.Tenant, c.Agent, req.System, req.FirstUser} {
		fmt.Fprintf(h, "%d:", len(s))
		_, _ = io.WriteString(h, s) // a hash takes everything
	}
	return "auto-" + hex.EncodeToString(h.Sum(nil)[:12])
}

// ContextOf is the system prompt and the last request, cut to contextLimit; each
// gets half when both are long.
func ContextOf(req *Request) string {
	system, user := req.System, req.LastUser
	if over := len(system) + 1 + len(user) - contextLimit; over > 0 {
		keep := max(contextLimit/2, contextLimit-1-len(user))
		system = cut(system, keep)
		user = cut(user, contextLimit-1-len(system))
	}
	switch {
	case system == "":
		return user
	case user == "":
		return system
	}
	return system + "\n" + user
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// queryItem is what the query of a URL says, if it is more than plain identifiers.
func queryItem(u *url.URL) *Item {
	if u.RawQuery == "" {
		return nil
	}
	it := NewItem(guardbook.KindInput, "")
	text := u.RawQuery
	if s, err := url.QueryUnescape(text); err == nil && utf8.ValidString(s) {
		text = s
	}
	for _, c := range []byte(text) {
		if c != '=' && c != '&' && !document.Plain(string(rune(c))) || len(text) > 256 {
			it.Add(document.Place{}, text)
			it.Redact = func(guardbook.Decision) { u.RawQuery = "" }
			return it
		}
	}
	return nil
}

// refuse answers with an error, when there is no decision to tell of.
func (x *exchange) refuse(f *Refusal) { x.handler.refuse(x.r.Context(), x.w, x.who, x.e.Path(), f) }

// marks sets the headers that every guarded answer has.
func (x *exchange) marks() {
	d := x.call.decision
	action := d.Action
	if action == guardbook.ActionLog || action == "" {
		action = guardbook.ActionAllow
	}
	h := x.w.Header()
	h.Set(HeaderDecision, string(action))
	if d.Entry != "" {
		h.Set(HeaderEntry, d.Entry)
	}
}

// blocked answers a request that was not sent, or not answered, with a text.
func (x *exchange) blocked(text string) {
	x.marks()
	h := x.w.Header()
	if x.raises() || x.o.BlockMode == Error && x.who.Block == "" || x.call.Request.Unanswerable {
		x.errorAnswer(text)
		return
	}
	if !x.call.Request.Stream {
		h.Set("Content-Type", "application/json")
		_, _ = x.w.Write(x.e.Blocked(x.call, text))
		return
	}
	streamHeader(h)
	out := newOut(x.w, x.p, x.o.WriteTimeout, 0)
	x.e.Stream(x.call, out).Stop(text)
	out.close()
}

// raises reports whether the client makes errors of blocks itself.
func (x *exchange) raises() bool { return x.who.Block == raise }

// forward sends the request upstream and brings the answer back.
func (x *exchange) forward(body, api string) {
	ctx, cancel := context.WithCancelCause(x.ctx)
	defer cancel(context.Canceled)
	out := x.outbound(ctx, x.r, api)
	out.Header.Set("Content-Type", "application/json")
	raw := []byte(body)
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	if x.call.Request.Stream {
		x.opening = x.open(ctx)
		defer x.neverOpened(ctx)
	}
	resp, err := x.roundTrip(x.who, out)
	if err != nil {
		if k, killed := x.o.Guard.Contained(x.ctx); killed {
			x.contained(k)
			return
		}
		x.refuse(x.unreachable(ctx, x.r, err))
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		defer x.called()
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // unreadable is not an event stream
	switch {
	case resp.StatusCode >= 400:
		x.upstreamError(resp)
	case resp.StatusCode < 200 || resp.StatusCode >= 300:
		x.refuse(&Refusal{Status: http.StatusBadGateway, Code: "upstream_broken", Retry: retryUpstream,
			Message: fmt.Sprintf("The upstream answered with status %d, which is no answer to this request.", resp.StatusCode)})
	case x.unread():
		responseHeader(x.w.Header(), resp.Header)
		copyHeader(x.w.Header(), resp.Header, "Content-Length", "Content-Encoding")
		x.marks()
		x.w.WriteHeader(resp.StatusCode)
		copyFlushing(x.w, resp.Body)
	case mediaType == "text/event-stream":
		x.stream(ctx, cancel, resp)
	default:
		x.answer(ctx, cancel, resp)
	}
}

// contained answers a call that a kill ended before its answer began.
func (x *exchange) contained(k Containment) {
	x.o.Guard.Cut(k)
	x.call.decision = containedDecision(k)
	x.recordRefusal(x.r.Context(), x.e.Path(), &Refusal{Agent: x.who.Agent, Session: x.who.Session, Tenant: x.who.Tenant,
		Status: http.StatusOK, Code: "contained", Message: "A kill of " + k.Scope + " (" + k.ID + ") ended the call before its answer."})
	x.blocked(StopText(k))
}

// upstreamError passes an error of the provider through as it is.
func (x *exchange) upstreamError(resp *http.Response) {
	x.recordRefusal(x.r.Context(), x.e.Path(), &Refusal{Agent: x.who.Agent, Session: x.who.Session, Tenant: x.who.Tenant,
		Status: resp.StatusCode, Code: "upstream_status", Message: fmt.Sprintf("The upstream answered with status %d.", resp.StatusCode)})
	responseHeader(x.w.Header(), resp.Header)
	copyHeader(x.w.Header(), resp.Header, "Content-Length", "Content-Encoding")
	x.marks()
	x.w.WriteHeader(resp.StatusCode)
	copyFlushing(x.w, resp.Body)
}

// answer brings back an answer that is not streamed.
func (x *exchange) answer(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) {
	idle := time.AfterFunc(x.o.IdleTimeout, func() { cancel(errIdle) })
	defer idle.Stop()
	body, err := readLimited(&idleReader{resp.Body, idle, x.o.IdleTimeout}, x.o.BodyLimit, resp.ContentLength)
	if err == nil {
		body, err = decode(body, resp.Header.Get("Content-Encoding"), x.o.BodyLimit)
	}
	if err != nil {
		x.brokenAnswer(ctx, err)
		return
	}
	doc, err := document.Parse(body)
	if err != nil {
		x.broken(int64(len(body)), "is not strict JSON: "+err.Error())
		return
	}
	x.tell(doc.Root())
	ans, err := x.e.Answer(doc, x.call)
	if err != nil {
		x.broken(int64(len(body)), err.Error())
		return
	}
	ds, err := x.call.decide(context.WithoutCancel(ctx), ans.Items)
	if err != nil {
		x.refuse(NotDurable())
		return
	}
	stop := apply(ans.Items, ds)
	if x.raises() {
		stop = firstBlocked(ds)
	}
	if stop != nil {
		x.call.decision = *stop
		x.blocked(BlockText(*stop))
		return
	}
	if ans.Settled != nil {
		ans.Settled()
	}
	out := doc.String()
	responseHeader(x.w.Header(), resp.Header)
	x.marks()
	x.w.Header().Set("Content-Length", fmt.Sprint(len(out)))
	x.w.WriteHeader(resp.StatusCode)
	_, _ = io.WriteString(x.w, out) // the decision is made; whether it arrives is the client's affair
}

// brokenAnswer says why an answer could not be read to its end.
func (x *exchange) brokenAnswer(ctx context.Context, err error) {
	if k, killed := x.o.Guard.Contained(x.ctx); killed {
		x.contained(k)
		return
	}
	switch {
	case x.r.Context().Err() != nil:
		x.refuse(&Refusal{Status: statusClientGone, Code: "client_gone", Message: "The client went away before the answer was complete."})
	case errors.Is(context.Cause(ctx), errIdle):
		x.refuse(&Refusal{Status: http.StatusGatewayTimeout, Code: "upstream_timeout", Retry: retryUpstream,
			Message: fmt.Sprintf("The upstream stopped in the middle of its answer and sent nothing for %v.", x.o.IdleTimeout)})
	case errors.Is(err, errTooLarge):
		x.broken(0, fmt.Sprintf("is larger than the limit of %d bytes", x.o.BodyLimit))
	default:
		x.broken(0, "ended early or cannot be decoded")
	}
}

// broken refuses an answer that cannot be read.
func (x *exchange) broken(size int64, why string) {
	x.refuse(&Refusal{Status: http.StatusBadGateway, Code: "upstream_broken", Retry: retryUpstream, Bytes: size,
		Message: "The upstream's answer " + why + "; it is not passed on unread."})
}
