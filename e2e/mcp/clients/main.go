//go:build interop

// Command clients is the client of the interop tests on the Go SDK. It takes one order
// a line on its standard input, and answers each with a line:
// {"op":"call","name":"echo","arguments":{...}} -> {"text":"..."}.
//
//	clients stdio COMMAND ARG... | clients http URL KEY
package main

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

//lint:file-ignore SA1019 sampling is deprecated, and every client and server still speaks it

type order struct {
	Op        string         `json:"op"`
	Name      string         `json:"name"`
	URI       string         `json:"uri"`
	Arguments map[string]any `json:"arguments"`
}

type client struct {
	cs       *mcp.ClientSession
	progress atomic.Int64
	begun    atomic.Pointer[context.CancelFunc]
}

func main() {
	c := &client{}
	if err := c.connect(context.Background()); err != nil {
		say(map[string]any{"error": err.Error()})
		return
	}
	say(map[string]any{"instructions": c.cs.InitializeResult().Instructions})
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, "clients:", err)
			os.Exit(2)
		}
		answer, err := c.do(context.Background(), o)
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		say(answer)
	}
	_ = c.cs.Close() // a server that was killed does not say goodbye
}

func say(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = os.Stdout.Write(append(b, '\n'))
	}
	if err != nil {
		os.Exit(2)
	}
}

type keyed struct{ key string }

// RoundTrip adds the agent's key.
func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Guardbook-Key", k.key)
	return http.DefaultTransport.RoundTrip(r)
}

func (c *client) connect(ctx context.Context) (err error) {
	var t mcp.Transport
	if os.Args[1] == "stdio" {
		cmd := exec.CommandContext(ctx, os.Args[2], os.Args[3:]...)
		cmd.Stderr = os.Stderr
		t = &mcp.CommandTransport{Command: cmd}
	} else {
		t = &mcp.StreamableClientTransport{Endpoint: os.Args[2], HTTPClient: &http.Client{Transport: keyed{os.Args[3]}}}
	}
	c.cs, err = mcp.NewClient(&mcp.Implementation{Name: "interop", Version: "1"}, &mcp.ClientOptions{
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "plum"}}, nil
		},
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"yes": true}}, nil
		},
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) {
			c.progress.Add(1)
			if stop := c.begun.Load(); stop != nil {
				(*stop)()
			}
		},
	}).Connect(ctx, t, nil)
	return err
}

func (c *client) do(ctx context.Context, o order) (any, error) {
	switch o.Op {
	case "tools":
		r, err := c.cs.ListTools(ctx, nil)
		if err != nil {
			return nil, err
		}
		names := []string{}
		for _, t := range r.Tools {
			names = append(names, t.Name)
		}
		return map[string]any{"tools": names}, nil
	case "call":
		c.progress.Store(0)
		r, err := c.call(ctx, o)
		if err != nil {
			return nil, err
		}
		return map[string]any{"isError": r.IsError, "text": text(r.Content), "structured": r.StructuredContent, "progress": c.progress.Load()}, nil
	case "cancel":
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		c.begun.Store(&cancel)
		defer c.begun.Store(nil)
		_, err := c.call(ctx, o)
		return map[string]any{"cancelled": errors.Is(err, context.Canceled)}, nil
	case "resource":
		r, err := c.cs.ReadResource(ctx, &mcp.ReadResourceParams{URI: o.URI})
		if err != nil {
			return nil, err
		}
		return map[string]any{"text": r.Contents[0].Text}, nil
	case "prompt":
		args := map[string]string{}
		for k, v := range o.Arguments {
			args[k] = fmt.Sprint(v)
		}
		r, err := c.cs.GetPrompt(ctx, &mcp.GetPromptParams{Name: o.Name, Arguments: args})
		if err != nil {
			return nil, err
		}
		return map[string]any{"text": text([]mcp.Content{r.Messages[0].Content})}, nil
	}
	return nil, fmt.Errorf("there is no order %q", o.Op)
}

func (c *client) call(ctx context.Context, o order) (*mcp.CallToolResult, error) {
	if o.Arguments == nil {
		o.Arguments = map[string]any{}
	}
	p := &mcp.CallToolParams{Name: o.Name, Arguments: o.Arguments}
	p.SetProgressToken(time.Now().String())
	return c.cs.CallTool(ctx, p)
}

func text(list []mcp.Content) (s string) {
	for _, c := range list {
		if t, ok := c.(*mcp.TextContent); ok {
			s += t.Text
		}
	}
	return s
}
