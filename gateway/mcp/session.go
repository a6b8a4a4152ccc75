package mcp

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

const (
	batchVersion  = "2025-03-26" // the only revision with batches
	modernVersion = "2026-07-28" // the first stateless revision
)

// Handle takes one message that came from a direction and says what becomes of it.
// raw is one JSON text; it is not kept.
//
// The decisions are made and recorded even when ctx ends meanwhile.
func (s *Session) Handle(ctx context.Context, from Direction, raw []byte) Result {
	ctx = context.WithoutCancel(ctx)
	doc, err := document.Parse(raw)
	if err != nil {
		return s.refuse(ctx, from, syntaxFault(err), int64(len(raw)))
	}
	if doc.Root().Kind() == '[' {
		return s.batch(ctx, from, doc)
	}
	m, fault := read(doc, doc.Root())
	if fault != nil {
		return s.refuse(ctx, from, fault, int64(len(raw)))
	}
	return s.handle(ctx, from, m)
}

// TooLarge is what becomes of a message that is larger than the transport takes: it is
// recorded, and the transport closes the connection, since what follows cannot be
// told from the rest of it.
func (s *Session) TooLarge(ctx context.Context, from Direction, limit int64) Result {
	return s.refuse(context.WithoutCancel(ctx), from, &faultError{code: document.CodeTooLarge, rpc: CodeInvalidRequest,
		reason: "the message is larger than this connection takes"}, limit)
}

func (s *Session) handle(ctx context.Context, from Direction, m *message) Result {
	switch m.shape {
	case shapeRequest:
		return s.request(ctx, from, m)
	case shapeNotification:
		return s.notification(ctx, from, m)
	}
	return s.response(ctx, from, m)
}

// refuse is what becomes of something that is no message. The client is answered; what
// a server sent is dropped, and whoever waits for an answer is told.
func (s *Session) refuse(ctx context.Context, from Direction, f *faultError, size int64) Result {
	e := guardbook.RefusalEntry{
		Agent: s.caller(ctx).Agent, Session: s.caller(ctx).Session, Path: s.o.Path, Status: http.StatusBadRequest,
		Code: f.code, Message: sentence(f.reason), Bytes: size,
	}
	r := Result{ID: f.id, Refusal: &e}
	if from == FromServer {
		e.Status, e.Message = http.StatusBadGateway, "The server "+s.o.Server.Name+" sent what cannot be passed on: "+f.reason+"."
		if f.answer && f.id != "" {
			if q := s.take(FromClient, f.id); q != nil && !q.cancelled {
				r.Forward = errorMessage(q.id, CodeInternal, e.Message)
				r.Method, r.Tool, r.Response, r.Edited = q.method, q.tool, true, true
			}
		}
	} else if !f.answer || f.id == "" {
		r.Answer = errorMessage(f.id, f.rpc, e.Message)
	}
	e.Client, e.ClientSeq = s.caller(ctx).Client, s.caller(ctx).ClientSeq
	s.o.Keeper.Refused(ctx, e)
	return r
}

// sentence makes a sentence of a reason.
func sentence(reason string) string {
	if reason == "" {
		return ""
	}
	return strings.ToUpper(reason[:1]) + reason[1:] + "."
}

// request takes a request of either side.
func (s *Session) request(ctx context.Context, from Direction, m *message) Result {
	r := Result{Method: m.method, ID: m.id}
	q := &request{method: m.method, id: m.id}
	params := m.root.Get("params")
	meta := params.Get("_meta").Get("io.modelcontextprotocol/protocolVersion")
	q.modern = meta.Text() >= modernVersion || meta.Text() == "" && s.Version() >= modernVersion
	if fault := s.enter(from, q); fault != nil {
		return s.refuse(ctx, from, fault, int64(len(m.root.Raw())))
	}
	var items []*item
	var fault *faultError
	if from == FromClient {
		items, fault = s.clientRequest(q, m, &r)
	} else {
		items = s.serverRequest(m)
	}
	if fault != nil {
		s.take(from, m.id)
		fault.id = m.id
		return s.refuse(ctx, from, fault, int64(len(m.root.Raw())))
	}
	if m.method == "tools/call" && from == FromClient {
		v, err := s.o.Keeper.Tool(ctx, s.o.Caller.Agent, s.o.Server, q.tool)
		if err != nil {
			s.take(from, m.id)
			r.Answer = s.unavailable(ctx, q, err)
			return r
		}
		if !v.Passes() {
			s.take(from, m.id)
			return s.withheldTool(ctx, q, v, r)
		}
	}
	stop, err := s.decide(ctx, &r, items)
	switch {
	case err != nil:
		s.take(from, m.id)
		r.Answer = s.unavailable(ctx, q, err)
	case stop != nil:
		s.take(from, m.id)
		r.Decision, r.Answer = *stop, blocked(q, blockText(*stop))
	default:
		s.out(&r, m)
	}
	return r
}

// withheldTool answers a call of a tool that is quarantined, or was rejected.
func (s *Session) withheldTool(ctx context.Context, q *request, v verdict, r Result) Result {
	e := guardbook.RefusalEntry{
		Agent: s.caller(ctx).Agent, Session: s.caller(ctx).Session, Path: s.path(q.method), Status: http.StatusOK, Code: "tool_" + string(v.State),
		Message: "A call of tool " + clip(q.tool, 200) + " of server " + s.o.Server.Name + " was refused: " + v.Reason,
	}
	e.Client, e.ClientSeq = s.caller(ctx).Client, s.caller(ctx).ClientSeq
	s.o.Keeper.Refused(ctx, e)
	r.Refusal = &e
	ref := ""
	if v.Entry != "" {
		ref = " (ref " + v.Entry + ")"
	}
	r.Answer = blocked(q, "[Blocked"+ref+": "+v.Reason+" Choose another approach; do not retry.]")
	return r
}

// out lets a message go on, with what was decided applied to it.
func (s *Session) out(r *Result, m *message) {
	r.Edited = m.doc.Changed()
	r.Forward = line(m.doc.String())
}

// unavailable answers a request that nobody could decide on.
func (s *Session) unavailable(ctx context.Context, q *request, err error) []byte {
	text := gateway.NotDurable().Message
	if errors.Is(err, ErrUnreachable) {
		text = "Refused: the Guardbook server cannot be reached, and nothing passes without a decision. Try again later."
	}
	if errors.Is(err, pin.ErrCorrupt) {
		text = "Refused: " + err.Error()
		s.o.Keeper.Refused(ctx, guardbook.RefusalEntry{Agent: s.caller(ctx).Agent, Session: s.caller(ctx).Session, Path: s.path(q.method),
			Status: http.StatusServiceUnavailable, Code: "pins_corrupt", Message: text})
	}
	if q.method == "tools/call" {
		return blocked(q, text)
	}
	return errorMessage(q.id, CodeInternal, text)
}

// blocked answers a request that policy does not let through. A tool's call is
// answered with a result that says it is an error, which every client hands to its
// model; an error of the protocol would end the run of many agents.
func blocked(q *request, text string) []byte {
	if q.method != "tools/call" && (q.method != "tasks/result" || q.task == "") {
		return errorMessage(q.id, CodeBlocked, text)
	}
	kind := ""
	if q.modern {
		kind = `"resultType":"complete",`
	}
	return []byte(`{"jsonrpc":"2.0","id":` + q.id + `,"result":{` + kind + `"content":[{"type":"text","text":` + document.Quote(text) + `}],"isError":true}}`)
}

// enter notes a request that waits for its answer.
func (s *Session) enter(from Direction, q *request) *faultError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.pending[from][q.id]; old != nil && !old.cancelled {
		// No id: an answer with this one would be taken for the other's.
		return &faultError{code: "malformed_request", rpc: CodeInvalidRequest, reason: "the id of this request is that of another one that is under way"}
	}
	if len(s.pending[from]) >= maxPending { // more than anybody waits for: one of them is given up
		for id := range s.pending[from] {
			delete(s.pending[from], id)
			break
		}
	}
	s.pending[from][q.id] = q
	return nil
}

// take returns the request of that id, which is then no longer under way; nil if there
// is none.
func (s *Session) take(from Direction, id string) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.pending[from][id]
	delete(s.pending[from], id)
	return q
}

// Forget drops a request that came from a direction and whose answer nobody waits for
// any more: a connection has ended.
func (s *Session) Forget(from Direction, id string) { s.take(from, id) }

// notification takes a notification of either side. One that is blocked is dropped.
func (s *Session) notification(ctx context.Context, from Direction, m *message) Result {
	r := Result{Method: m.method}
	params := m.root.Get("params")
	if m.method == "notifications/cancelled" {
		if id, ok := readID(params.Get("requestId")); ok {
			s.cancel(from, id)
		}
	}
	kind := guardbook.KindToolResult
	if from == FromClient {
		kind = guardbook.KindOutput
	}
	it := s.item(kind, m.method, "", "")
	s.loose(it, m.root)
	stop, err := s.decide(ctx, &r, []*item{it})
	if err != nil || stop != nil {
		if stop != nil {
			r.Decision = *stop
		}
		return r
	}
	s.out(&r, m)
	return r
}

// cancel notes that nobody waits for an answer any more: one that comes late is
// dropped.
func (s *Session) cancel(from Direction, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.pending[from][id]; q != nil {
		q.cancelled = true
	}
}

// response takes an answer of either side.
func (s *Session) response(ctx context.Context, from Direction, m *message) Result {
	other := FromClient
	if from == FromClient {
		other = FromServer
	}
	r := Result{Response: true, ID: m.id}
	q := s.take(other, m.id)
	switch {
	case q == nil && from == FromServer && m.id != "null":
		return s.refuse(ctx, from, &faultError{code: "unmatched_answer", rpc: CodeInvalidRequest, reason: "an answer to no request that is under way"}, int64(len(m.root.Raw())))
	case q == nil:
		q = &request{id: m.id}
	case q.cancelled:
		return r
	}
	r.Method, r.Tool = q.method, q.tool
	if from == FromClient {
		return s.clientAnswer(ctx, q, m, r)
	}
	return s.serverAnswer(ctx, q, m, r)
}

// clientAnswer is what the client tells a server that asked: it goes out.
func (s *Session) clientAnswer(ctx context.Context, q *request, m *message, r Result) Result {
	it := s.item(guardbook.KindOutput, q.method, "", "")
	s.loose(it, m.root)
	stop, err := s.decide(ctx, &r, []*item{it})
	switch {
	case err != nil:
		r.Forward, r.Edited = errorMessage(m.id, CodeInternal, gateway.NotDurable().Message), true
	case stop != nil:
		r.Decision, r.Edited = *stop, true
		r.Forward = errorMessage(m.id, CodeBlocked, blockText(*stop))
	default:
		s.out(&r, m)
	}
	return r
}

// batch takes several messages in one. When one that a client sends is not let
// through, none is, and every request is answered; of a server's, each is judged by
// itself.
func (s *Session) batch(ctx context.Context, from Direction, doc *document.Document) Result {
	fault := &faultError{code: "malformed_request", rpc: CodeInvalidRequest}
	switch v := s.Version(); {
	case v != batchVersion && v != "":
		fault.reason = "revision " + clip(v, 20) + " of the protocol has no batches"
	case !doc.Root().First().Exists():
		fault.reason = "a batch must not be empty"
	case doc.Root().Left() > 1000:
		fault.reason = "a batch may hold 1000 messages"
	}
	if fault.reason != "" {
		return s.refuse(ctx, from, fault, int64(len(doc.Source())))
	}
	var sum Result
	var forward, answers [][]byte
	var waiting []string // ids of requests that would go on
	blockedOne := false
	for v := doc.Root().First(); v.Exists(); v = v.Next() {
		r := s.Handle(ctx, from, []byte(v.Raw()))
		if r.Decision.Entry != "" {
			sum.note(r.Decision)
		}
		sum.Edited = sum.Edited || r.Edited || r.Forward == nil
		if r.Refusal != nil {
			sum.Refusal = r.Refusal
		}
		if r.Forward != nil {
			forward = append(forward, r.Forward)
			if r.ID != "" && !r.Response {
				waiting = append(waiting, r.ID)
			}
		} else if from == FromClient {
			blockedOne = true
		}
		if r.Answer != nil {
			answers = append(answers, r.Answer)
		}
	}
	if blockedOne {
		for _, id := range waiting {
			s.take(from, id)
			answers = append(answers, errorMessage(id, CodeBlocked, "Not sent: another message of the same batch was blocked. Send this one by itself."))
		}
		forward = nil
	}
	sum.Forward, sum.Answer = array(forward), array(answers)
	return sum
}

func array(list [][]byte) []byte {
	if len(list) == 0 {
		return nil
	}
	out := []byte{'['}
	for i, m := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m...)
	}
	return append(out, ']')
}
