package gateway

import (
	"context"
	"errors"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/guard"
)

// NewGuard makes the gateway's Guard from the one that decides.
func NewGuard(g *guard.Guard) Guard { return guardAdapter{g} }

type guardAdapter struct{ *guard.Guard }

func (a guardAdapter) Stream(in guardbook.Interaction) Text { return a.Guard.Stream(in) }

func (a guardAdapter) Contained(ctx context.Context) (Containment, bool) {
	var c *guard.Contained
	if ctx.Err() == nil || !errors.As(context.Cause(ctx), &c) {
		return Containment{}, false
	}
	return Containment{ID: c.ID, Scope: c.Scope}, true
}

func (a guardAdapter) Cut(c Containment) {
	var k guard.Contained
	k.ID, k.Scope = c.ID, c.Scope
	a.Guard.Cut(&k)
}

func (a guardAdapter) Endpoint(agent, method, path string) (Passage, bool) {
	p := a.Policy(agent)
	if p == nil {
		return Passage{}, false
	}
	rule, ok := p.Endpoint(method, path)
	return Passage{Rule: rule, Policy: p.Name, Bundle: a.Bundle()}, ok
}

func (a guardAdapter) OnBookError(agent string) guardbook.Action {
	if p := a.Policy(agent); p != nil {
		return p.OnBookError()
	}
	return guardbook.ActionBlock
}
