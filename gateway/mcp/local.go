package mcp

import (
	"context"
	"log/slog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Local is the Keeper in the server's own process. One serves all sessions of a tenant.
type Local struct {
	Guard  gateway.Guard
	Pins   *pin.Store // nil: tools are not pinned
	Tenant string
	Log    *slog.Logger
}

// Decide has the guard decide.
func (l *Local) Decide(ctx context.Context, ins ...*guardbook.Interaction) ([]guardbook.Decision, error) {
	return l.Guard.Decide(ctx, ins...)
}

// Tools asks the pins.
func (l *Local) Tools(ctx context.Context, agent string, s pin.Server, p pin.Page) ([]pin.Verdict, error) {
	if l.Pins == nil {
		return make([]pin.Verdict, len(p.Tools)), nil
	}
	return l.Pins.Page(ctx, agent, l.Tenant, s, p)
}

// Tool asks the pins.
func (l *Local) Tool(_ context.Context, agent string, s pin.Server, tool string) (pin.Verdict, error) {
	if l.Pins == nil {
		return pin.Verdict{}, nil
	}
	return l.Pins.Call(agent, s, tool)
}

// Refused writes a refusal into the book.
func (l *Local) Refused(ctx context.Context, e guardbook.RefusalEntry) {
	if err := l.Guard.Record(ctx, guardbook.Draft{Type: guardbook.TypeRefusal, Tenant: l.Tenant, Body: e}); err != nil && l.Log != nil {
		l.Log.Error("a refusal could not be recorded", "code", e.Code, "path", e.Path, "error", err)
	}
}
