package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// mcpDesk is an MCP server for scripts: mcp-desk [crash].
func mcpDesk() {
	if len(os.Args) > 1 && os.Args[1] == "crash" {
		fmt.Fprintln(os.Stderr, "the desk is closed")
		os.Exit(7)
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	type said struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "Says it again."}, func(_ context.Context, _ *mcp.CallToolRequest, in said) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// mcpCall is an MCP client for scripts: mcp-call COMMAND [ARG...] lists the server's
// tools and calls its echo.
func mcpCall() {
	os.Exit(func() int {
		ctx := context.Background()
		cmd := exec.Command(os.Args[1], os.Args[2:]...)
		cmd.Stderr = os.Stderr
		cs, err := mcp.NewClient(&mcp.Implementation{Name: "script", Version: "1"}, nil).Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, "connect:", err)
			return 1
		}
		defer cs.Close()
		list, err := cs.ListTools(ctx, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, "list:", err)
			return 1
		}
		for _, t := range list.Tools {
			fmt.Println("tools:", t.Name)
		}
		r, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hello"}})
		if err != nil {
			fmt.Fprintln(os.Stderr, "call:", err)
			return 1
		}
		for _, c := range r.Content {
			if t, ok := c.(*mcp.TextContent); ok && r.IsError {
				fmt.Println("echo: error:", t.Text)
			} else if ok {
				fmt.Println("echo:", t.Text)
			}
		}
		return 0
	}())
}
