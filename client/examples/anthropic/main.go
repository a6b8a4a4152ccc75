// Command anthropic is a streamed conversation on anthropic-sdk-go that is guarded.
// Without ANTHROPIC_API_KEY a stand-in plays the model.
//
//	go run ./client/examples/anthropic
package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

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
	guard, err := client.New(client.Options{Agent: "example-go-anthropic"})
	if err != nil {
		return err
	}
	defer guard.Close()
	options := []option.RequestOption{option.WithMiddleware(guard.Middleware())}

	model := "claude-haiku-4-5"
	if os.Getenv("ANTHROPIC_API_KEY") == "" {
		s := httptest.NewServer(standin.New(demo.Scripts()))
		defer s.Close()
		model = standin.Model + "/researcher"
		options = append(options, option.WithBaseURL(s.URL+"/anthropic"), option.WithAPIKey("stand-in"))
	}
	llm := anthropic.NewClient(options...)
	stream := llm.Messages.NewStreaming(client.WithSession(ctx, "example-1"), anthropic.MessageNewParams{
		Model: model, MaxTokens: 300,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is new in the field?"))},
	})
	defer stream.Close()
	said := 0
	for stream.Next() && said < 2000 {
		if text := stream.Current().Delta.Text; text != "" {
			said += len(text)
			fmt.Print(text)
		}
	}
	fmt.Println()
	if blocked, ok := client.AsBlocked(stream.Err()); ok {
		fmt.Printf("blocked: %s (entry %s)\n", blocked, blocked.Decision.Entry)
		return nil
	}
	return stream.Err()
}
