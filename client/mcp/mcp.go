// Package mcp guards sessions of the official MCP SDK for Go: what a client's agent
// calls and reads, or what a server is asked and answers.
//
//	c := mcp.NewClient(&sdk.Implementation{Name: "bot"}, nil, guard, "crm")
package mcp

//lint:file-ignore SA1019 sampling is deprecated, and every client and server still speaks it

import (
	"context"
	"encoding/json" //nolint:depguard // the MCP SDK's types are made for it
	"encoding/json/jsontext"
	"errors"
	"fmt"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
)

// via is the entry path of what is asked here.
const via = "go/mcp"

// NewClient returns an MCP client whose sessions are guarded: everything that they
// send and get, and what the server asks of the client's model and user. server is the
// server's name in policy. opts may be nil; it is not changed.
//
// The handlers in opts are guarded here, not by a middleware: since 2026-07-28 the SDK
// answers a server's questions by calling them directly.
func NewClient(impl *sdk.Implementation, opts *sdk.ClientOptions, g *client.Guard, server string) *sdk.Client {
	m := &middleware{g, server}
	c := sdk.NewClient(impl, m.handlers(opts))
	c.AddSendingMiddleware(m.calls)
	return c
}

// GuardServer guards everything that a server is asked for. server is its name in
// policy. Call it before the server runs; middleware that is added later runs before it.
func GuardServer(s *sdk.Server, g *client.Guard, server string) {
	m := &middleware{g, server}
	s.AddReceivingMiddleware(m.calls)
}

type middleware struct {
	g      *client.Guard
	server string
}

// calls guards requests from a client to a server.
func (m *middleware) calls(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		switch method {
		case "tools/call":
			return m.call(ctx, method, req, next)
		case "tools/list":
			res, err := next(ctx, method, req)
			if list, ok := res.(*sdk.ListToolsResult); ok && err == nil {
				return m.list(ctx, list)
			}
			return res, err
		case "resources/read", "prompts/get", "completion/complete":
			return m.read(ctx, method, req, next, guardbook.KindToolResult)
		case "prompts/list", "resources/list", "resources/templates/list", "initialize", "server/discover":
			return m.read(ctx, method, req, next, guardbook.KindToolDefinition)
		}
		return next(ctx, method, req)
	}
}

// call guards one tool call and its result. Whatever is refused is an error result,
// which the model reads, so that the agent goes on.
func (m *middleware) call(ctx context.Context, method string, req sdk.Request, next sdk.MethodHandler) (sdk.Result, error) {
	tool, err := m.toolOf(req.GetParams())
	if err != nil {
		return refusal(err), nil
	}
	in, err := m.g.Check(ctx, guardbook.Interaction{Kind: guardbook.KindToolCall, Tool: &tool, Path: via})
	if err != nil {
		return m.refused(ctx, err)
	}
	req, err = withArguments(req, in.Tool.Arguments)
	if err != nil {
		return refusal(err), nil
	}
	res, err := next(ctx, method, req)
	if err != nil {
		return nil, m.failed(ctx, err, tool.Name)
	}
	out, ok := res.(*sdk.CallToolResult)
	if !ok { // rounds of input: what the server asks for is read where it is answered
		return res, nil
	}
	checked := &sdk.CallToolResult{}
	changed, err := m.check(ctx, guardbook.KindToolResult, tool.Name, out, checked)
	if err != nil {
		return m.refused(ctx, err)
	}
	if changed {
		return checked, nil
	}
	return out, nil
}

func (m *middleware) toolOf(p sdk.Params) (guardbook.Tool, error) {
	tool := guardbook.Tool{Server: m.server}
	var args any
	switch p := p.(type) {
	case *sdk.CallToolParams:
		tool.Name, args = p.Name, p.Arguments
	case *sdk.CallToolParamsRaw:
		tool.Name, args = p.Name, p.Arguments
	default:
		return tool, fmt.Errorf("guardbook cannot read a tool call of type %T", p)
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return tool, fmt.Errorf("guardbook cannot read the arguments: %w", err)
	}
	if string(raw) == "null" {
		raw = []byte("{}")
	}
	tool.Arguments = jsontext.Value(raw)
	return tool, nil
}

// withArguments is the request with the arguments that were released; the caller's
// own is not changed.
func withArguments(req sdk.Request, args jsontext.Value) (sdk.Request, error) {
	switch p := req.GetParams().(type) {
	case *sdk.CallToolParams:
		s, ok := req.GetSession().(*sdk.ClientSession)
		if !ok {
			break
		}
		c := *p
		c.Arguments = args
		return &sdk.ClientRequest[sdk.Params]{Session: s, Params: &c}, nil
	case *sdk.CallToolParamsRaw:
		r, ok := req.(*sdk.ServerRequest[*sdk.CallToolParamsRaw])
		if !ok {
			break
		}
		c := *p
		c.Arguments = args
		return &sdk.ServerRequest[*sdk.CallToolParamsRaw]{Session: r.Session, Params: &c, Extra: r.Extra}, nil
	}
	return nil, fmt.Errorf("guardbook cannot pass on a tool call of type %T", req)
}

// refused is the error result of a call that may not run, or whose result may not be
// read. The caller's own cancellation stays an error.
func (m *middleware) refused(ctx context.Context, err error) (sdk.Result, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return refusal(err), nil
}

func refusal(err error) *sdk.CallToolResult {
	return &sdk.CallToolResult{IsError: true, Content: []sdk.Content{&sdk.TextContent{Text: err.Error()}}}
}

// failed checks the text of an error that came instead of a result: agents show it to
// their models.
func (m *middleware) failed(ctx context.Context, err error, tool string) error {
	if ctx.Err() != nil {
		return err
	}
	in := guardbook.Interaction{Kind: guardbook.KindToolResult, Content: []guardbook.Part{guardbook.TextPart(err.Error())}, Path: via}
	if tool != "" {
		in.Tool = &guardbook.Tool{Server: m.server, Name: tool}
	}
	checked, checkErr := m.g.Check(ctx, in)
	if checkErr != nil {
		return checkErr
	}
	if text := checked.Content[0].Text; text != err.Error() {
		return errors.New(text)
	}
	return err
}

// list judges every tool's definition and leaves out those that are refused.
func (m *middleware) list(ctx context.Context, list *sdk.ListToolsResult) (sdk.Result, error) {
	var ins []guardbook.Interaction
	for _, t := range list.Tools {
		raw, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("guardbook cannot read a tool's definition: %w", err)
		}
		in, err := m.interaction(guardbook.KindToolDefinition, t.Name, raw)
		if err != nil {
			return nil, err
		}
		ins = append(ins, in)
	}
	ds, err := m.g.Decide(ctx, ins...)
	if err != nil {
		return nil, err
	}
	kept := *list
	kept.Tools = nil
	for i, t := range list.Tools {
		switch {
		case !ds[i].Action.Releases():
			continue
		case ds[i].Action == guardbook.ActionRedact:
			redacted := &sdk.Tool{}
			if err := m.rewrite(t, redacted, ds[i].Content); err != nil {
				continue // what cannot be redacted is left out
			}
			t = redacted
		}
		kept.Tools = append(kept.Tools, t)
	}
	if kept.Tools == nil {
		kept.Tools = []*sdk.Tool{}
	}
	return &kept, nil
}

// read guards what a server answers to anything but a tool call. There is no error
// result there: what is refused is an error of the call.
func (m *middleware) read(ctx context.Context, method string, req sdk.Request, next sdk.MethodHandler, kind guardbook.Kind) (sdk.Result, error) {
	res, err := next(ctx, method, req)
	if err != nil {
		return nil, m.failed(ctx, err, "")
	}
	fresh, ok := blank(res)
	if !ok {
		return res, nil
	}
	changed, err := m.check(ctx, kind, method, res, fresh)
	if err != nil {
		return nil, err
	}
	if changed {
		return fresh, nil
	}
	return res, nil
}

// blank is an empty result of the same type, for those that are read.
func blank(res sdk.Result) (sdk.Result, bool) {
	switch res.(type) {
	case *sdk.ReadResourceResult:
		return &sdk.ReadResourceResult{}, true
	case *sdk.GetPromptResult:
		return &sdk.GetPromptResult{}, true
	case *sdk.CompleteResult:
		return &sdk.CompleteResult{}, true
	case *sdk.ListPromptsResult:
		return &sdk.ListPromptsResult{}, true
	case *sdk.ListResourcesResult:
		return &sdk.ListResourcesResult{}, true
	case *sdk.ListResourceTemplatesResult:
		return &sdk.ListResourceTemplatesResult{}, true
	case *sdk.InitializeResult:
		return &sdk.InitializeResult{}, true
	case *sdk.DiscoverResult:
		return &sdk.DiscoverResult{}, true
	}
	return nil, false
}

// handlers guards what a server asks of the client: the question is a stranger's text,
// and the answer goes out to one.
func (m *middleware) handlers(opts *sdk.ClientOptions) *sdk.ClientOptions {
	if opts == nil {
		return nil
	}
	c := *opts
	if ask := opts.CreateMessageHandler; ask != nil {
		c.CreateMessageHandler = func(ctx context.Context, r *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) {
			return answered(ctx, m, "sampling/createMessage", r.Params, func() (*sdk.CreateMessageResult, error) { return ask(ctx, r) })
		}
	}
	if ask := opts.CreateMessageWithToolsHandler; ask != nil {
		c.CreateMessageWithToolsHandler = func(ctx context.Context, r *sdk.CreateMessageWithToolsRequest) (*sdk.CreateMessageWithToolsResult, error) {
			return answered(ctx, m, "sampling/createMessage", r.Params, func() (*sdk.CreateMessageWithToolsResult, error) { return ask(ctx, r) })
		}
	}
	if ask := opts.ElicitationHandler; ask != nil {
		c.ElicitationHandler = func(ctx context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			return answered(ctx, m, "elicitation/create", r.Params, func() (*sdk.ElicitResult, error) { return ask(ctx, r) })
		}
	}
	return &c
}

// answered has a question judged, asks, and has the answer judged.
func answered[T any](ctx context.Context, m *middleware, method string, question any, ask func() (*T, error)) (*T, error) {
	if err := m.judge(ctx, guardbook.KindToolResult, method, question); err != nil {
		return nil, err
	}
	out, err := ask()
	if err != nil {
		return nil, err
	}
	if err := m.judge(ctx, guardbook.KindOutput, method, out); err != nil {
		return nil, err
	}
	return out, nil
}

// judge decides on a value that passes whole or not at all.
func (m *middleware) judge(ctx context.Context, kind guardbook.Kind, method string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("guardbook cannot read %s: %w", method, err)
	}
	in, err := m.interaction(kind, method, raw)
	if err != nil {
		return err
	}
	ds, err := m.g.Decide(ctx, in)
	if err != nil {
		return err
	}
	if d := ds[0]; !d.Action.Releases() || d.Action == guardbook.ActionRedact { // half a question is another one
		return &client.BlockedError{Decision: d}
	}
	return nil
}
