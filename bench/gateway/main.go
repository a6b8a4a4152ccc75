// Command gateway measures what Guardbook's gateway adds to a call: the same
// upstream called directly, through a bare httputil.ReverseProxy, and through
// guardbook in balanced and strict durability, all in one run on one machine, in
// turns. It prints a table; every process is real and separate.
//
//	go run ./bench/gateway --guardbook bin/guardbook
//
// With --litellm PROGRAM the LiteLLM proxy (pip install 'litellm[proxy]') is measured
// in the same turns, at the rates that it can take: with one worker, as it comes,
// without any of its guardrails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook/demo/standin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench/gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var (
		role      = flag.String("role", "bench", "bench, or what a child process is: upstream, proxy")
		listen    = flag.String("listen", "", "for a child: the address to listen on")
		upstream  = flag.String("upstream", "", "for the proxy child: where to forward to")
		guardbook = flag.String("guardbook", "bin/guardbook", "the binary under test")
		rounds    = flag.Int("rounds", 3, "rounds; each measures every target in turn")
		seconds   = flag.Int("seconds", 5, "seconds a measurement")
		rates     = flag.String("rates", "100,1000", "requests a second, open loop")
		litellm   = flag.String("litellm", "", "the litellm program, to be measured beside guardbook")
		keep      = flag.String("keep", "", "keep the servers' data and CPU profiles in this directory")
	)
	flag.Parse()
	switch *role {
	case "upstream":
		return serve(ctx, *listen, standin.New(map[string]standin.Script{"bench": answer}))
	case "proxy":
		to, err := url.Parse(*upstream)
		if err != nil {
			return err
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 512
		return serve(ctx, *listen, &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	}
	b := &bench{seconds: *seconds, rounds: *rounds}
	for r := range strings.SplitSeq(*rates, ",") {
		var n int
		if _, err := fmt.Sscan(r, &n); err != nil {
			return fmt.Errorf("--rates: %w", err)
		}
		b.rates = append(b.rates, n)
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
	stopAll, err := b.start(ctx, *guardbook, *litellm, dir)
	defer stopAll()
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d CPUs, %s; load generator, upstream and gateway on this machine\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
	fmt.Printf("prompts of 2 kB, each different; answers of %d bytes; one sync of this disk: %s\n", len(answerText), b.syncs(dir))
	return b.measure(ctx)
}

const answerText = "The quarterly figures are in line with what was planned; the northern region is ahead by two points, the southern one behind by one, " +
	"and the full table is in the shared folder under reports."

func answer(int, string) standin.Turn { return standin.Turn{Text: answerText} }

// serve runs an HTTP server until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// target is one way to the upstream.
type target struct {
	name string
	url  string // up to and including /openai
	key  string
	most int // requests a second that it is asked for at most; 0: any
}

type bench struct {
	seconds, rounds int
	rates           []int
	targets         []target
}

// start starts every process and waits until each answers.
func (b *bench) start(ctx context.Context, guardbook, litellm, dir string) (stop func(), err error) {
	var procs []*exec.Cmd
	stop = func() {
		for _, p := range slices.Backward(procs) {
			_ = p.Process.Signal(os.Interrupt)
			_ = p.Wait()
		}
	}
	self, err := os.Executable()
	if err != nil {
		return stop, err
	}
	child := func(ready string, name string, args ...string) error {
		cmd := exec.Command(name, args...)
		cmd.Stderr = os.Stderr
		cmd.Env = append(os.Environ(), "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_LOG=ERROR") // it would ask the net for prices
		if err := cmd.Start(); err != nil {
			return err
		}
		procs = append(procs, cmd)
		return waitFor(ctx, ready)
	}
	up, err := freeAddr()
	if err != nil {
		return stop, err
	}
	upURL := "http://" + up
	if err := child(upURL+"/openai/v1/models", self, "--role", "upstream", "--listen", up); err != nil {
		return stop, fmt.Errorf("start upstream: %w", err)
	}
	b.targets = append(b.targets, target{name: "direct", url: upURL + "/openai"})
	px, err := freeAddr()
	if err != nil {
		return stop, err
	}
	if err := child("http://"+px+"/openai/v1/models", self, "--role", "proxy", "--listen", px, "--upstream", upURL); err != nil {
		return stop, fmt.Errorf("start proxy: %w", err)
	}
	b.targets = append(b.targets, target{name: "bare proxy", url: "http://" + px + "/openai"})
	for _, durability := range []string{"balanced", "strict"} {
		addr, err := freeAddr()
		if err != nil {
			return stop, err
		}
		data := filepath.Join(dir, durability)
		if err := child("http://"+addr+"/readyz", guardbook, "serve", "--data", data, "--listen", addr,
			"--durability", durability, "--openai-upstream", upURL+"/openai", "--cpu-profile", data+".pprof"); err != nil {
			return stop, fmt.Errorf("start guardbook: %w", err)
		}
		out, err := exec.Command(guardbook, "agents", "create", "bench", "--json", "--data", data, "--url", "http://"+addr).Output()
		if err != nil {
			return stop, fmt.Errorf("create agent: %w", err)
		}
		_, key, _ := strings.Cut(string(out), `"key":"`)
		key, _, _ = strings.Cut(key, `"`)
		b.targets = append(b.targets, target{name: "guardbook " + durability, url: "http://" + addr + "/openai", key: key})
	}
	if litellm == "" {
		return stop, nil
	}
	addr, err := freeAddr()
	if err != nil {
		return stop, err
	}
	config := filepath.Join(dir, "litellm.yaml")
	text := "model_list:\n  - model_name: guardbook-stand-in/bench\n    litellm_params: {model: openai/guardbook-stand-in/bench, api_base: " + upURL + "/openai/v1, api_key: sk-upstream}\ngeneral_settings: {master_key: sk-upstream}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return stop, err
	}
	_, port, _ := net.SplitHostPort(addr)
	if err := child("http://"+addr+"/health/readiness", litellm, "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1", "--telemetry", "False"); err != nil {
		return stop, fmt.Errorf("start litellm: %w", err)
	}
	b.targets = append(b.targets, target{name: "litellm proxy", url: "http://" + addr, most: 100})
	return stop, nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func waitFor(ctx context.Context, url string) error {
	deadline := time.Now().Add(90 * time.Second)
	for {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not answer within 90 s", url)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// syncs measures a 4 KiB append with fsync on the disk that the books are on.
func (b *bench) syncs(dir string) string {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	block := make([]byte, 4096)
	var times []time.Duration
	for range 200 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return err.Error()
		}
		if err := f.Sync(); err != nil {
			return err.Error()
		}
		times = append(times, time.Since(start))
	}
	s := summarise(times)
	return fmt.Sprintf("p50 %s, p99 %s", ms(s.p50), ms(s.p99))
}
