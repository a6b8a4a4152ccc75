// Command soak measures what Guardbook's server holds on to. First it opens many
// streams at once and prints the memory that each takes, beside a bare
// httputil.ReverseProxy in the same run; then it keeps a mixed load up for minutes
// and prints memory, goroutines and descriptors as they go: none may grow with time.
//
//	go run ./bench/soak --guardbook bin/guardbook --streams 1000 --minutes 10
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"io"
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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook/demo/standin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench/soak:", err)
		os.Exit(1)
	}
}

const text = "The quarterly figures are in line with what was planned; the northern region is ahead by two points. "

func run(ctx context.Context) error {
	role := flag.String("role", "bench", "bench, or what a child process is: upstream, proxy")
	listen := flag.String("listen", "", "for a child: the address to listen on")
	upstream := flag.String("upstream", "", "for the proxy child: where to forward to")
	guardbook := flag.String("guardbook", "bin/guardbook", "the binary under test")
	streams := flag.Int("streams", 1000, "streams that are open at once")
	minutes := flag.Float64("minutes", 10, "minutes of mixed load")
	rate := flag.Int("rate", 100, "requests a second of the mixed load")
	flag.Parse()
	switch *role {
	case "upstream":
		return serve(ctx, *listen, standin.New(map[string]standin.Script{
			"quick": func(int, string) standin.Turn { return standin.Turn{Text: text} },
			"slow":  func(int, string) standin.Turn { return standin.Turn{Text: text, Pace: time.Second, Repeat: 100} },
			"calls": func(int, string) standin.Turn {
				return standin.Turn{Calls: []standin.Call{{Name: "read_report", Arguments: `{"name":"q3"}`}}}
			},
		}))
	case "proxy":
		to, err := url.Parse(*upstream)
		if err != nil {
			return err
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 2048
		return serve(ctx, *listen, &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	}
	dir, err := os.MkdirTemp("", "guardbook-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{}
	defer b.stop()
	if err := b.start(ctx, *guardbook, dir); err != nil {
		return err
	}
	fmt.Printf("%s, %d CPUs, %s; load generator, upstream and server on this machine\n\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
	if err := b.openStreams(ctx, *streams); err != nil {
		return err
	}
	return b.soak(ctx, time.Duration(*minutes*float64(time.Minute)), *rate)
}

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

// target is a server under test.
type target struct {
	name, url, key string
	pid            int
}

type bench struct {
	procs   []*exec.Cmd
	targets []target
	admin   string // token of the guardbook server
}

func (b *bench) stop() {
	for _, p := range slices.Backward(b.procs) {
		_ = p.Process.Signal(os.Interrupt)
		_ = p.Wait()
	}
}

func (b *bench) child(ctx context.Context, ready, name string, args ...string) (int, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	b.procs = append(b.procs, cmd)
	deadline := time.Now().Add(30 * time.Second)
	for {
		if resp, err := http.Get(ready); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return cmd.Process.Pid, nil
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return 0, fmt.Errorf("%s did not answer within 30 s", ready)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *bench) start(ctx context.Context, guardbook, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var addrs [3]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs[i] = l.Addr().String()
		_ = l.Close()
	}
	up := "http://" + addrs[0]
	if _, err := b.child(ctx, up+"/openai/v1/models", self, "--role", "upstream", "--listen", addrs[0]); err != nil {
		return fmt.Errorf("start upstream: %w", err)
	}
	pid, err := b.child(ctx, "http://"+addrs[1]+"/openai/v1/models", self, "--role", "proxy", "--listen", addrs[1], "--upstream", up)
	if err != nil {
		return fmt.Errorf("start proxy: %w", err)
	}
	b.targets = append(b.targets, target{"bare proxy", "http://" + addrs[1] + "/openai", "", pid})
	data := filepath.Join(dir, "data")
	pid, err = b.child(ctx, "http://"+addrs[2]+"/readyz", guardbook, "serve", "--data", data, "--listen", addrs[2], "--openai-upstream", up+"/openai")
	if err != nil {
		return fmt.Errorf("start guardbook: %w", err)
	}
	out, err := exec.Command(guardbook, "agents", "create", "bench", "--json", "--data", data, "--url", "http://"+addrs[2]).Output()
	if err != nil {
		return fmt.Errorf("create agent: %w", err)
	}
	var made struct{ Agent, Key string }
	if err := json.Unmarshal(out, &made, json.MatchCaseInsensitiveNames(true)); err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err != nil {
		return err
	}
	b.admin = strings.TrimSpace(string(token))
	b.targets = append(b.targets, target{"guardbook strict", "http://" + addrs[2] + "/openai", made.Key, pid})
	return nil
}

// openStreams opens streams to each target and prints what they take.
func (b *bench) openStreams(ctx context.Context, n int) error {
	time.Sleep(4 * time.Second) // a server that has just started still compiles its SQL parser
	fmt.Printf("%-18s %8s %14s %14s %16s\n", "open streams", "n", "before MiB", "with MiB", "KiB a stream")
	per := map[string]float64{}
	for _, t := range b.targets {
		if err := b.once(ctx, t, "quick", true); err != nil {
			return err
		}
		before := rss(t.pid)
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n, DisableCompression: true}}
		open, cancel := context.WithCancel(ctx)
		var begun atomic.Int64
		var wg sync.WaitGroup
		var failed atomic.Pointer[error]
		for range n {
			wg.Go(func() {
				resp, err := t.post(open, client, "slow", true)
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				defer resp.Body.Close()
				rd, first := bufio.NewReader(resp.Body), true
				for {
					line, err := rd.ReadString('\n')
					if err != nil {
						return
					}
					if first && strings.Contains(line, `"content":"The`) {
						first = false
						begun.Add(1)
					}
				}
			})
		}
		for begun.Load() < int64(n) && failed.Load() == nil && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second) // streams run; a collection or two has passed
		with := rss(t.pid)
		cancel()
		wg.Wait()
		client.CloseIdleConnections()
		if err := failed.Load(); err != nil {
			return fmt.Errorf("%s: %w", t.name, *err)
		}
		per[t.name] = float64(with-before) / float64(n)
		fmt.Printf("%-18s %8d %14.1f %14.1f %16.1f\n", t.name, n, float64(before)/1024, float64(with)/1024, per[t.name])
	}
	fmt.Printf("ratio to the bare proxy: %.2f\n\n", per[b.targets[1].name]/per[b.targets[0].name])
	return nil
}

// soak keeps a mixed load up and samples the server.
func (b *bench) soak(ctx context.Context, d time.Duration, rate int) error {
	t := b.targets[1]
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}, Timeout: 30 * time.Second}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var sent, bad atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 512)
	wg.Go(func() {
		kinds := []func() error{
			func() error { return b.read(ctx, t, client, "quick", false) },
			func() error { return b.read(ctx, t, client, "quick", true) },
			func() error { return b.read(ctx, t, client, "calls", true) },
			func() error { return b.inspect(ctx, t, client) },
			func() error { return b.gone(ctx, t, client) },
		}
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				sent.Add(1)
				if err := kinds[i%len(kinds)](); err != nil && ctx.Err() == nil {
					bad.Add(1)
				}
			})
		}
	})
	fmt.Printf("%8s %10s %8s %10s %12s %12s %12s\n", "minute", "requests", "failed", "rss MiB", "heap MiB", "goroutines", "descriptors")
	every := max(d/20, time.Second)
	var samples []sample
	for start := time.Now(); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-time.After(every):
			s := sample{time.Since(start), rss(t.pid), b.metric("go_memstats_heap_inuse_bytes") / 1024, b.metric("go_goroutines"), descriptors(t.pid)}
			samples = append(samples, s)
			fmt.Printf("%8.1f %10d %8d %10.1f %12.1f %12.0f %12d\n", s.at.Minutes(), sent.Load(), bad.Load(), float64(s.rss)/1024, s.heap/1024, s.goroutines, s.fds)
		}
	}
	wg.Wait()
	if len(samples) < 8 {
		return nil
	}
	h := len(samples) / 2
	fmt.Printf("\nsecond half against first half (median): rss %+.1f %%, heap %+.1f %%, goroutines %+.1f %%, descriptors %+.1f %%\n",
		growth(samples, h, func(s sample) float64 { return float64(s.rss) }), growth(samples, h, func(s sample) float64 { return s.heap }),
		growth(samples, h, func(s sample) float64 { return s.goroutines }), growth(samples, h, func(s sample) float64 { return float64(s.fds) }))
	return nil
}

type sample struct {
	at         time.Duration
	rss        int64 // KiB
	heap       float64
	goroutines float64
	fds        int
}

func growth(samples []sample, half int, of func(sample) float64) float64 {
	median := func(part []sample) float64 {
		var v []float64
		for _, s := range part {
			v = append(v, of(s))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	first, second := median(samples[:half]), median(samples[half:])
	if first == 0 {
		return 0
	}
	return 100 * (second/first - 1)
}

func (t target) post(ctx context.Context, client *http.Client, script string, stream bool) (*http.Response, error) {
	body, err := json.Marshal(map[string]any{"model": "guardbook-stand-in/" + script, "stream": stream, "messages": []map[string]string{
		{"role": "system", "content": "You answer questions about reports."}, {"role": "user", "content": "Question " + strconv.FormatInt(time.Now().UnixNano(), 36) + ": how did the third quarter go?"}}})
	if err != nil {
		return nil, err
	}
	return t.send(ctx, client, t.url+"/v1/chat/completions", body)
}

func (t target) send(ctx context.Context, client *http.Client, url string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-upstream")
	if t.key != "" {
		req.Header.Set("X-Guardbook-Key", t.key)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return resp, nil
}

func (b *bench) once(ctx context.Context, t target, script string, stream bool) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	return b.read(ctx, t, client, script, stream)
}

func (b *bench) read(ctx context.Context, t target, client *http.Client, script string, stream bool) error {
	resp, err := t.post(ctx, client, script, stream)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// inspect asks for one decision.
func (b *bench) inspect(ctx context.Context, t target, client *http.Client) error {
	body := []byte(`{"kind":"tool_call","session":"s-` + strconv.FormatInt(time.Now().UnixNano(), 36) + `","tool":{"name":"read_report","arguments":{"name":"q3"}}}`)
	resp, err := t.send(ctx, client, strings.TrimSuffix(t.url, "/openai")+"/v1/inspect", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// gone is a client that goes away in the middle of a stream.
func (b *bench) gone(ctx context.Context, t target, client *http.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := t.post(ctx, client, "slow", true)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = bufio.NewReader(resp.Body).ReadString('\n')
	return err
}

// metric reads one value of the server's /metrics.
func (b *bench) metric(name string) float64 {
	req, err := http.NewRequest(http.MethodGet, strings.TrimSuffix(b.targets[1].url, "/openai")+"/metrics", nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+b.admin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			f, _ := strconv.ParseFloat(v, 64) // 0 shows that it cannot be read
			return f
		}
	}
	return 0
}

// rss is a process's resident memory in KiB (Linux).
func rss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64) // 0 shows that it cannot be read
	return n
}

// descriptors is how many files and sockets a process has open (Linux).
func descriptors(pid int) int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(list)
}
