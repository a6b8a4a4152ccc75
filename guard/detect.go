package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/guardbook/guardbook"
)

// scan runs every detector over an interaction, or takes what they found before in
// the same content on the same channel.
func (g *Guard) scan(ctx context.Context, in *guardbook.Interaction) (c cached, hit bool) {
	key := g.cache.key(in)
	if c, ok := g.cache.get(key); ok {
		return c, true
	}
	c, whole := g.scanFresh(ctx, in)
	if whole {
		g.cache.put(key, c)
	}
	return c, false
}

// scanFresh runs every detector; whole says that none failed.
func (g *Guard) scanFresh(ctx context.Context, in *guardbook.Interaction) (c cached, whole bool) {
	whole = true
	budget := g.o.Budget + time.Duration(contentBytes(in)/1024)*g.o.BudgetPerKiB
	for _, d := range g.o.Detectors {
		findings, run := detect(ctx, d, in, budget)
		c.findings = append(c.findings, findings...)
		c.layers = append(c.layers, run)
		whole = whole && run.Error == ""
	}
	return c, whole
}

// detect runs one detector within its budget. It returns in time even when the
// detector does not: the work then goes on unwatched until it ends by itself, and
// the layer is recorded as timed out.
func detect(ctx context.Context, d guardbook.Detector, in *guardbook.Interaction, budget time.Duration) ([]guardbook.Finding, guardbook.LayerRun) {
	run := guardbook.LayerRun{Name: d.Layer(), Version: d.Version()}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	type result struct {
		findings []guardbook.Finding
		err      error
	}
	done := make(chan result, 1)
	start := time.Now()
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r = result{err: panicked(p)}
			}
			done <- r
		}()
		r.findings, r.err = d.Detect(ctx, in)
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select { // what came at the last moment counts
		case r = <-done:
		default:
			r.err = ctx.Err()
		}
	}
	run.Micros = time.Since(start).Microseconds()
	switch {
	case errors.Is(r.err, context.DeadlineExceeded):
		run.Error = "timeout after " + budget.String()
	case r.err != nil:
		run.Error = clip(r.err.Error(), 200)
	}
	return r.findings, run
}

// panicked names a panic without quoting values that could hold an agent's text.
func panicked(p any) error {
	if err, ok := p.(interface{ RuntimeError() }); ok {
		return fmt.Errorf("panic: %v", err)
	}
	return fmt.Errorf("panic: %T", p)
}

func contentBytes(in *guardbook.Interaction) int64 {
	var n int
	for _, p := range in.Content {
		n += len(p.Text)
	}
	if in.Tool != nil {
		n += len(in.Tool.Arguments)
	}
	return int64(n)
}

// clip shortens a string to at most n bytes at a rune boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
