//go:build unix

package stdio_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/jsontext"
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

// raw is a server that does what no SDK would.
func raw() {
	in := bufio.NewReader(os.Stdin)
	switch os.Args[1] {
	case "stderr": // more than a pipe holds, before anything else
		fmt.Fprint(os.Stderr, strings.Repeat("noise ", 100_000))
	case "orphan":
		cmd := exec.Command("sleep", "300")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			os.Exit(9)
		}
		_ = os.WriteFile(os.Args[2], fmt.Append(nil, cmd.Process.Pid), 0o600)
	case "stubborn":
		ignoreSignals()
	case "exit":
		os.Exit(7)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		switch os.Args[1] {
		case "noise":
			fmt.Println("Listening on stdio...")
			fmt.Println(`{"jsonrpc":"2.0","id":1,"result":{},"result":{}}`)
			fmt.Println(`{"jsonrpc":"2.0","id":99,"result":{"late":true}}`)
		case "huge":
			fmt.Printf(`{"jsonrpc":"2.0","id":1,"result":{"x":"%s"}}`+"\n", strings.Repeat("x", 17<<20))
			continue
		case "crash":
			os.Exit(7)
		}
		_, rest, _ := strings.Cut(line, `"id":`)
		id, _, _ := strings.Cut(rest, ",")
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"env":"%s","unknown":[1.50,"ü"]},"extra":1}`+"\n", id, os.Getenv("PYTHONUNBUFFERED")+os.Getenv("GUARDBOOK_KEY"))
	}
	if os.Args[1] == "stubborn" {
		time.Sleep(time.Hour)
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
	if r := call(t, cs, "note", map[string]any{"text": "2"}); !r.IsError {
		t.Error("a call passed without a decision")
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

// talk writes lines to a wrapped raw server, and returns what comes back. Its input
// stays open until that many answers are there: an end would overtake them.
func talk(t *testing.T, cmd *exec.Cmd, answers int, lines ...string) (out []string, stderr string, code int) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, l := range lines {
			if _, err := io.WriteString(in, l+"\n"); err != nil {
				return
			}
		}
	}()
	r := bufio.NewReader(stdout)
	for {
		line, err := r.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
		if len(out) == answers {
			in.Close()
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait()
	for _, l := range out {
		if !jsontext.Value(l).IsValid() {
			t.Errorf("on stdout: %.200q", l)
		}
	}
	return out, errs.String(), cmd.ProcessState.ExitCode()
}

const ping = `{"jsonrpc":"2.0","id":"a-1","method":"vendor/thing","params":{"x":[1.0,"ü"],"_meta":{"k":1}},"more":true}`

func TestWhatServersDoOnTheirStreams(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	t.Run("unknown methods and members pass", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "plain"), 1, ping)
		if len(out) != 1 || out[0] != `{"jsonrpc":"2.0","id":"a-1","result":{"env":"1","unknown":[1.50,"ü"]},"extra":1}` || code != 0 {
			t.Errorf("%q, exit code %d", out, code)
		}
	})
	t.Run("noise and late answers are dropped", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "noise"), 1, ping)
		if len(out) != 1 || !strings.Contains(out[0], `"a-1"`) || code != 0 {
			t.Errorf("%q, exit code %d", out, code)
		}
	})
	t.Run("stderr does not stop the server", func(t *testing.T) {
		out, stderr, _ := talk(t, p.command("raw", "stderr"), 1, ping)
		if len(out) != 1 || !strings.Contains(stderr, "noise noise") {
			t.Errorf("%q, %d bytes of stderr", out, len(stderr))
		}
	})
	t.Run("exit code", func(t *testing.T) {
		if _, _, code := talk(t, p.command("raw", "exit"), 1, ping); code != 7 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a crash answers what waits", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "crash"), 1, `{"jsonrpc":"2.0","id":5,"method":"ping"}`)
		if code != 7 || len(out) != 1 || !strings.Contains(out[0], `"id":5,"error"`) {
			t.Errorf("%q, exit code %d", out, code)
		}
	})
	t.Run("too large a message", func(t *testing.T) {
		out, stderr, code := talk(t, p.command("raw", "huge"), 1, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if code != 1 || len(out) != 1 || !strings.Contains(out[0], `"id":1,"error"`) || !strings.Contains(stderr, "16 MiB") {
			t.Errorf("%.300q, exit code %d, %q", out, code, stderr)
		}
	})
	t.Run("too large a message of the client", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "plain"), 1, `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"`+strings.Repeat("x", 17<<20)+`"}}`)
		if code != 1 || len(out) != 1 || !strings.Contains(out[0], `"id":null,"error"`) {
			t.Errorf("%.300q, exit code %d", out, code)
		}
	})
	t.Run("what is no message is refused", func(t *testing.T) {
		out, _, _ := talk(t, p.command("raw", "plain"), 3, `{"jsonrpc":"2.0","id":1,"method":"a","method":"ping"}`, `hello`, `[]`, `{"jsonrpc":"2.0","id":2,"Method":"ping"}`)
		if len(out) != 3 { // the last one looks like an answer, which nobody answers
			t.Fatalf("%q", out)
		}
		for _, l := range out {
			if !strings.Contains(l, `"error"`) {
				t.Errorf("%s", l)
			}
		}
	})
	t.Run("a server that will not end is ended", func(t *testing.T) {
		if _, _, code := talk(t, p.command("raw", "stubborn"), 1, ping); code != 128+9 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a client that hears nothing any more", func(t *testing.T) {
		cmd := p.command("raw", "stubborn")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Close()
		for err == nil {
			_, err = io.WriteString(in, ping+"\n")
			time.Sleep(10 * time.Millisecond)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 128+9 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("what the server left behind is ended", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pid")
		talk(t, p.command("raw", "orphan", file), 1, ping)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		fmt.Sscan(string(b), &pid)
		eventually(t, "it is gone", func() bool { return gone(pid) })
	})
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
