package client

import (
	"cmp"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"

	"github.com/guardbook/guardbook"
)

// via is the entry path of this SDK's questions.
const via = "go"

// question is an interaction as POST /v1/inspect takes it.
type question struct {
	Kind      guardbook.Kind   `json:"kind"`
	Session   string           `json:"session,omitzero"`
	User      string           `json:"user,omitzero"`
	Parent    string           `json:"parent,omitzero"`
	Role      string           `json:"role,omitzero"`
	Tool      *guardbook.Tool  `json:"tool,omitzero"`
	Content   []guardbook.Part `json:"content,omitzero"`
	Context   string           `json:"context,omitzero"`
	Client    string           `json:"client"`
	ClientSeq int64            `json:"client_seq"`
	Via       string           `json:"via"`
}

// Decide asks for decisions on interactions, in order. Tenant and Agent are the
// server's to say; Session, User, Parent and Context come from the context's Scope
// where they are empty; Path names the caller ("go/mcp"), and is "go" when empty.
//
// A decision that blocks is no error here. When no decision can be had, those that
// OnUnavailable lets pass have the rule "client/unguarded"; for one that it refuses the
// error is an *UnavailableError.
func (g *Guard) Decide(ctx context.Context, ins ...guardbook.Interaction) ([]guardbook.Decision, error) {
	var ds []guardbook.Decision
	for len(ins) > 0 {
		n := min(len(ins), batchLimit)
		some, err := g.decide(ctx, ins[:n])
		if err != nil {
			return nil, err
		}
		ds, ins = append(ds, some...), ins[n:]
	}
	return ds, nil
}

// batchLimit is how many interactions the server takes at once.
const batchLimit = 256

func (g *Guard) decide(ctx context.Context, ins []guardbook.Interaction) ([]guardbook.Decision, error) {
	qs := make([]question, len(ins))
	scope := scopeOf(ctx)
	for i, in := range ins {
		qs[i] = question{
			Kind: in.Kind, Session: cmp.Or(in.Session, scope.Session, g.o.Session), User: cmp.Or(in.User, scope.User, g.o.User),
			Parent: cmp.Or(in.Parent, scope.Parent, g.o.Parent), Role: in.Role, Tool: in.Tool, Content: in.Content,
			Context: cmp.Or(in.Context, scope.Task), Client: g.id, ClientSeq: g.seq.Add(1), Via: cmp.Or(in.Path, via),
		}
		if in.Kind != guardbook.KindToolCall && in.Tool != nil {
			t := *in.Tool
			t.Arguments = nil
			qs[i].Tool = &t
		}
	}
	ds, sent, err := g.ask(ctx, qs)
	if err == nil {
		return ds, nil
	}
	var refusedQuestion *questionError
	if errors.As(err, &refusedQuestion) {
		g.tell("refused", qs, err)
		return nil, err
	}
	return g.without(qs, sent, err)
}

// questionError is an answer that says that the question is wrong.
type questionError struct {
	status  int
	message string
}

func (e *questionError) Error() string {
	return fmt.Sprintf("guardbook: the server refuses the question (%d): %s", e.status, e.message)
}

// ask sends the questions. sent says that the server may have decided all the same.
func (g *Guard) ask(ctx context.Context, qs []question) (ds []guardbook.Decision, sent bool, err error) {
	if !g.breaker.allow() {
		return nil, false, errors.New("the server did not answer before, and is not asked for some seconds")
	}
	if _, err := g.reach(ctx); err != nil { // may start a server: that has a time of its own
		g.breaker.failed()
		return nil, false, err
	}
	body, err := json.Marshal(struct {
		Interactions []question `json:"interactions"`
	}{qs}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		g.breaker.succeeded()
		return nil, false, &questionError{0, err.Error()}
	}
	limited, cancel := context.WithTimeout(ctx, g.o.Budget)
	defer cancel()
	status, answer, err := g.post(limited, "/v1/inspect/batch", body)
	if err != nil && ctx.Err() != nil {
		g.breaker.succeeded() // the caller gave up, which says nothing about the server
		return nil, true, ctx.Err()
	}
	if err != nil || status >= 500 {
		g.breaker.failed()
		if err == nil {
			err = fmt.Errorf("the server answered %d: %s", status, messageIn(answer))
		}
		return nil, true, err
	}
	g.breaker.succeeded()
	g.settle(true)
	if status != http.StatusOK {
		return nil, true, &questionError{status, messageIn(answer)}
	}
	var told struct {
		Decisions []guardbook.Decision `json:"decisions"`
	}
	if err := json.Unmarshal(answer, &told); err != nil || len(told.Decisions) != len(qs) {
		return nil, true, errors.Join(errors.New("the server's answer cannot be read"), err)
	}
	return told.Decisions, true, nil
}

func messageIn(answer []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &e) != nil || e.Error.Message == "" {
		return clip(string(answer), 200)
	}
	return e.Error.Message
}

// without is what happens when no decision can be had.
func (g *Guard) without(qs []question, sent bool, cause error) ([]guardbook.Decision, error) {
	g.away(cause)
	for _, q := range qs {
		if !g.open(q.Kind) {
			what := "refused"
			if sent {
				what = "unanswered" // it may have been decided all the same
			}
			g.tell(what, qs, cause)
			return nil, &UnavailableError{Kind: q.Kind, Cause: cause}
		}
	}
	g.tell("unguarded", qs, cause)
	ds := make([]guardbook.Decision, len(qs))
	for i := range ds {
		ds[i] = guardbook.Decision{Action: guardbook.ActionAllow, Rule: "client/unguarded", Findings: []guardbook.Finding{}}
	}
	return ds, nil
}

// open reports whether a kind of interaction passes without a decision.
func (g *Guard) open(kind guardbook.Kind) bool {
	if a, ok := g.o.OnUnavailable[kind]; ok {
		return a == guardbook.ActionAllow
	}
	return kind != guardbook.KindToolCall
}

// tell keeps, for each question, what became of it.
func (g *Guard) tell(what string, qs []question, cause error) {
	for _, q := range qs {
		e := Told{Event: what, Seq: q.ClientSeq, Via: q.Via, Kind: q.Kind, Session: q.Session, Reason: cause.Error()}
		if q.Tool != nil {
			e.Tool = &guardbook.ToolRef{Server: clip(q.Tool.Server, 200), Name: clip(q.Tool.Name, 200), CallID: clip(q.Tool.CallID, 200)}
		}
		g.spool.Add(e)
	}
}

// Check asks for a decision on one interaction and obeys it: it returns what may go
// on, redacted where policy says so, or a *BlockedError or *UnavailableError.
func (g *Guard) Check(ctx context.Context, in guardbook.Interaction) (guardbook.Interaction, error) {
	ds, err := g.Decide(ctx, in)
	if err != nil {
		return in, err
	}
	d := ds[0]
	switch {
	case !d.Action.Releases():
		return in, &BlockedError{Decision: d}
	case d.Action != guardbook.ActionRedact:
	case in.Kind == guardbook.KindToolCall:
		tool := *in.Tool
		tool.Arguments = d.Arguments
		in.Tool = &tool
	default:
		in.Content = d.Content
	}
	return in, nil
}

// Input checks a text that the agent is given, and returns it as it may be read.
func (g *Guard) Input(ctx context.Context, text string) (string, error) {
	return g.text(ctx, guardbook.Interaction{Kind: guardbook.KindInput, Role: "user"}, text)
}

// Output checks a text that the agent gives, and returns it as it may go out.
func (g *Guard) Output(ctx context.Context, text string) (string, error) {
	return g.text(ctx, guardbook.Interaction{Kind: guardbook.KindOutput}, text)
}

// ToolCall checks a call before it runs, and returns the arguments that it may run with.
func (g *Guard) ToolCall(ctx context.Context, tool guardbook.Tool) (jsontext.Value, error) {
	if len(tool.Arguments) == 0 {
		tool.Arguments = jsontext.Value("{}")
	}
	in, err := g.Check(ctx, guardbook.Interaction{Kind: guardbook.KindToolCall, Tool: &tool})
	if err != nil {
		return nil, err
	}
	return in.Tool.Arguments, nil
}

// ToolResult checks what a tool gave back before the model reads it, and returns it as
// it may be read.
func (g *Guard) ToolResult(ctx context.Context, tool guardbook.Tool, text string) (string, error) {
	tool.Arguments = nil
	return g.text(ctx, guardbook.Interaction{Kind: guardbook.KindToolResult, Tool: &tool}, text)
}

func (g *Guard) text(ctx context.Context, in guardbook.Interaction, text string) (string, error) {
	in.Content = []guardbook.Part{guardbook.TextPart(text)}
	in, err := g.Check(ctx, in)
	if err != nil {
		return "", err
	}
	if len(in.Content) != 1 {
		return "", errors.New("guardbook: the decision redacts into something that is not one text")
	}
	return in.Content[0].Text, nil
}
