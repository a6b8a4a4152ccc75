package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// statusClientGone is what an entry says when nobody was left to answer.
const statusClientGone = 499

// Refusal is why a request was not served before, or without, a decision.
type Refusal struct {
	Agent   string
	Session string
	Tenant  string
	Status  int
	Code    string // as in guardbook.RefusalEntry
	Message string // for the client; holds nothing of what was sent
	Bytes   int64
	Close   bool          // the connection cannot be used again
	Retry   time.Duration // not 0: a client may try again after it
	// Client and ClientSeq are as told by the caller.
	Client    string
	ClientSeq int64
}

// SyntaxRefusal is the refusal of a body that is not strict JSON.
func SyntaxRefusal(err error) *Refusal {
	var s *document.SyntaxError
	if !errors.As(err, &s) {
		return &Refusal{Status: http.StatusBadRequest, Code: "malformed_json", Message: "The request's body cannot be read: " + err.Error() + "."}
	}
	status := http.StatusBadRequest
	if s.Code == document.CodeTooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	return &Refusal{Status: status, Code: s.Code, Message: "The request's body is not strict JSON: " + s.Error() + "."}
}

// NotDurable is the refusal when the book cannot be written.
func NotDurable() *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: "not_durable", Retry: 2 * time.Second,
		Message: "Refused: the record of this action cannot be written, and policy refuses what cannot be recorded. Try again later."}
}

// Draft is the refusal's entry.
func (f *Refusal) Draft(path string) guardbook.Draft {
	return guardbook.Draft{Type: guardbook.TypeRefusal, Tenant: f.Tenant, Body: guardbook.RefusalEntry{
		Agent: f.Agent, Session: f.Session, Path: path, Status: f.Status, Code: f.Code, Message: f.Message, Bytes: f.Bytes,
		Client: f.Client, ClientSeq: f.ClientSeq,
	}}
}

// WriteHeader writes the headers and the status of a refusal.
func (f *Refusal) WriteHeader(w http.ResponseWriter, length int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(length))
	h.Set("X-Content-Type-Options", "nosniff")
	if f.Retry > 0 {
		h.Set("Retry-After", fmt.Sprint(int(f.Retry.Seconds())))
		h.Set("X-Should-Retry", "true")
	} else {
		h.Set("X-Should-Retry", "false")
	}
	if f.Close {
		h.Set("Connection", "close")
	}
	w.WriteHeader(f.Status)
}

// ErrorShape writes errors as one kind of client expects them.
type ErrorShape interface {
	ErrorBody(status int, code, message string) []byte
}

// Refuse records a refusal and answers it in the client's protocol.
func (g *Gateway) Refuse(ctx context.Context, w http.ResponseWriter, p ErrorShape, path string, f *Refusal) {
	g.recordRefusal(ctx, path, f)
	if f.Status == statusClientGone {
		return
	}
	body := p.ErrorBody(f.Status, f.Code, f.Message)
	f.WriteHeader(w, len(body))
	_, _ = w.Write(body) // a client that has gone is no news here
}

func (g *Gateway) recordRefusal(ctx context.Context, path string, f *Refusal) {
	d := f.Draft(path)
	if f.Agent == "" { // anybody can cause this entry: bound how fast the book grows by it
		missed, ok := g.strangers.allow()
		if !ok {
			return
		}
		if missed > 0 {
			body := d.Body.(guardbook.RefusalEntry)
			body.Message += fmt.Sprintf(" (%d more like it since the last entry had none of their own)", missed)
			d.Body = body
		}
	}
	if err := g.o.Guard.Record(ctx, d); err != nil {
		g.o.Log.Error("a refusal could not be recorded", "code", f.Code, "path", path, "error", err)
	}
}

// limiter lets 20 entries a second through, with a burst of 100, and counts the rest.
type limiter struct {
	mu     sync.Mutex
	now    func() time.Time
	last   time.Time
	tokens float64
	missed int64
}

// allow reports whether one more may pass, and how many could not since the last one
// that could.
func (l *limiter) allow() (missed int64, ok bool) {
	const perSecond, burst = 20, 100
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.last.IsZero() {
		l.tokens = burst
	} else {
		l.tokens = min(burst, l.tokens+now.Sub(l.last).Seconds()*perSecond)
	}
	l.last = now
	if l.tokens < 1 {
		l.missed++
		return 0, false
	}
	l.tokens--
	missed, l.missed = l.missed, 0
	return missed, true
}
