package streamable_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
	"github.com/guardbook/guardbook/gateway/mcp/internal/bed"
)

// deploy asks before it does something: in the stateless era with a result, in the
// older one with a request of its own.
func deploy(question *string) *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "crm", Version: "1"}, nil)
	s.AddTool(&sdk.Tool{Name: "time", InputSchema: map[string]any{"type": "object"}}, func(_ context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		if len(req.Params.InputResponses) == 0 {
			return &sdk.CallToolResult{
				InputRequests: sdk.InputRequestMap{"confirm": &sdk.ElicitParams{Message: *question, RequestedSchema: map[string]any{"type": "object"}}},
				RequestState:  "b3BhcXVl",
			}, nil
		}
		r, _ := req.Params.InputResponses["confirm"].(*sdk.ElicitResult)
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprint(r.Action, " ", r.Content["key"])}}}, nil
	})
	return s
}

func TestAResultThatAsksForInput(t *testing.T) {
	for _, era := range []string{"stateless", "sessions"} {
		t.Run(era, func(t *testing.T) {
			question, key := "Deploy?", "blue"
			w := newWorld(t, "crm", eras(deploy(&question))[era], nil)
			c := w.connect(t, &sdk.ClientOptions{ElicitationHandler: func(context.Context, *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
				return &sdk.ElicitResult{Action: "accept", Content: map[string]any{"key": key}}, nil
			}})
			version := ""
			for _, q := range w.seen.all() {
				version = q.header.Get("Mcp-Protocol-Version")
			}
			if modern := version >= "2026-07-28"; modern != (era == "stateless") {
				t.Fatalf("revision %s", version)
			}
			call := func() (*sdk.CallToolResult, error) {
				return c.CallTool(t.Context(), &sdk.CallToolParams{Name: "time"})
			}
			if r, err := call(); err != nil || textOf(r) != "accept blue" {
				t.Fatalf("%v %+v", err, r)
			}
			calls := 0
			for _, d := range w.Decisions(t) {
				if d.Kind == guardbook.KindToolCall {
					calls++
				}
			}
			if era == "stateless" && calls != 2 {
				t.Errorf("%d decisions on a call that was made again", calls)
			}
			key = bed.Secret
			if r, err := call(); err == nil && (!r.IsError || strings.Contains(textOf(r), bed.Secret)) {
				t.Errorf("%v %+v", err, r)
			}
			for _, q := range w.seen.all() {
				if strings.Contains(q.body, bed.Secret) {
					t.Errorf("a secret went to the server: %s", q.body)
				}
			}
			question = bed.Injection
			if r, err := call(); err == nil && !r.IsError {
				t.Errorf("%+v", r)
			} else if err != nil && strings.Contains(err.Error(), "Ignore all") || r != nil && strings.Contains(textOf(r), "Ignore all") {
				t.Errorf("%v %+v", err, r)
			}
		})
	}
}

func TestAChangeOfTheListIsToldInBothEras(t *testing.T) {
	for _, era := range []string{"stream", "sessions"} {
		t.Run(era, func(t *testing.T) {
			s := crm()
			w := newWorld(t, "crm", eras(s)[era], nil)
			changed := make(chan struct{}, 8)
			c := w.connect(t, &sdk.ClientOptions{ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) { changed <- struct{}{} }})
			if _, err := c.ListTools(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			testbed.Opened(t, w.Bed.Bed) // the stream that tells it
			sdk.AddTool(s, &sdk.Tool{Name: "late", Description: "came later"}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
				return nil, nil, nil
			})
			<-changed
			list, err := c.ListTools(t.Context(), nil)
			if err != nil || len(list.Tools) != 3 {
				t.Errorf("%v, %d tools", err, len(list.Tools))
			}
		})
	}
}

func TestPromptsAndResources(t *testing.T) {
	s := crm()
	s.AddPrompt(&sdk.Prompt{Name: "good", Description: "writes a letter"}, func(context.Context, *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		return &sdk.GetPromptResult{Messages: []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: bed.Injection}}}}, nil
	})
	s.AddPrompt(&sdk.Prompt{Name: "bad", Description: bed.Injection}, func(context.Context, *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		return &sdk.GetPromptResult{}, nil
	})
	s.AddResource(&sdk.Resource{Name: "note", URI: "file:///note"}, func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: "file:///note", Text: "write to " + bed.Mail}}}, nil
	})
	for name, upstream := range eras(s) {
		t.Run(name, func(t *testing.T) {
			c := newWorld(t, "crm", upstream, nil).connect(t, nil)
			list, err := c.ListPrompts(t.Context(), nil)
			if err != nil || len(list.Prompts) != 1 || list.Prompts[0].Name != "good" {
				t.Errorf("%v %+v", err, list)
			}
			if _, err := c.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: "good"}); err == nil || !strings.Contains(err.Error(), "Blocked by policy") {
				t.Errorf("%v", err)
			}
			r, err := c.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "file:///note"})
			if err != nil || r.Contents[0].Text != "write to "+bed.Redacted {
				t.Errorf("%v %+v", err, r)
			}
			if init := c.InitializeResult(); init == nil || init.Instructions != "Ask for customers." {
				t.Errorf("%+v", init)
			}
		})
	}
}
