package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
)

// door says who may use a route.
type door int

const (
	forOperators door = iota // an operator's token or session
	forLocal                 // an operator, or a caller on this machine
	forAll                   // anybody: the routes by which one becomes an operator
)

// CSRFHeader is a header that no form and no image of another site can send. A
// state-changing request that comes by cookie needs it, unless the browser says
// itself that the page was this server's.
const CSRFHeader = "X-Guardbook-CSRF"

// handler answers a request; an error that it returns is told to the caller.
type handler func(w http.ResponseWriter, r *http.Request, by string) error

// serve wraps one route: headers, panics, who may come in, errors.
func (a *api) serve(d door, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w}
		secure(w.Header())
		defer a.metrics.count(r, sw)
		defer a.recoverPanic(sw, r)
		by, err := a.admit(r, d)
		if err == nil {
			err = h(sw, r, by)
		}
		if err == nil {
			return
		}
		if sw.status != 0 { // too late for another status: end the connection so that the answer cannot pass for whole
			if r.Context().Err() == nil && !errors.Is(err, errStreamEnded) {
				a.log.WarnContext(r.Context(), "an answer broke off", "route", r.Pattern, "error", err)
			}
			panic(http.ErrAbortHandler)
		}
		a.answerError(sw, r, err)
	})
}

// secure sets the headers that every answer carries. Nothing here is a page, so
// that the policy for content allows nothing; and no other origin is let in.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// recoverPanic makes an answer of a panic, with an id that the log has, too.
func (a *api) recoverPanic(w *statusWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	id := uuid.NewString()
	a.log.ErrorContext(r.Context(), "a request panicked", "id", id, "route", r.Pattern, "panic", v, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	writeProblem(w, &problem{http.StatusInternalServerError, codeInternal, "internal error " + id + ": the server's log says more under this id"})
}

// admit finds who is behind a request and whether the door is open to them.
func (a *api) admit(r *http.Request, d door) (by string, err error) {
	if err := a.crossOrigin.Check(r); err != nil {
		return "", &problem{http.StatusForbidden, codeForbidden, "this request comes from a page of another site"}
	}
	if d == forAll {
		return "", nil
	}
	op, err := a.o.Access.Operator(r)
	switch {
	case err == nil && op.Cookie && !safe(r.Method) && !provenSameSite(r):
		return "", &problem{http.StatusForbidden, codeForbidden, "a request that changes something and comes with a cookie needs the header " + CSRFHeader + ": 1"}
	case err == nil:
		return op.Name, nil
	case d == forLocal && local(r):
		return "local", nil
	case errors.Is(err, access.ErrAgentKey):
		a.noteRefusal(r, "agent_key_refused")
		return "", &problem{http.StatusForbidden, codeAgentKey, "this is an agent's key, and it opens no operator's door: use an operator's token (gbo_...) or log in"}
	case errors.Is(err, access.ErrNoCredentials):
		return "", &problem{http.StatusUnauthorized, codeUnauthorized, "no operator's token and no session: send Authorization: Bearer gbo_... or log in"}
	default:
		a.noteRefusal(r, "token_refused")
		return "", &problem{http.StatusUnauthorized, codeUnauthorized, "the token is wrong, or the session has ended: log in again"}
	}
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// provenSameSite reports whether a request cannot have been made by another site:
// it carries our header, or the browser named the page's origin, which
// CrossOriginProtection has found to be ours before.
func provenSameSite(r *http.Request) bool {
	return r.Header.Get(CSRFHeader) != "" || r.Header.Get("Sec-Fetch-Site") == "same-origin" || r.Header.Get("Origin") != ""
}

// local reports whether a caller is on this machine and asked for it by its
// local name. A proxy on the same machine speaks for others, and says so; a page
// of another site whose name was made to point here has that name in Host.
func local(r *http.Request) bool {
	if r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !remote.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// address is the caller's address for entries and for limits.
func address(r *http.Request) string {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return a.Addr().Unmap().String()
	}
	return "unknown"
}

// noteRefusal writes down that somebody was turned away, once in a while for each
// address, so that trying keys cannot flood the book.
func (a *api) noteRefusal(r *http.Request, op string) {
	addr := address(r)
	if !a.reads.first(op+" "+addr, a.now()) {
		return
	}
	err := a.record(r.Context(), op, "unknown", map[string]string{"address": addr, "path": routePath(r)})
	if err != nil {
		a.log.ErrorContext(r.Context(), "a refusal is not in the book", "error", err)
	}
}

// routePath names a route without what a caller put into its path.
func routePath(r *http.Request) string {
	_, path, _ := strings.Cut(r.Pattern, " ")
	return path
}

// record writes one operator entry.
func (a *api) record(ctx context.Context, op, by string, detail map[string]string) error {
	err := a.o.Recorder.Append(ctx, guardbook.Draft{Type: guardbook.TypeOperator, Time: a.now(),
		Body: guardbook.OperatorEntry{Op: op, By: by, Detail: detail}})
	if err != nil {
		return notRecorded{err}
	}
	return nil
}

// statusWriter remembers whether, and with which status, an answer has begun.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
