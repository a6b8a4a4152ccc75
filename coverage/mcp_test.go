package coverage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/canary"
	"github.com/guardbook/guardbook/coverage"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp/stdio"
)

// dropped is what the server notes when a tool ran that policy does not allow.
const dropped = "dropped"

// desk is an MCP server that plants the marker in everything that it can say. note
// keeps what reached it.
func desk(note func(string)) *mcp.Server {
	mark := plant("MARK", "", false)
	s := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	type text struct {
		Text string `json:"text"`
	}
	type none = struct{}
	mcp.AddTool(s, &mcp.Tool{Name: "note", Description: "Keeps a note."}, func(_ context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, any, error) {
		note(in.Text)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Kept."}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "drop", Description: "Drops a table."}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		note(dropped)
		return &mcp.CallToolResult{}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "say", Description: "Says something."}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: mark}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "say_structured", Description: "Says something with a form."}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, text, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{}}, text{mark}, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "say_error", Description: "Fails."}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		return nil, nil, errors.New(mark)
	})
	mcp.AddTool(s, &mcp.Tool{Name: "say_progress", Description: "Takes a while."}, func(ctx context.Context, r *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1, Message: mark})
		return &mcp.CallToolResult{}, nil, err
	})
	mcp.AddTool(s, &mcp.Tool{Name: "bad", Description: mark}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	s.AddResource(&mcp.Resource{URI: "desk://page", Name: "page", Description: mark}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "desk://page", Text: mark}}}, nil
	})
	s.AddPrompt(&mcp.Prompt{Name: "greet", Description: mark}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: mark}}}}, nil
	})
	return s
}

// plays are what a client does in each cell; what it got back is written down.
var plays = map[string]func(ctx context.Context, c *mcp.ClientSession) (any, error){
	"arguments":  call("note", map[string]any{"text": plant("MARK", "", false)}),
	"denied":     call("drop", map[string]any{}),
	"text":       call("say", map[string]any{}),
	"structured": call("say_structured", map[string]any{}),
	"error":      call("say_error", map[string]any{}),
	"progress":   call("say_progress", map[string]any{}),
	"definition": func(ctx context.Context, c *mcp.ClientSession) (any, error) { return c.ListTools(ctx, nil) },
	"resource": func(ctx context.Context, c *mcp.ClientSession) (any, error) {
		return c.ReadResource(ctx, &mcp.ReadResourceParams{URI: "desk://page"})
	},
	"resources": func(ctx context.Context, c *mcp.ClientSession) (any, error) { return c.ListResources(ctx, nil) },
	"prompt": func(ctx context.Context, c *mcp.ClientSession) (any, error) {
		return c.GetPrompt(ctx, &mcp.GetPromptParams{Name: "greet"})
	},
	"prompts": func(ctx context.Context, c *mcp.ClientSession) (any, error) { return c.ListPrompts(ctx, nil) },
}

func call(name string, args map[string]any) func(context.Context, *mcp.ClientSession) (any, error) {
	return func(ctx context.Context, c *mcp.ClientSession) (any, error) {
		if _, err := c.ListTools(ctx, nil); err != nil {
			return nil, err
		}
		p := &mcp.CallToolParams{Name: name, Arguments: args}
		p.SetProgressToken("p")
		return c.CallTool(ctx, p)
	}
}

// heard is what a client was told beside its answers.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) add(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, s)
}

func (h *heard) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.list, "\n")
}

// connect plays a row over a transport and returns what the client got.
func connect(t *testing.T, row coverage.Row, tr mcp.Transport) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var h heard
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { h.add(r.Params.Message) },
	})
	c, err := client.Connect(ctx, tr, nil)
	must(t, err)
	defer c.Close()
	play := plays[row.Cell.MCP]
	if play == nil {
		t.Fatalf("the matrix names a play that there is not: %q", row.Cell.MCP)
	}
	got, err := play(ctx, c)
	b, _ := json.Marshal(got)
	return fmt.Sprintf("%s\n%v\n%s", b, err, h.all())
}

type withHeaders struct {
	set  map[string]string
	next http.RoundTripper
}

func (w withHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for k, v := range w.set {
		r.Header.Set(k, v)
	}
	return w.next.RoundTrip(r)
}

func TestEveryCellOfMCPIsWhatTheMatrixSays(t *testing.T) {
	m := load(t)
	var reached heard
	server := desk(reached.add)
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	t.Cleanup(up.Close)
	w := newWorld(t, m, "mcp_servers:\n  desk: {url: "+up.URL+"}\n")
	for n, row := range m.Rows() {
		if row.Cell.MCP == "" {
			continue
		}
		t.Run(row.Name()+", by HTTP", func(t *testing.T) {
			session := fmt.Sprintf("http-%d-", n)
			got := connect(t, row, &mcp.StreamableClientTransport{Endpoint: w.url + "/mcp/desk", MaxRetries: -1,
				HTTPClient: &http.Client{Transport: withHeaders{map[string]string{gateway.HeaderKey: w.keys[strictAgent], gateway.HeaderSession: session}, w.client.Transport}}})
			w.guardedMCP(t, row, session, got, reached.all())
		})
		t.Run(row.Name()+", by stdio", func(t *testing.T) {
			session := fmt.Sprintf("stdio-%d-", n)
			file := filepath.Join(t.TempDir(), "reached")
			t.Setenv(deskFile, file)
			in, toWrapper := io.Pipe()
			fromWrapper, out := io.Pipe()
			done := make(chan error, 1)
			go func() {
				_, err := stdio.Wrap(context.WithoutCancel(t.Context()), stdio.Options{Server: "wrapped", Command: []string{os.Args[0]}, Session: session,
					Find: func(context.Context) (stdio.Address, error) {
						return stdio.Address{URL: w.url, Key: w.keys[strictAgent]}, nil
					},
					In: in, Out: out, Err: io.Discard})
				_ = out.Close()
				done <- err
			}()
			got := connect(t, row, &mcp.IOTransport{Reader: fromWrapper, Writer: toWrapper})
			_ = toWrapper.Close()
			must(t, <-done)
			seen, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			w.guardedMCP(t, row, session, got, string(seen))
		})
	}
}

// guardedMCP: the finding is in the book, and what was blocked reached neither the
// client nor the server.
func (w *world) guardedMCP(t *testing.T, row coverage.Row, session, got, reached string) {
	t.Helper()
	if strings.HasPrefix(session, "stdio-") {
		group := *row.Group
		group.Path = row.StdioPath()
		row.Group = &group
	}
	w.entries(t, session, func(e guardbook.Entry) bool { return fits(t, e, row) })
	if strings.Contains(got, canary.Marker) {
		t.Errorf("it reached the client: %s", got)
	}
	if strings.Contains(reached, canary.Marker) || strings.Contains(reached, dropped) {
		t.Errorf("it reached the server: %s", reached)
	}
}

// deskFile names the file in which a desk that is started as a process notes what
// reached it; it is set for such a process only.
const deskFile = "COVERAGE_DESK_FILE"

// runDesk is the process that is wrapped.
func runDesk(file string) {
	err := desk(func(s string) {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, _ = f.WriteString(s + "\n")
			_ = f.Close()
		}
	}).Run(context.Background(), &mcp.StdioTransport{})
	if err != nil && !errors.Is(err, io.EOF) {
		os.Exit(1)
	}
	os.Exit(0)
}
