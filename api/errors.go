package api

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/respond"
)

// problem is an error that a caller is told as it is.
type problem struct {
	status  int
	code    string
	message string
}

func (p *problem) Error() string { return p.message }

// The codes of problems. docs/api.md and openapi.yaml explain them.
const (
	codeInvalid      = "invalid"
	codeMalformed    = "malformed_json"
	codeTooLarge     = "too_large"
	codeMediaType    = "unsupported_media_type"
	codeUnauthorized = "unauthorized"
	codeAgentKey     = "agent_key"
	codeForbidden    = "forbidden"
	codeNotFound     = "not_found"
	codeMethod       = "method_not_allowed"
	codeExists       = "exists"
	codeConflict     = "conflict"
	codeLimited      = "rate_limited"
	codeNotDurable   = "not_durable"
	codeInternal     = "internal"
)

func invalid(format string, args ...any) error {
	return &problem{http.StatusBadRequest, codeInvalid, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &problem{http.StatusNotFound, codeNotFound, fmt.Sprintf(format, args...)}
}

// notRecorded wraps the failure to write down what is about to be done.
type notRecorded struct{ error }

func (e notRecorded) Unwrap() error { return e.error }

// answerError tells a caller what went wrong. Whatever is not one of the known
// kinds is an internal error: its text goes to the log under an id, and only the
// id goes to the caller.
func (a *api) answerError(w http.ResponseWriter, r *http.Request, err error) {
	p := a.problemOf(err)
	if p == nil {
		if r.Context().Err() != nil {
			return // the caller went away: nobody to tell
		}
		id := uuid.NewString()
		a.log.ErrorContext(r.Context(), "answer a request", "id", id, "route", r.Pattern, "error", err)
		p = &problem{http.StatusInternalServerError, codeInternal, "internal error " + id + ": the server's log says more under this id"}
	}
	if limited, ok := errors.AsType[*access.LimitedError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(limited.After.Seconds()))))
	}
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="guardbook"`)
	}
	writeProblem(w, p)
}

func (a *api) problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	for _, k := range []struct {
		kind   error
		status int
		code   string
	}{
		{access.ErrInvalid, http.StatusBadRequest, codeInvalid},
		{access.ErrExists, http.StatusConflict, codeExists},
		{access.ErrNotFound, http.StatusNotFound, codeNotFound},
		{access.ErrDenied, http.StatusUnauthorized, codeUnauthorized},
		{respond.ErrInvalid, http.StatusBadRequest, codeInvalid},
		{respond.ErrNotFound, http.StatusNotFound, codeNotFound},
		{respond.ErrConflict, http.StatusConflict, codeConflict},
		{archive.ErrNotFound, http.StatusNotFound, codeNotFound},
	} {
		if errors.Is(err, k.kind) {
			return &problem{k.status, k.code, err.Error()}
		}
	}
	if limited, ok := errors.AsType[*access.LimitedError](err); ok {
		return &problem{http.StatusTooManyRequests, codeLimited, limited.Error()}
	}
	if _, ok := errors.AsType[notRecorded](err); ok || errors.Is(err, respond.ErrNotRecorded) || a.bookBroken() {
		a.log.Error("the book did not take a fact", "error", err)
		return &problem{http.StatusServiceUnavailable, codeNotDurable, "the book cannot be written, and what cannot be recorded is not done; guardbook doctor tells why"}
	}
	return nil
}

// bookBroken reports whether the book says itself that it cannot be written, for
// errors that do not tell.
func (a *api) bookBroken() bool { return a.o.Book.Writable() != nil }

func writeProblem(w http.ResponseWriter, p *problem) {
	type inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	b, err := json.Marshal(struct {
		Error inner `json:"error"`
	}{inner{p.code, p.message}})
	if err != nil { // a message that is not UTF-8
		b = []byte(`{"error":{"code":"internal","message":"internal error"}}`)
	}
	h := w.Header()
	h.Del("Content-Disposition")
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	_, _ = w.Write(append(b, '\n')) // the caller went away: nobody to tell
}
