//go:build unix

package stdio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/clients"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/inspect"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
	"github.com/guardbook/guardbook/gateway/mcp/stdio"
)

// The test program plays three parts: the test, `guardbook mcp wrap`, and the MCP
// server that is wrapped.
func TestMain(m *testing.M) {
	switch os.Getenv("PART") {
	case "server":
		server()
	case "raw":
		raw()
	case "wrap":
		os.Exit(wrap())
	default:
		os.Exit(m.Run())
	}
}

func wrap() int {
	part := os.Args[1]
	if err := os.Setenv("PART", part); err != nil {
		return 2
	}
	code, err := stdio.Wrap(context.Background(), stdio.Options{
		Server: "desk", Command: append([]string{os.Args[0]}, os.Args[2:]...),
		Find: func(context.Context) (stdio.Address, error) {
			return stdio.Address{URL: os.Getenv("GUARDBOOK_URL"), Key: os.Getenv("GUARDBOOK_KEY")}, nil
		},
		Spool:   client.SpoolOptions{Dir: os.Getenv("SPOOL"), URL: os.Getenv("GUARDBOOK_URL"), Key: os.Getenv("GUARDBOOK_KEY")},
		Session: "s-1", Unavailable: stdio.Unavailable(os.Getenv("UNAVAILABLE")),
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "wrap:", err)
		return 2
	}
	return code
}

// server is a real MCP server.
func server() {
	s := sdk.NewServer(&sdk.Implementation{Name: "desk", Version: "1"}, &sdk.ServerOptions{Instructions: "Ask for the time first."})
	type note struct {
		Text string `json:"text"`
	}
	sdk.AddTool(s, &sdk.Tool{Name: "note", Description: os.Getenv("NOTE_DESCRIPTION") + "Keeps a note."}, func(_ context.Context, _ *sdk.CallToolRequest, in note) (*sdk.CallToolResult, note, error) {
		return nil, in, nil
	})
	sdk.AddTool(s, &sdk.Tool{Name: "page", Description: "Reads a page."}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: testbed.Injection}}}, nil, nil
	})
	sdk.AddTool(s, &sdk.Tool{Name: "shell", Description: "Runs a command."}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		return nil, nil, errors.New("this must never run")
	})
	sdk.AddTool(s, &sdk.Tool{Name: "wait", Description: "Waits."}, func(ctx context.Context, r *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
		_ = r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
		<-ctx.Done()
		if f := os.Getenv("CANCELLED"); f != "" {
			_ = os.WriteFile(f, nil, 0o600)
		}
		return nil, nil, ctx.Err()
	})
	if err := s.Run(context.Background(), &sdk.StdioTransport{}); err != nil && !errors.Is(err, io.EOF) {
		os.Exit(1)
	}
}

const policy = `
policy: billing-bot
version: 1
owner: payments-team@example.com
agents: ["billing-bot"]
mode: enforce
tools:
  - name: note
    allow: {text: {type: string}}
  - name: page
    allow: {}
  - name: wait
    allow: {}
findings:
  - {class: prompt_injection, channels: [input, tool_result, tool_definition], threshold: 0.8, action: block, severity: critical}
  - {class: tool_poisoning, action: block, severity: critical}
  - {class: secret, action: redact, severity: high}
`

// place is a Guardbook server that can go away and come back.
type place struct {
	*testbed.Bed
	t    *testing.T
	addr string

	spool string // of the wrappers
	srv   *httptest.Server
	door  *stdio.Door
	pins  *pin.Store

	account *clients.Clients
}

// appender is the book, as the account of clients sees it.
type appender struct{ gateway.Guard }

// Append implements clients.Recorder.
func (a appender) Append(ctx context.Context, drafts ...guardbook.Draft) error {
	return a.Record(ctx, drafts...)
}

func newPlace(t *testing.T) *place {
	p := &place{Bed: testbed.New(t, testbed.Options{Policy: policy}), t: t, addr: "127.0.0.1:0", spool: t.TempDir()}
	p.account = clients.New(clients.Options{Recorder: appender{p.Gateway.Guard()}})
	p.up()
	t.Cleanup(p.down)
	return p
}

func (p *place) up() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.door = stdio.NewDoor(p.Gateway, p.pins, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle("/mcp-stdio/", p.door)
	mux.Handle("/v1/record", inspect.RecordHandler(p.Gateway, p.account))
	p.srv = httptest.NewUnstartedServer(mux)
	p.srv.Listener.Close()
	p.srv.Listener, p.srv.Config = l, gateway.NewServer(mux, slog.New(slog.DiscardHandler))
	p.srv.Start()
}

func (p *place) down() {
	p.door.Close()
	p.srv.Close()
}

// command is the command line of a wrapped server.
func (p *place) command(part string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{part}, args...)...)
	cmd.Env = append(os.Environ(), "PART=wrap", "SPOOL="+p.spool, "GUARDBOOK_URL=http://"+p.addr, "GUARDBOOK_KEY="+testbed.Key)
	return cmd
}

func (p *place) connect(o *sdk.ClientOptions, env ...string) *sdk.ClientSession {
	p.t.Helper()
	cmd := p.command("server")
	cmd.Env = append(cmd.Env, env...)
	cs, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, o).Connect(p.t.Context(), &sdk.CommandTransport{Command: cmd}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cs.Close() })
	return cs
}

func text(r *sdk.CallToolResult) string {
	for _, c := range r.Content {
		if t, ok := c.(*sdk.TextContent); ok {
			return t.Text
		}
	}
	return ""
}

func call(t *testing.T, cs *sdk.ClientSession, tool string, args any) *sdk.CallToolResult {
	t.Helper()
	if args == nil {
		args = map[string]any{}
	}
	r, err := cs.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return r
}

func TestARealServerBehindTheWrapper(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cs := p.connect(nil)
	list, err := cs.ListTools(t.Context(), nil)
	if err != nil || len(list.Tools) == 0 {
		t.Fatal(list, err)
	}
	if r := call(t, cs, "note", map[string]any{"text": "hello"}); r.IsError || !strings.Contains(text(r), "hello") {
		t.Errorf("an allowed call: %+v", r)
	}
	if r := call(t, cs, "page", nil); !r.IsError || strings.Contains(text(r), "previous instructions") {
		t.Errorf("an injection in a result: %+v", r)
	}
	if r := call(t, cs, "shell", nil); !r.IsError || !strings.Contains(text(r), "policy") {
		t.Errorf("a denied tool: %+v", r)
	}
	if r := call(t, cs, "note", map[string]any{"text": "key " + testbed.Secret}); r.IsError || strings.Contains(text(r), testbed.Secret) {
		t.Errorf("a secret: %+v", r)
	}
	for _, d := range testbed.Decisions(t, p.Bed) {
		if d.Agent != testbed.Agent || d.Session != "s-1" || !strings.HasPrefix(d.Path, "mcp/stdio/") {
			t.Fatalf("a decision of %s %s %s", d.Agent, d.Session, d.Path)
		}
	}
}

func TestCancellationReachesTheServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	file := filepath.Join(t.TempDir(), "cancelled")
	ctx, cancel := context.WithCancel(t.Context())
	cs := p.connect(&sdk.ClientOptions{ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { cancel() }}, "CANCELLED="+file)
	params := &sdk.CallToolParams{Name: "wait", Arguments: map[string]any{}}
	params.SetProgressToken("p-1")
	if _, err := cs.CallTool(ctx, params); !errors.Is(err, context.Canceled) {
		t.Fatalf("the cancelled call: %v", err)
	}
	eventually(t, "the server hears of it", func() bool { _, err := os.Stat(file); return err == nil })
	if r := call(t, cs, "note", map[string]any{"text": "go on"}); r.IsError {
		t.Errorf("after it: %+v", r)
	}
}

func TestAKillEndsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	progress := make(chan struct{}, 1)
	cs := p.connect(&sdk.ClientOptions{ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { progress <- struct{}{} }})
	got := make(chan *sdk.CallToolResult, 1)
	go func() {
		params := &sdk.CallToolParams{Name: "wait", Arguments: map[string]any{}}
		params.SetProgressToken("p-1")
		r, err := cs.CallTool(t.Context(), params)
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	<-progress
	kill(t, p)
	if r := <-got; r == nil || !r.IsError || !strings.Contains(text(r), "Stopped by an operator") {
		t.Errorf("the call that ran: %+v", r)
	}
	if err := cs.Wait(); err != nil {
		t.Log(err)
	}
	if _, err := cs.CallTool(t.Context(), &sdk.CallToolParams{Name: "note", Arguments: map[string]any{"text": "x"}}); err == nil {
		t.Error("a call passed after the kill")
	}
}

func TestToolsAreRefusedWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cs := p.connect(nil)
	if r := call(t, cs, "note", map[string]any{"text": "1"}); r.IsError {
		t.Fatal(text(r))
	}
	p.down()
	if r := call(t, cs, "note", map[string]any{"text": "2"}); !r.IsError || !strings.Contains(text(r), "cannot be reached") {
		t.Errorf("a call without a decision: %+v", r)
	}
	if _, err := cs.ListTools(t.Context(), nil); err == nil {
		t.Error("tools were listed without a verdict")
	}
	p.up()
	eventually(t, "the wrapper finds it again", func() bool { return !call(t, cs, "note", map[string]any{"text": "3"}).IsError })
}

// What happened without a decision is in the book once there is one again.
func TestWhatPassedUnguardedIsToldAfterwards(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cs := p.connect(nil, "UNAVAILABLE=allow")
	if r := call(t, cs, "note", map[string]any{"text": "1"}); r.IsError {
		t.Fatal(text(r))
	}
	p.down()
	if r := call(t, cs, "note", map[string]any{"text": "2"}); !r.IsError {
		t.Error("a call passed without a decision")
	}
	if _, err := cs.ListTools(t.Context(), nil); err == nil {
		t.Error("tools were listed without a verdict")
	}
	if _, err := cs.ListResources(t.Context(), nil); err != nil {
		t.Errorf("a text did not pass: %v", err)
	}
	p.up()
	eventually(t, "the wrapper finds it again", func() bool { return !call(t, cs, "note", map[string]any{"text": "3"}).IsError })
	told := map[string]int{}
	eventually(t, "the book has it", func() bool {
		clear(told)
		for _, e := range testbed.Entries[guardbook.ClientEntry](t, p.Bed, guardbook.TypeClient) {
			told[e.Event]++
			if !strings.HasSuffix(e.Path, "mcp/stdio") || e.Session != "s-1" {
				t.Fatalf("%+v", e)
			}
		}
		return told["degraded"] == 1
	})
	if told["refused"] == 0 {
		t.Errorf("told: %v", told)
	}
}

// A wrapper that ends before the server is back leaves what it knows to the next one.
func TestWhatOneWrapperCouldNotTellTheNextOneTells(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cs := p.connect(nil)
	p.down()
	if r := call(t, cs, "note", map[string]any{"text": "2"}); !r.IsError {
		t.Error("a call passed without a decision")
	}
	_ = cs.Close()
	if n := len(testbed.Entries[guardbook.ClientEntry](t, p.Bed, guardbook.TypeClient)); n != 0 {
		t.Fatalf("%d entries", n)
	}
	p.up()
	p.connect(nil)
	eventually(t, "the book has it", func() bool {
		es := testbed.Entries[guardbook.ClientEntry](t, p.Bed, guardbook.TypeClient)
		return len(es) > 0 && es[0].Event == "refused" && es[0].Tool != nil && es[0].Tool.Name == "note"
	})
}

func TestAClientMayConnectWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.down()
	cs := p.connect(nil)
	if s := cs.InitializeResult().Instructions; s != "" {
		t.Errorf("instructions that nobody has read passed: %q", s)
	}
	if r := call(t, cs, "note", map[string]any{"text": "2"}); !r.IsError {
		t.Error("a call passed without a decision")
	}
	p.up()
	eventually(t, "the wrapper finds it", func() bool { return !call(t, cs, "note", map[string]any{"text": "3"}).IsError })
}

func TestAWrongKeyIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cmd := p.command("raw", "plain")
	cmd.Env = append(cmd.Env, "GUARDBOOK_KEY=gbk_other")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "key is not known") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestManyCallsAtOnceKeepTheirAnswers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cs := p.connect(nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			want := fmt.Sprintf("note %d", i)
			r, err := cs.CallTool(t.Context(), &sdk.CallToolParams{Name: "note", Arguments: map[string]any{"text": want}})
			if err != nil || r.IsError || !strings.Contains(text(r), want) {
				t.Errorf("%s: %+v %v", want, r, err)
			}
		})
	}
	wg.Wait()
}

func kill(t *testing.T, p *place) {
	t.Helper()
	if _, err := p.Containments.Kill(t.Context(), "agent:"+testbed.Agent, "alice", "it sends data out", 0); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}
