// Command openai is an agent on openai-go whose model calls and tool calls are
// guarded. Without OPENAI_API_KEY a stand-in plays the model.
//
//	go run ./client/examples/openai
package main

import (
	"context"
	"encoding/json/jsontext"
	"fmt"
	"net/http/httptest"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/demo"
	"github.com/guardbook/guardbook/demo/standin"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	// The three lines.
	guard, err := client.New(client.Options{Agent: "example-go-openai", AsksTools: true})
	if err != nil {
		return err
	}
	defer guard.Close()
	options := []option.RequestOption{option.WithMiddleware(guard.Middleware())}

	model := "gpt-5-mini"
	if os.Getenv("OPENAI_API_KEY") == "" {
		s := httptest.NewServer(standin.New(demo.Scripts()))
		defer s.Close()
		model = standin.Model + "/patient-assistant"
		options = append(options, option.WithBaseURL(s.URL+"/openai/v1"), option.WithAPIKey("stand-in"))
	}
	llm := openai.NewClient(options...)
	ctx = client.WithSession(ctx, "example-1")
	p := openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Summarise the intake form of patient 4711.")},
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "query_database", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"query": map[string]any{"type": "string"}}},
		})},
	}
	for range 8 {
		answer, err := llm.Chat.Completions.New(ctx, p)
		if blocked, ok := client.AsBlocked(err); ok {
			fmt.Printf("blocked: %s (entry %s)\n", blocked, blocked.Decision.Entry)
			return nil
		}
		if away, ok := client.AsUnavailable(err); ok {
			return away
		}
		if err != nil {
			return err
		}
		m := answer.Choices[0].Message
		if len(m.ToolCalls) == 0 {
			fmt.Println("answer:", m.Content)
			return nil
		}
		p.Messages = append(p.Messages, m.ToParam())
		for _, call := range m.ToolCalls {
			p.Messages = append(p.Messages, openai.ToolMessage(use(ctx, guard, call.Function.Name, call.Function.Arguments), call.ID))
		}
	}
	return nil
}

// use runs a tool, when the guard lets it: what it says goes back to the model either way.
func use(ctx context.Context, guard *client.Guard, name, arguments string) string {
	tool := guardbook.Tool{Name: name, Arguments: jsontext.Value(arguments)}
	args, err := guard.ToolCall(ctx, tool)
	if err != nil {
		fmt.Printf("tool %s: %v\n", name, err)
		return err.Error()
	}
	fmt.Printf("tool %s %s\n", name, args)
	result, err := guard.ToolResult(ctx, tool, `[{"customer": 17, "bought": "tea"}, {"customer": 23, "bought": "a kettle"}]`)
	if err != nil {
		return err.Error()
	}
	return result
}
