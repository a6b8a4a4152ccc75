package streamable

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/sse"
)

// answerTime is how long a server may take to accept what Guardbook itself tells it.
const answerTime = 30 * time.Second

// stream brings back an event stream: the answer to a request, with what the server
// sends before it, or the stream of a GET. Each event is one message, and is decided on
// as a whole before any of it is passed on; also one that the server sends again
// after a reconnection.
func (x *exchange) stream(resp *http.Response) {
	long := x.r.Method == http.MethodGet || x.method == "subscriptions/listen"
	entry := guardbook.StreamEntry{Agent: x.who.Agent, Session: x.who.Session, Path: entryPath, Stream: uuid.Must(uuid.NewV7()).String(), Phase: "open"}
	guard := x.o.Gateway.Guard()
	write := func() error {
		return guard.Record(context.WithoutCancel(x.ctx), guardbook.Draft{Type: guardbook.TypeStream, Tenant: x.who.Tenant, Body: entry})
	}
	if long {
		if err := write(); err != nil && guard.OnBookError(x.who.Agent) != guardbook.ActionAllow {
			x.refuse(gateway.NotDurable())
			return
		}
	}
	responseHeader(x.w.Header(), resp.Header)
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	x.setMarks()
	x.w.WriteHeader(resp.StatusCode)
	x.streamed = true
	out := newWriter(x.w, x.o.WriteTimeout, x.o.KeepAlive)
	out.flush()
	entry.Outcome, entry.Detail, entry.Containment = x.events(resp.Body, out)
	out.close()
	if long {
		entry.Phase, entry.Released = "close", out.written
		if err := write(); err != nil {
			x.o.Log.Error("the end of a stream could not be recorded", "stream", entry.Stream, "error", err)
		}
	}
}

// events passes events on until the end, and says how it ended.
func (x *exchange) events(src io.Reader, out *writer) (outcome, detail, containment string) {
	events := sse.NewReader(src, int(x.o.BodyLimit), out.flush)
	for {
		ev, err := events.Next()
		if k, killed := x.o.Gateway.Guard().Contained(x.ctx); killed {
			return x.cut(k, out)
		}
		switch {
		case x.r.Context().Err() != nil:
			return "client_gone", "", ""
		case errors.Is(err, io.EOF):
			return "complete", "", ""
		case err != nil:
			return x.fail(out, "upstream_broken", "The answer of MCP server "+x.up.name+" broke off, or holds an event that is too large.")
		case ev.Type == "endpoint":
			return x.fail(out, "transport_refused", "The MCP server "+x.up.name+" speaks the HTTP+SSE transport of revision 2024-11-05, which Guardbook does not serve. "+
				"Configure the server's Streamable HTTP address.")
		case ev.Type != "" && ev.Type != "message":
			continue // no event of the protocol: no client reads it
		case len(ev.Data) == 0:
			out.send(ev, "", "") // it only says where to resume
			continue
		}
		r := x.session.Handle(x.ctx, mcp.FromServer, ev.Data)
		x.note(r.Decision)
		x.answered = x.answered || r.Response && r.ID == x.id
		if r.Answer != nil {
			x.tell(r.Answer)
		}
		if k, killed := x.o.Gateway.Guard().Contained(x.ctx); killed {
			return x.cut(k, out)
		}
		switch {
		case r.Forward != nil:
			out.send(ev, ev.Type, string(r.Forward))
		case ev.ID != "":
			out.send(ev, "", "")
		}
		if r.Forward == nil && r.Refusal != nil && x.id != "" && !x.kept {
			// It may have been the answer; nobody else will send one.
			return x.fail(out, "upstream_broken", r.Refusal.Message)
		}
		if out.err != nil {
			return "client_gone", "", ""
		}
	}
}

// cut ends a stream because of a kill.
func (x *exchange) cut(k gateway.Containment, out *writer) (outcome, detail, containment string) {
	x.o.Gateway.Guard().Cut(k)
	if x.id != "" {
		out.send(sse.Event{}, "message", string(rpcError(x.id, mcp.CodeBlocked, gateway.StopText(k))))
	}
	x.record(&gateway.Refusal{Status: http.StatusOK, Code: "contained", Message: "A kill of " + k.Scope + " (" + k.ID + ") ended a stream of MCP server " + x.up.name + "."})
	return "contained", "", k.ID
}

// fail ends a stream with an error.
func (x *exchange) fail(out *writer, code, message string) (outcome, detail, containment string) {
	if x.id != "" {
		out.send(sse.Event{}, "message", string(rpcError(x.id, mcp.CodeInternal, message)))
	}
	x.record(&gateway.Refusal{Status: http.StatusBadGateway, Code: code, Message: message})
	return "upstream_failed", code + ": " + message, ""
}

// tell sends the server an answer in the place of the client: what it asked was
// blocked.
func (x *exchange) tell(body []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), answerTime)
	defer cancel()
	req := x.request(ctx, http.MethodPost, body)
	req.Header.Set("Accept", "application/json, text/event-stream")
	for _, name := range []string{headerSince, headerMethod, headerName} {
		req.Header.Del(name)
	}
	resp, err := x.roundTrip(req)
	if err != nil {
		x.o.Log.Warn("a server could not be told that its request was blocked", "server", x.up.name, "error", err)
		return
	}
	resp.Body.Close()
}

// writer writes events to the client. send belongs to one goroutine; the comments that
// keep a silent connection open come from a timer, under the lock.
type writer struct {
	rc      *http.ResponseController
	w       http.ResponseWriter
	timeout time.Duration
	every   time.Duration

	written int64
	err     error // the first failure to write

	mu     sync.Mutex // guards w and what follows
	buf    []byte
	dirty  bool
	closed bool
	last   time.Time
	timer  *time.Timer
}

func newWriter(w http.ResponseWriter, timeout, every time.Duration) *writer {
	o := &writer{rc: http.NewResponseController(w), w: w, timeout: timeout, every: every, last: time.Now(), dirty: true}
	o.timer = time.AfterFunc(every, o.tick)
	return o
}

// send writes one event: a new text, with the id and the time for a retry that came
// with it. Without a text it says only where to resume.
func (o *writer) send(came sse.Event, eventType, data string) {
	if data == "" && came.ID == "" && came.Retry == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = sse.AppendID(o.buf[:0], came.ID, came.Retry, eventType, data)
	o.deadline()
	n, err := o.w.Write(o.buf)
	o.written += int64(n)
	o.dirty = true
	if err != nil && o.err == nil {
		o.err = err
	}
}

func (o *writer) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirty {
		return
	}
	o.deadline()
	if err := o.rc.Flush(); err != nil && o.err == nil {
		o.err = err
	}
	o.dirty, o.last = false, time.Now()
}

func (o *writer) deadline() {
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.timeout)) // a writer without deadlines has no slow clients: a test's recorder
}

func (o *writer) tick() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if silent := time.Since(o.last); silent < o.every {
		o.timer.Reset(o.every - silent)
		return
	}
	o.deadline()
	if _, err := io.WriteString(o.w, ": keep-alive\n\n"); err == nil {
		_ = o.rc.Flush() // a dead client shows at the next event
	}
	o.last = time.Now()
	o.timer.Reset(o.every)
}

func (o *writer) close() {
	o.flush()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.timer.Stop()
	_ = o.rc.SetWriteDeadline(time.Time{})
}
