package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/sse"
)

// The outcomes of a stream, as they stand in its closing entry.
const (
	outcomeComplete   = "complete"
	outcomeBlocked    = "blocked"
	outcomeContained  = "contained"
	outcomeClientGone = "client_gone"
	outcomeFailed     = "upstream_failed"
)

var errIdle = errors.New("the upstream sent nothing for too long")

// idleReader puts a timer back each time that something arrives.
type idleReader struct {
	src   io.Reader
	timer *time.Timer
	after time.Duration
}

func (r *idleReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	if n > 0 {
		r.timer.Reset(r.after)
	}
	return n, err
}

// streamHeader says that what follows is an event stream.
func streamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
}

// opening is the first entry of a streamed answer on its way into the book.
type opening struct {
	entry   guardbook.StreamEntry
	written chan error
}

// open begins to write the entry of a streamed answer while the upstream is asked, so
// that the first token does not wait for the book once more.
func (x *exchange) open(ctx context.Context) *opening {
	o := &opening{guardbook.StreamEntry{Agent: x.who.Agent, Session: x.who.Session, Path: x.e.Path(), Stream: uuid.Must(uuid.NewV7()).String(), Phase: "open"}, make(chan error, 1)}
	go func() { o.written <- x.record(context.WithoutCancel(ctx), guardbook.TypeStream, o.entry) }()
	return o
}

// neverOpened closes a stream that was asked for and did not come.
func (x *exchange) neverOpened(ctx context.Context) {
	if x.opening == nil || <-x.opening.written != nil { // what was not written needs no end
		return
	}
	entry := x.opening.entry
	entry.Phase, entry.Outcome, entry.Detail = "close", outcomeFailed, "no stream came"
	if k, killed := x.o.Guard.Contained(x.ctx); killed {
		entry.Outcome, entry.Containment = outcomeContained, k.ID
	} else if x.r.Context().Err() != nil {
		entry.Outcome = outcomeClientGone
	}
	if err := x.record(context.WithoutCancel(ctx), guardbook.TypeStream, entry); err != nil {
		x.o.Log.Error("the end of a stream could not be recorded", "stream", entry.Stream, "error", err)
	}
}

// stream brings back a streamed answer. It runs in the request's own goroutine: it
// reads an event, has it decided on, writes what was released. What must happen
// while it waits for the upstream is done by timers: the idle time-out and a kill
// end the wait, keep-alives are written under the lock of Out.
func (x *exchange) stream(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) {
	idle := time.AfterFunc(x.o.IdleTimeout, func() { cancel(errIdle) })
	defer idle.Stop()
	src := io.Reader(&idleReader{resp.Body, idle, x.o.IdleTimeout})
	switch enc := strings.ToLower(resp.Header.Get("Content-Encoding")); enc {
	case "", "identity":
	case "gzip", "x-gzip": // asked not to, it compressed all the same
		z, err := gzip.NewReader(src)
		if err != nil {
			x.brokenAnswer(ctx, err)
			return
		}
		src = z
	default:
		x.broken(0, "comes in an encoding that was not asked for")
		return
	}

	// Until now the decisions are the request's; its answer's come as it streams.
	o := x.opening
	if o == nil { // it streams although it was not asked to
		o = x.open(ctx)
	}
	x.opening = nil
	entry := o.entry
	if err := <-o.written; err != nil && x.o.Guard.OnBookError(x.who.Agent) != guardbook.ActionAllow {
		x.refuse(NotDurable())
		return
	}
	responseHeader(x.w.Header(), resp.Header)
	streamHeader(x.w.Header())
	x.marks()
	x.w.WriteHeader(resp.StatusCode)
	out := newOut(x.w, x.p, x.o.WriteTimeout, x.o.KeepAlive)
	out.flush()

	if x.raises() {
		x.call.raise = func(d guardbook.Decision) { out.raise(d, x.p, BlockText(d)) }
	}
	s := &streaming{exchange: x, out: out, tr: x.e.Stream(x.call, out), ctx: context.WithoutCancel(ctx), upstream: ctx}
	entry.Outcome, entry.Detail, entry.Containment = s.run(sse.NewReader(src, x.o.EventLimit, out.flush))
	out.close()
	if entry.Outcome == outcomeComplete { // let the upstream's connection be used again
		idle.Reset(250 * time.Millisecond)
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	}
	cancel(context.Canceled)
	entry.Phase, entry.Released = "close", out.released
	if err := x.record(ctx, guardbook.TypeStream, entry); err != nil {
		x.o.Log.Error("the end of a stream could not be recorded", "stream", entry.Stream, "error", err)
	}
}

// streaming is a streamed answer on its way.
type streaming struct {
	*exchange
	out      *Out
	tr       Stream
	ctx      context.Context // for decisions: they are made even when nobody waits any more
	upstream context.Context
}

// run translates until the end and says how it ended.
func (s *streaming) run(events *sse.Reader) (outcome, detail, containment string) {
	for nth := 0; ; nth++ {
		ev, err := events.Next()
		if outcome, containment := s.interrupted(); outcome != "" {
			return outcome, "", containment
		}
		if errors.Is(err, io.EOF) {
			blocked, err := s.tr.End(s.ctx)
			if d := s.out.raised; d != nil {
				blocked, err = d, nil
			}
			return s.ended(blocked, err)
		}
		if err != nil {
			return s.failed(err)
		}
		s.look(nth, ev.Data)
		done, blocked, err := s.tr.Event(s.ctx, ev.Type, ev.Data)
		if d := s.out.raised; d != nil {
			s.tr.Abandon(s.ctx)
			return outcomeBlocked, "decision " + d.Entry, ""
		}
		if blocked != nil || err != nil {
			return s.ended(blocked, err)
		}
		if done {
			return outcomeComplete, "", ""
		}
		if s.out.err != nil {
			s.tr.Abandon(s.ctx)
			return outcomeClientGone, "", ""
		}
	}
}

// interrupted looks whether a kill or the client's going has ended the stream.
func (s *streaming) interrupted() (outcome, containment string) {
	if k, killed := s.o.Guard.Contained(s.exchange.ctx); killed {
		s.o.Guard.Cut(k)
		s.tr.Abandon(s.ctx)
		if s.raises() {
			s.out.raise(containedDecision(k), s.p, StopText(k))
		} else {
			s.tr.Stop(StopText(k))
		}
		return outcomeContained, k.ID
	}
	if s.r.Context().Err() != nil {
		s.tr.Abandon(s.ctx)
		return outcomeClientGone, ""
	}
	return "", ""
}

// ended is the end that the translation itself came to.
func (s *streaming) ended(blocked *guardbook.Decision, err error) (outcome, detail, containment string) {
	switch {
	case err != nil:
		return s.failed(err)
	case blocked != nil:
		return outcomeBlocked, "decision " + blocked.Entry, ""
	}
	return outcomeComplete, "", ""
}

// failed ends the stream with an error in the protocol.
func (s *streaming) failed(err error) (outcome, detail, containment string) {
	s.tr.Abandon(s.ctx)
	if errors.Is(err, ErrReported) {
		return outcomeFailed, "upstream_error: " + err.Error(), ""
	}
	code, message := "upstream_broken", "The upstream's answer broke off or cannot be read; what came of it was passed on."
	var syntax *document.SyntaxError
	var incomplete *IncompleteError
	switch {
	case errors.Is(context.Cause(s.upstream), errIdle):
		code, message = "upstream_timeout", fmt.Sprintf("The upstream stopped in the middle of its answer and sent nothing for %v.", s.o.IdleTimeout)
	case errors.Is(err, ErrNotDurable):
		code, message = "not_durable", NotDurable().Message
	case errors.As(err, &syntax):
		message = "The upstream sent an event that is not strict JSON: " + syntax.Error() + "."
	case errors.As(err, &incomplete):
		message = "The upstream's answer is not complete: " + incomplete.Reason + "."
	case errors.Is(err, sse.ErrTooLarge):
		message = fmt.Sprintf("The upstream sent an event of more than %d bytes.", s.o.EventLimit)
	}
	eventType, data := s.p.ErrorEvent(code, message)
	s.out.Send(eventType, data)
	return outcomeFailed, code + ": " + message, ""
}

// ErrNotDurable is the error of a Stream whose decision could not be recorded.
var ErrNotDurable = errors.New("the decision could not be recorded")

// ErrReported is the error of a Stream when the upstream has told the client of a
// failure itself, in the protocol.
var ErrReported = errors.New("the upstream reported an error within its answer")

// IncompleteError is the error of a Stream when the upstream's answer lacks
// something.
type IncompleteError struct{ Reason string }

func (e *IncompleteError) Error() string { return "the answer is not complete: " + e.Reason }
