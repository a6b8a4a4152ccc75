package stdio

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Unavailable is what becomes of a text that nobody could be asked about. Calls of
// tools, and the list of tools, never pass without a decision.
type Unavailable string

// The failure modes.
const (
	// Block lets nothing pass but what a connection needs to stay up: handshakes,
	// without the texts that they hold for the model, and pings.
	Block Unavailable = "block"
	// Allow lets texts pass: results, resources, prompts, messages.
	Allow Unavailable = "allow"
)

// keeper asks the server that links lead to: it is the mcp.Keeper of a wrapper.
type keeper struct {
	links  *links
	mode   Unavailable
	budget time.Duration
	record *record
	// listRefused is set when a list of tools was refused because nobody answered: the
	// client must ask again.
	listRefused atomic.Bool
}

// handshake marks the context of a message whose texts for the model were taken out
// beforehand.
type handshake struct{}

// question asks, over whichever link there is.
func (k *keeper) question(ctx context.Context, kind byte, question, out any, size int) error {
	l, err := k.links.get(ctx)
	if err != nil {
		return err
	}
	within := k.budget + time.Duration(size>>20)*time.Second // 16 MiB are not read in a moment
	return l.ask(ctx, kind, question, out, within)
}

// Decide asks for decisions. When nobody answers, the failure mode decides, and what
// became of each interaction goes into the book as soon as somebody does.
func (k *keeper) Decide(ctx context.Context, ins ...*guardbook.Interaction) ([]guardbook.Decision, error) {
	packed := make([]interaction, len(ins))
	size := 0
	for i, in := range ins {
		packed[i] = pack(in)
		size += len(packed[i].Args)
		for _, p := range in.Content {
			size += len(p.Text)
		}
	}
	var ds []guardbook.Decision
	err := k.question(ctx, askDecide, packed, &ds, size)
	if err == nil && len(ds) != len(ins) {
		err = fmt.Errorf("the Guardbook server answered %d decisions to %d interactions", len(ds), len(ins))
	}
	if !away(err) {
		return ds, err
	}
	pass := ctx.Value(handshake{}) != nil
	if !pass && k.mode == Allow {
		pass = true
		for _, in := range ins {
			pass = pass && in.Kind != guardbook.KindToolCall && in.Kind != guardbook.KindToolDefinition
		}
	}
	for _, in := range ins {
		k.record.undecided(in, pass, err)
	}
	if !pass {
		return nil, err
	}
	ds = make([]guardbook.Decision, len(ins))
	for i := range ds {
		ds[i] = guardbook.Decision{Action: guardbook.ActionAllow, Rule: "unavailable/allow"}
	}
	return ds, nil
}

// away reports whether there was no answer at all, as opposed to one that says why
// there can be none.
func away(err error) bool { return errors.Is(err, errUnreachable) || errors.Is(err, errUnanswered) }

// Tools asks whether the tools of a page may be offered.
func (k *keeper) Tools(ctx context.Context, _ string, _ pin.Server, p pin.Page) (vs []pin.Verdict, err error) {
	size := 0
	for _, t := range p.Tools {
		size += len(t.JSON)
	}
	if err = k.question(ctx, askTools, p, &vs, size); err == nil && len(vs) != len(p.Tools) {
		err = fmt.Errorf("the Guardbook server answered %d verdicts to %d tools", len(vs), len(p.Tools))
	}
	if away(err) {
		k.listRefused.Store(true)
		k.record.undecided(&guardbook.Interaction{Kind: guardbook.KindToolDefinition}, false, err)
	}
	return vs, err
}

// Tool asks whether a tool may be called.
func (k *keeper) Tool(ctx context.Context, _ string, _ pin.Server, tool string) (v pin.Verdict, err error) {
	if err = k.question(ctx, askTool, tool, &v, 0); away(err) {
		k.record.undecided(&guardbook.Interaction{Kind: guardbook.KindToolCall, Tool: &guardbook.Tool{Name: tool}}, false, err)
	}
	return v, err
}

// Refused tells the server of a message that was refused.
func (k *keeper) Refused(ctx context.Context, e guardbook.RefusalEntry) {
	l, err := k.links.get(ctx)
	if err == nil {
		err = l.tell(tellOff, e)
	}
	if err != nil {
		k.record.refused(e.Code)
	}
}
