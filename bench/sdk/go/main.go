// Command go measures what the Go SDK costs and what it loses (nothing): decisions
// over loopback and within the program, model calls through the guard against direct
// ones, and 10,000 interactions with the server killed and started again in the
// middle.
//
//	go run ./bench/sdk/go --guardbook bin/guardbook
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/client/embedded"
)

const policy = `
policy: bench
version: 1
owner: bench@example.com
agents: ["*"]
mode: enforce
tools:
  - name: query_database
    allow: {query: {type: string, max_length: 200}}
findings:
  - {class: prompt_injection, channels: [input, tool_result], threshold: 0.8, action: block, severity: critical}
  - {class: secret, channels: [input, output, tool_call], action: redact, severity: high}
`

// model is a stand-in's whose name brings its only answer along.
var model = "guardbook-stand-in/plan:" + base64.RawURLEncoding.EncodeToString([]byte(`[{"text":"It went as was planned."}]`))

func main() {
	binary := flag.String("guardbook", "bin/guardbook", "the binary under test")
	n := flag.Int("n", 2000, "decisions and model calls a measurement")
	lost := flag.Int("lost", 10_000, "interactions while the server is killed and started again")
	flag.Parse()
	if err := run(*binary, *n, *lost); err != nil {
		fmt.Fprintln(os.Stderr, "bench/sdk/go:", err)
		os.Exit(1)
	}
}

func run(binary string, n, lost int) error {
	dir, err := os.MkdirTemp("", "guardbook-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	up, err := freeAddr()
	if err != nil {
		return err
	}
	standIn := exec.Command(binary, "demo", "--serve-stand-in", up)
	if err := standIn.Start(); err != nil {
		return err
	}
	defer stop(standIn)
	fmt.Printf("%s, %d CPUs, %s\n\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
	fmt.Printf("%-44s %10s %10s\n", "one at a time", "p50 ms", "p99 ms")
	for _, durability := range []string{"balanced", "strict"} {
		s := &server{binary: binary, data: filepath.Join(dir, durability), durability: durability, upstream: "http://" + up}
		if err := s.create(); err != nil {
			return err
		}
		err := s.measure(n)
		stop(s.cmd)
		if err != nil {
			return err
		}
	}
	if err := within(filepath.Join(dir, "embedded"), n); err != nil {
		return err
	}
	s := &server{binary: binary, data: filepath.Join(dir, "killed"), durability: "strict", upstream: "http://" + up}
	if err := s.create(); err != nil {
		return err
	}
	defer func() { stop(s.cmd) }()
	return s.killed(lost)
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

type server struct {
	binary, data, durability, upstream string
	addr, key                          string
	cmd                                *exec.Cmd
}

// create starts a server on a new data directory and makes its agent.
func (s *server) create() error {
	if err := os.MkdirAll(filepath.Join(s.data, "policies"), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.data, "policies", "bench.yaml"), []byte(policy), 0o600); err != nil {
		return err
	}
	var err error
	if s.addr, err = freeAddr(); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	out, err := exec.Command(s.binary, "agents", "create", "bench", "--json", "--data", s.data, "--url", "http://"+s.addr).Output()
	if err != nil {
		return err
	}
	var made struct{ Key string }
	err = json.Unmarshal(out, &made, json.MatchCaseInsensitiveNames(true))
	s.key = made.Key
	return err
}

func (s *server) start() error {
	s.cmd = exec.Command(s.binary, "serve", "--data", s.data, "--listen", s.addr, "--durability", s.durability,
		"--client-upstreams", "any", "--openai-upstream", s.upstream+"/openai")
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 600 {
		if resp, err := http.Get("http://" + s.addr + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the server did not become ready")
}

func (s *server) guard() (*client.Guard, error) {
	return client.New(client.Options{Agent: "bench", URL: "http://" + s.addr, Key: s.key, Data: s.data, Log: slog.New(slog.DiscardHandler)})
}

func (s *server) measure(n int) error {
	g, err := s.guard()
	if err != nil {
		return err
	}
	defer g.Close()
	if err := decisions(g, s.durability, n); err != nil {
		return err
	}
	direct := chat(s.upstream)
	guarded := chat(s.upstream, option.WithMiddleware(g.Middleware()))
	var times [2][]time.Duration
	for range n / 4 { // in turns
		for i, c := range []openai.Client{direct, guarded} {
			start := time.Now()
			if _, err := c.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{
				Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(fmt.Sprintf("How did quarter %d go?", start.UnixNano()))},
			}); err != nil {
				return fmt.Errorf("model call: %w", err)
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	a, b := summarise(times[0]), summarise(times[1])
	row("model call, direct", a)
	row("model call, guarded, "+s.durability, b)
	fmt.Printf("%-44s %10.3f %10.3f\n", "  added", b[0]-a[0], b[1]-a[1])
	return nil
}

func chat(upstream string, more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(upstream + "/openai/v1"), option.WithAPIKey("sk"), option.WithMaxRetries(0)}, more...)...)
}

func decisions(g *client.Guard, what string, n int) error {
	var times []time.Duration
	for i := range n {
		start := time.Now()
		_, err := g.ToolCall(context.Background(), guardbook.Tool{Name: "query_database", Arguments: jsontext.Value(fmt.Sprintf(`{"query":"SELECT name FROM products WHERE id = %d"}`, i))})
		if err != nil {
			return err
		}
		times = append(times, time.Since(start))
	}
	row("decision on a tool call, "+what, summarise(times))
	return nil
}

// within measures the guard within the program.
func within(data string, n int) error {
	policies := filepath.Join(data, "own-policies")
	if err := os.MkdirAll(policies, 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(policies, "bench.yaml"), []byte(policy), 0o600); err != nil {
		return err
	}
	g, err := embedded.Open(context.Background(), embedded.Options{Agent: "bench", Data: data, Policies: policies, Durability: "balanced", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer g.Close()
	return decisions(g.Guard, "embedded, balanced", n)
}

func summarise(d []time.Duration) [2]float64 {
	slices.Sort(d)
	at := func(p float64) float64 {
		return float64(d[min(len(d)-1, int(p*float64(len(d))))].Microseconds()) / 1000
	}
	return [2]float64{at(.50), at(.99)}
}

func row(name string, s [2]float64) { fmt.Printf("%-44s %10.3f %10.3f\n", name, s[0], s[1]) }

// killed counts what is lost when the server is killed and started again.
func (s *server) killed(n int) error {
	g, err := s.guard()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				_, _ = g.Input(context.Background(), fmt.Sprintf("What do I owe for month %d?", i)) // with or without a decision: it must be in the book
			}
		})
	}
	for i := range n {
		if i == n/2 {
			if err := s.cmd.Process.Kill(); err != nil {
				return err
			}
			_ = s.cmd.Wait()
			if err := s.start(); err != nil {
				return err
			}
		}
		work <- i
	}
	close(work)
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := g.Flush(ctx); err != nil {
		return err
	}
	if err := g.Close(); err != nil {
		return err
	}
	out, err := exec.Command(s.binary, "book", "cat", "--data", s.data).Output()
	if err != nil {
		return fmt.Errorf("read the book: %w", err)
	}
	decided, told, seen := 0, map[string]int{}, map[int64]bool{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var e struct {
			Type, Client, Event string
			ClientSeq           int64 `json:"client_seq"`
		}
		if err := json.Unmarshal(sc.Bytes(), &e, json.MatchCaseInsensitiveNames(true)); err != nil {
			return err
		}
		if e.Client != g.Client() || e.ClientSeq == 0 {
			continue
		}
		seen[e.ClientSeq] = true
		if e.Type == "decision" {
			decided++
		} else {
			told[e.Event]++
		}
	}
	missing := 0
	for i := int64(1); i <= int64(n); i++ {
		if !seen[i] {
			missing++
		}
	}
	fmt.Printf("\n%d interactions, server killed (SIGKILL) and started again in the middle: %d decided, told afterwards %v, lost %d\n", n, decided, told, missing)
	return nil
}
