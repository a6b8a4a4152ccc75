package client

import (
	"cmp"
	"context"
)

// Scope says for whom an agent acts: it travels in the context.
type Scope struct {
	Session string // one run or conversation
	User    string // the end user
	Parent  string // the agent that delegates to this one
	Task    string // the system prompt and the request that the agent works on, for detectors
}

type scopeKey struct{}

// WithScope returns a context whose interactions belong to a scope; what is empty in
// it stays as it was.
func WithScope(ctx context.Context, s Scope) context.Context {
	was := scopeOf(ctx)
	return context.WithValue(ctx, scopeKey{}, Scope{cmp.Or(s.Session, was.Session), cmp.Or(s.User, was.User), cmp.Or(s.Parent, was.Parent), cmp.Or(s.Task, was.Task)})
}

// WithSession returns a context whose interactions belong to a session.
func WithSession(ctx context.Context, id string) context.Context {
	return WithScope(ctx, Scope{Session: id})
}

func scopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}
