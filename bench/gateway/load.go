package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// summary is a distribution of latencies.
type summary struct {
	n             int
	p50, p90, p99 time.Duration
}

func summarise(d []time.Duration) summary {
	if len(d) == 0 {
		return summary{}
	}
	slices.Sort(d)
	at := func(p float64) time.Duration { return d[min(len(d)-1, int(p*float64(len(d))))] }
	return summary{len(d), at(.50), at(.90), at(.99)}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

// measure runs every measurement and prints the tables.
func (b *bench) measure(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}, Timeout: 30 * time.Second}
	time.Sleep(5 * time.Second)   // servers that have just started still compile their SQL parser
	for _, t := range b.targets { // warm connections and caches
		if _, _, err := b.closed(ctx, client, t, 16, time.Second); err != nil {
			return fmt.Errorf("warm up %s: %w", t.name, err)
		}
	}
	for _, rate := range b.rates {
		got := make([][]time.Duration, len(b.targets))
		failed := make([]int64, len(b.targets))
		for range b.rounds {
			for i, t := range b.targets {
				if t.most > 0 && rate > t.most {
					continue
				}
				d, _, bad := b.open(ctx, client, t, rate, false)
				got[i], failed[i] = append(got[i], d...), failed[i]+bad
			}
		}
		b.print(fmt.Sprintf("not streamed, %d requests/s, open loop, latency from the planned start", rate), got, failed)
	}
	for _, rate := range []int{20, 100} {
		first, last := make([][]time.Duration, len(b.targets)), make([][]time.Duration, len(b.targets))
		failed := make([]int64, len(b.targets))
		for range b.rounds {
			for i, t := range b.targets {
				f, l, bad := b.open(ctx, client, t, rate, true)
				first[i], last[i], failed[i] = append(first[i], f...), append(last[i], l...), failed[i]+bad
			}
		}
		b.print(fmt.Sprintf("streamed, %d requests/s, time to the first token", rate), first, failed)
		b.print(fmt.Sprintf("streamed, %d requests/s, time to the last token", rate), last, failed)
	}

	best := make([]float64, len(b.targets))
	for range b.rounds {
		for i, t := range b.targets {
			rps, _, err := b.closed(ctx, client, t, 64, time.Duration(b.seconds)*time.Second)
			if err != nil {
				return fmt.Errorf("closed loop, %s: %w", t.name, err)
			}
			best[i] = max(best[i], rps)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nclosed loop, 64 connections\trequests/s\tof bare proxy\t\n")
	for i, t := range b.targets {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t\n", t.name, best[i], best[i]/best[1])
	}
	return w.Flush()
}

func (b *bench) print(title string, got [][]time.Duration, failed []int64) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%s\tn\tfailed\tp50\tp90\tp99\tadded to bare proxy p50\tp99\t\n", title)
	bare := summarise(got[1])
	for i, t := range b.targets {
		if len(got[i]) == 0 && failed[i] == 0 {
			continue // not asked at this rate
		}
		s := summarise(got[i])
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t\n", t.name, s.n, failed[i], ms(s.p50), ms(s.p90), ms(s.p99), ms(s.p50-bare.p50), ms(s.p99-bare.p99))
	}
	_ = w.Flush()
}

// open sends requests at a fixed rate, whether or not earlier ones have been
// answered, and measures each from the moment that it was due.
func (b *bench) open(ctx context.Context, client *http.Client, t target, rate int, stream bool) (first, last []time.Duration, bad int64) {
	n := rate * b.seconds
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = request(stream)
	}
	first, last = make([]time.Duration, n), make([]time.Duration, n)
	var failed atomic.Int64
	var wg sync.WaitGroup
	start := time.Now().Add(10 * time.Millisecond)
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			if err := t.send(ctx, client, bodies[i], stream, func() { first[i] = time.Since(due) }); err != nil {
				failed.Add(1)
				first[i] = 0
				return
			}
			last[i] = time.Since(due)
			if !stream {
				first[i] = last[i]
			}
		})
	}
	wg.Wait()
	none := func(d time.Duration) bool { return d == 0 }
	return slices.DeleteFunc(first, none), slices.DeleteFunc(last, none), failed.Load()
}

// closed keeps a number of connections busy and returns answers a second.
func (b *bench) closed(ctx context.Context, client *http.Client, t target, conns int, d time.Duration) (float64, int64, error) {
	bodies := make([][]byte, 4096)
	for i := range bodies {
		bodies[i] = request(false)
	}
	var done, next atomic.Int64
	var firstErr atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for range conns {
		wg.Go(func() {
			for time.Since(start) < d && firstErr.Load() == nil {
				i := next.Add(1)
				body := bytes.Replace(bodies[i%int64(len(bodies))], []byte("NUMBER"), fmt.Appendf(nil, "%06d", i), 1)
				if err := t.send(ctx, client, body, false, nil); err != nil {
					firstErr.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := firstErr.Load(); err != nil {
		return 0, 0, *err
	}
	return float64(done.Load()) / time.Since(start).Seconds(), done.Load(), nil
}

// send sends one request and reads its answer; streamed, it calls first at the first
// token.
func (t target) send(ctx context.Context, client *http.Client, body []byte, stream bool, first func()) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-upstream")
	if t.key != "" {
		req.Header.Set("X-Guardbook-Key", t.key)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	defer resp.Body.Close()
	if stream {
		return tokens(resp.Body, first)
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(b, []byte("quarterly figures")) {
		err = fmt.Errorf("the answer is not the upstream's: %.200s", b)
	}
	return err
}

// tokens reads a streamed answer to its last token.
func tokens(body io.Reader, first func()) error {
	rd := bufio.NewReader(body)
	begun := false
	for {
		line, err := rd.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the stream ended early: %w", err)
		}
		switch {
		case !begun && strings.Contains(line, `"content":"The`):
			begun = true
			first()
		case strings.HasPrefix(line, "data: [DONE]"):
			if !begun {
				return errors.New("no token came")
			}
			_, _ = io.Copy(io.Discard, rd) // so that the connection is used again
			return nil
		}
	}
}

var words = strings.Fields(`report region figure quarter planning delivery customer invoice meeting agenda summary table shared folder northern
southern budget forecast margin supplier contract schedule review draft version comment approve release window maintenance notice office travel
please compare explain describe which between during before after under about their numbers change growth small large steady`)

// request is a chat request with a prompt of about 2 kB that no other has.
func request(stream bool) []byte {
	var p strings.Builder
	p.WriteString("NUMBER ")
	for p.Len() < 2000 {
		p.WriteString(words[rand.IntN(len(words))])
		p.WriteByte(' ')
	}
	b, err := json.Marshal(map[string]any{
		"model": "guardbook-stand-in/bench", "stream": stream,
		"messages": []map[string]string{{"role": "system", "content": "You answer questions about reports."}, {"role": "user", "content": p.String()}},
	})
	if err != nil {
		panic(err) // a map of strings cannot fail
	}
	return b
}
