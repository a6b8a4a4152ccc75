// Command mcp measures what Guardbook adds to a call of an MCP tool: the same server
// called directly and through guardbook, over standard streams (guardbook mcp wrap)
// and over streamable HTTP (/mcp/SERVER), in balanced and strict durability, all in
// one run on one machine, in turns. Client and server are the Go SDK's; every process
// is real and separate.
//
//	go run ./bench/mcp --guardbook bin/guardbook
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const policy = `
policy: bench
version: 1
owner: bench@example.com
agents: ["bench"]
mode: enforce
tools:
  - {name: echo, allow: {text: {type: string}}}
findings:
  - {class: prompt_injection, channels: [tool_result, tool_definition], threshold: 0.8, action: block, severity: critical}
  - {class: secret, channels: [tool_call, tool_result], action: redact, severity: high}
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench/mcp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var (
		role      = flag.String("role", "bench", "bench, or what a child process is: stdio, http")
		listen    = flag.String("listen", "", "for the http child: the address to listen on")
		guardbook = flag.String("guardbook", "bin/guardbook", "the binary under test")
		rounds    = flag.Int("rounds", 5, "rounds; each measures every target in turn")
		calls     = flag.Int("calls", 400, "calls of a round, one after another")
		keep      = flag.String("keep", "", "keep the servers' data in this directory")
	)
	flag.Parse()
	switch *role {
	case "stdio":
		return desk().Run(ctx, &mcp.StdioTransport{})
	case "http":
		srv := &http.Server{Addr: *listen, ReadHeaderTimeout: 10 * time.Second,
			Handler: mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return desk() }, nil)}
		go func() {
			<-ctx.Done()
			_ = srv.Close()
		}()
		if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
	dir := *keep
	if dir == "" {
		tmp, err := os.MkdirTemp("", "guardbook-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	binary, err := filepath.Abs(*guardbook)
	if err != nil {
		return err
	}
	b := &bench{guardbook: binary, dir: dir}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	fmt.Printf("%s, %d CPUs, %s; client, server and guardbook on this machine; one sync of this disk: %s\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), b.syncs())
	return b.measure(ctx, *rounds, *calls)
}

// desk is the server that is called.
func desk() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	type said struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "Says it again."}, func(_ context.Context, _ *mcp.CallToolRequest, in said) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	return s
}

// target is one way to the desk.
type target struct {
	name    string
	direct  int // index of the target that it is compared with
	session *mcp.ClientSession
	times   []time.Duration
	busy    float64
}

type bench struct {
	guardbook, dir string
	targets        []*target
	procs          []*exec.Cmd
}

func (b *bench) stop() {
	for _, t := range b.targets {
		_ = t.session.Close() // the end of the measurement
	}
	for _, p := range slices.Backward(b.procs) {
		_ = p.Process.Signal(os.Interrupt)
		_ = p.Wait()
	}
}

// start starts every process and connects to each.
func (b *bench) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	if err := b.child(ctx, "http://"+addr+"/", self, "--role", "http", "--listen", addr); err != nil {
		return fmt.Errorf("start the MCP server: %w", err)
	}
	stdio := func(name string, direct int, env []string, command ...string) error {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
		return b.connect(ctx, name, direct, &mcp.CommandTransport{Command: cmd})
	}
	over := func(name string, direct int, url, key string) error {
		return b.connect(ctx, name, direct, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: keyed(key)}})
	}
	if err := stdio("stdio direct", 0, nil, self, "--role", "stdio"); err != nil {
		return err
	}
	if err := over("HTTP direct", 1, "http://"+addr+"/", ""); err != nil {
		return err
	}
	for _, durability := range []string{"balanced", "strict"} {
		url, key, err := b.serve(ctx, durability, addr)
		if err != nil {
			return err
		}
		if err := stdio("stdio, "+durability, 0, []string{"GUARDBOOK_URL=" + url, "GUARDBOOK_KEY=" + key},
			b.guardbook, "mcp", "wrap", "--server", "bench", "--", self, "--role", "stdio"); err != nil {
			return err
		}
		if err := over("HTTP, "+durability, 1, url+"/mcp/bench", key); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) connect(ctx context.Context, name string, direct int, t mcp.Transport) error {
	s, err := mcp.NewClient(&mcp.Implementation{Name: "bench", Version: "1"}, nil).Connect(ctx, t, nil)
	if err != nil {
		return fmt.Errorf("connect, %s: %w", name, err)
	}
	b.targets = append(b.targets, &target{name: name, direct: direct, session: s})
	return nil
}

// serve starts a Guardbook and returns its address and an agent's key.
func (b *bench) serve(ctx context.Context, durability, desk string) (url, key string, err error) {
	addr, err := freeAddr()
	if err != nil {
		return "", "", err
	}
	data := filepath.Join(b.dir, durability)
	config := filepath.Join(b.dir, durability+".yaml")
	if err := errors.Join(os.MkdirAll(filepath.Join(data, "policies"), 0o700),
		os.WriteFile(filepath.Join(data, "policies", "bench.yaml"), []byte(policy), 0o600),
		os.WriteFile(config, []byte("mcp_servers: {bench: {url: \"http://"+desk+"/\"}}\n"), 0o600)); err != nil {
		return "", "", err
	}
	url = "http://" + addr
	if err := b.child(ctx, url+"/readyz", b.guardbook, "serve", "--data", data, "--listen", addr, "--durability", durability, "--config", config); err != nil {
		return "", "", fmt.Errorf("start guardbook: %w", err)
	}
	out, err := exec.Command(b.guardbook, "agents", "create", "bench", "--json", "--data", data, "--url", url).Output()
	if err != nil {
		return "", "", fmt.Errorf("create agent: %w", err)
	}
	_, key, _ = strings.Cut(string(out), `"key":"`)
	key, _, _ = strings.Cut(key, `"`)
	return url, key, nil
}

func (b *bench) child(ctx context.Context, ready, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	b.procs = append(b.procs, cmd)
	for range 1800 {
		resp, err := http.Get(ready)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 500 && resp.StatusCode != http.StatusNotFound {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s did not answer within 90 s", ready)
}

// measure calls every target in turns and prints the table.
func (b *bench) measure(ctx context.Context, rounds, calls int) error {
	for _, t := range b.targets {
		if _, err := t.calls(ctx, calls/4); err != nil {
			return err
		}
	}
	for range rounds {
		for _, t := range b.targets {
			times, err := t.calls(ctx, calls)
			if err != nil {
				return err
			}
			t.times = append(t.times, times...)
		}
	}
	for range rounds {
		for _, t := range b.targets {
			rate, err := t.atOnce(ctx, calls)
			if err != nil {
				return err
			}
			t.busy = max(t.busy, rate)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\none call after another, 500 bytes each way\tn\tp50\tp99\tadded p50\tadded p99\tof direct p50\t16 at once, calls/s\tof direct\t")
	for _, t := range b.targets {
		d := b.targets[t.direct]
		p50, p99 := at(t.times, .50), at(t.times, .99)
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%.1f\t%.0f\t%.2f\t\n", t.name, len(t.times), ms(p50), ms(p99), ms(p50-at(d.times, .50)), ms(p99-at(d.times, .99)),
			float64(p50)/float64(at(d.times, .50)), t.busy, t.busy/d.busy)
	}
	return w.Flush()
}

// calls makes calls one after another.
func (t *target) calls(ctx context.Context, n int) ([]time.Duration, error) {
	times := make([]time.Duration, n)
	for i := range times {
		text := words()
		start := time.Now()
		if err := t.call(ctx, text); err != nil {
			return nil, err
		}
		times[i] = time.Since(start)
	}
	return times, nil
}

// atOnce makes calls sixteen at a time and returns how many there were a second.
func (t *target) atOnce(ctx context.Context, n int) (float64, error) {
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	start := time.Now()
	for range 16 {
		wg.Go(func() {
			for range n / 4 {
				if err := t.call(ctx, words()); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return float64(16*(n/4)) / time.Since(start).Seconds(), <-errs
}

func (t *target) call(ctx context.Context, text string) error {
	r, err := t.session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": text}})
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	if c, ok := r.Content[0].(*mcp.TextContent); !ok || r.IsError || c.Text != text {
		return fmt.Errorf("%s: the answer is not the server's: %v", t.name, r.Content[0])
	}
	return nil
}

// keyed adds an agent's key to each request, if there is one.
type keyed string

// RoundTrip implements http.RoundTripper.
func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if k != "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Guardbook-Key", string(k))
	}
	return http.DefaultTransport.RoundTrip(r)
}

var vocabulary = strings.Fields(`report region figure quarter planning delivery customer invoice meeting agenda summary table shared folder northern
southern budget forecast margin supplier contract schedule review draft version comment approve release window maintenance notice office travel`)

// words is a text of about 500 bytes that no other call has.
func words() string {
	var b strings.Builder
	for b.Len() < 500 {
		b.WriteString(vocabulary[rand.IntN(len(vocabulary))])
		b.WriteByte(' ')
	}
	return b.String()
}

func at(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)-1, int(p*float64(len(d))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// syncs measures a 4 KiB append with fsync on the disk that the books are on.
func (b *bench) syncs() string {
	f, err := os.Create(filepath.Join(b.dir, "sync"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var times []time.Duration
	for range 200 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return err.Error()
		}
		if err := f.Sync(); err != nil {
			return err.Error()
		}
		times = append(times, time.Since(start))
	}
	return fmt.Sprintf("p50 %s, p99 %s", ms(at(times, .50)), ms(at(times, .99)))
}
