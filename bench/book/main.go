// Command book measures how fast the book takes entries, seals them and is
// verified, next to what the disk below it can sync in the same run.
//
//	go run ./bench/book [-seconds 3] [-entries 1000000] [-dir DIR]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

func main() {
	seconds := flag.Float64("seconds", 3, "time for each measurement of appends")
	entries := flag.Int("entries", 1_000_000, "entries of the book that is sealed and verified; 0: leave that out")
	parent := flag.String("dir", "", "where to put the books; empty: the system's directory for temporary files")
	flag.Parse()
	if err := run(context.Background(), *parent, time.Duration(*seconds*float64(time.Second)), *entries); err != nil {
		fmt.Fprintln(os.Stderr, "bench/book:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, parent string, d time.Duration, entries int) error {
	dir, err := os.MkdirTemp(parent, "bench-book-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s  %s/%s  %d processors  %s\n\n", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), runtime.Version())

	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "append\tappenders\tentries/s\tp50\tp99\tsyncs/s of the disk\tratio\t")
	for _, durability := range []book.Durability{book.Strict, book.Balanced} {
		for _, appenders := range []int{1, 64} {
			syncs, err := syncRate(dir, d/3)
			if err != nil {
				return err
			}
			rate, p50, p99, err := appendRate(ctx, filepath.Join(dir, fmt.Sprintf("%s-%d", durability, appenders)), durability, appenders, d)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\t%s\t%.0f\t%.2f\t\n", durability, appenders, rate, p50.Round(time.Microsecond), p99.Round(time.Microsecond), syncs, rate/syncs)
		}
	}
	w.Flush()
	fmt.Println("\nat a rate, as a gateway appends")
	fmt.Fprintln(w, "append\trate/s\tp50\tp90\tp99\tp99.9\t")
	for _, durability := range []book.Durability{book.Strict, book.Balanced} {
		for _, rate := range []int{1000, 5000} {
			times, err := pacedLatency(ctx, filepath.Join(dir, fmt.Sprintf("%s-rate-%d", durability, rate)), durability, rate, d)
			if err != nil {
				return err
			}
			at := func(q float64) time.Duration {
				return times[int(q*float64(len(times)-1))].Round(time.Microsecond)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t\n", durability, rate, at(.5), at(.9), at(.99), at(.999))
		}
	}
	w.Flush()
	if entries == 0 {
		return nil
	}
	fmt.Println()
	return sealAndVerify(ctx, filepath.Join(dir, "large"), entries)
}

// syncRate is how often a second the disk takes 4 KiB for good.
func syncRate(dir string, d time.Duration) (float64, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	n := 0
	begin := time.Now()
	for ; time.Since(begin) < d; n++ {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// decision is an entry as the guard writes one: about 1 KiB.
func decision(i int64) guardbook.Draft {
	return guardbook.Draft{Type: guardbook.TypeDecision, Body: guardbook.DecisionEntry{
		Agent: "billing-bot", Session: "s-" + strconv.FormatInt(i/20, 10), Kind: guardbook.KindToolCall, Path: "gateway/openai",
		Tool:     &guardbook.ToolRef{Server: "crm", Name: "query_database", CallID: "call_" + strconv.FormatInt(i, 10)},
		Layers:   []guardbook.LayerRun{{Name: "policy", Micros: 12}, {Name: "L1", Version: "core/1 sha256:9f86d081884c7d65", Micros: 85}},
		Findings: []guardbook.Finding{},
		Decision: guardbook.ActionBlock, Rule: "billing-bot/tools/query_database/query", Severity: guardbook.High,
		Message: `Blocked by policy billing-bot: table "users" is not among products, orders. Choose another approach; do not retry.`,
		Policy:  "billing-bot", Bundle: "sha256:" + strings.Repeat("ab", 32), Mode: guardbook.ModeEnforce,
		Bytes: 431, Micros: 140, Commitment: "sha256:" + strings.Repeat("cd", 32),
	}}
}

func openBook(data string, d book.Durability, sealEvery time.Duration) (*book.Book, *book.Key, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, nil, err
	}
	key, _, err := book.LoadKey(filepath.Join(data, "signing-key"))
	if err != nil {
		return nil, nil, err
	}
	b, err := book.Open(filepath.Join(data, "book"), book.Options{Key: key, Durability: d, SealEvery: sealEvery})
	return b, key, err
}

func appendRate(ctx context.Context, data string, d book.Durability, appenders int, t time.Duration) (rate float64, p50, p99 time.Duration, err error) {
	b, _, err := openBook(data, d, 0)
	if err != nil {
		return 0, 0, 0, err
	}
	defer b.Close()
	var count atomic.Int64
	var failed atomic.Pointer[error]
	times := make([][]time.Duration, appenders)
	var wg sync.WaitGroup
	begin := time.Now()
	for a := range appenders {
		wg.Go(func() {
			for time.Since(begin) < t {
				from := time.Now()
				if _, err := b.Append(ctx, decision(count.Add(1))); err != nil {
					failed.Store(&err)
					return
				}
				times[a] = append(times[a], time.Since(from))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if err := failed.Load(); err != nil {
		return 0, 0, 0, *err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	return float64(len(all)) / took.Seconds(), all[len(all)/2], all[len(all)*99/100], nil
}

// pacedLatency appends at a fixed rate, whether earlier appends have returned or
// not, and gives how long each took, shortest first.
func pacedLatency(ctx context.Context, data string, d book.Durability, rate int, t time.Duration) ([]time.Duration, error) {
	b, _, err := openBook(data, d, 0)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	times := make([]time.Duration, int(t.Seconds()*float64(rate)))
	errs := make([]error, len(times))
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range times {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		wg.Go(func() {
			from := time.Now()
			_, errs[i] = b.Append(ctx, decision(int64(i)))
			times[i] = time.Since(from)
		})
	}
	wg.Wait()
	slices.Sort(times)
	return times, errors.Join(errs...)
}

func sealAndVerify(ctx context.Context, data string, entries int) error {
	b, key, err := openBook(data, book.Balanced, time.Hour)
	if err != nil {
		return err
	}
	var sealing time.Duration
	begin := time.Now()
	for i := 0; i < entries; {
		group := make([]guardbook.Draft, 0, 500)
		for ; len(group) < cap(group) && i < entries; i++ {
			group = append(group, decision(int64(i)))
		}
		if _, err := b.Append(ctx, group...); err != nil {
			return err
		}
		if i%50_000 == 0 || i == entries {
			from := time.Now()
			if _, err := b.Seal(ctx); err != nil {
				return err
			}
			sealing += time.Since(from)
		}
	}
	took := time.Since(begin)
	if err := b.Close(); err != nil {
		return err
	}
	fmt.Printf("%d entries appended in groups of 500 and sealed in %s (%.0f/s); sealing alone %s (%.0f/s)\n",
		entries, took.Round(time.Millisecond), float64(entries)/took.Seconds(), sealing.Round(time.Millisecond), float64(entries)/sealing.Seconds())

	trust, err := verify.ParseTrust(key.Verifier())
	if err != nil {
		return err
	}
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		return err
	}
	defer r.Close()
	anchor := verify.Anchor{File: "the last checkpoint", Note: b.Checkpoint().Note}
	stop := make(chan struct{})
	peak := watchMemory(stop)
	begin = time.Now()
	report, err := verify.Verify(ctx, r.Logs(), verify.Options{Book: "bench", Trust: trust, Anchors: []verify.Anchor{anchor}})
	took = time.Since(begin)
	close(stop)
	if err != nil {
		return err
	}
	fmt.Printf("%d entries verified (journal, stored hashes, bundles, tiles, checkpoints) in %s (%.0f/s), heap in use at most %d MiB: %s\n",
		entries, took.Round(time.Millisecond), float64(entries)/took.Seconds(), <-peak>>20, report.Result)
	if report.Exit != verify.ExitIntact {
		return report.WriteText(os.Stderr)
	}
	return nil
}

// watchMemory gives the largest amount of heap in use until stop is closed.
func watchMemory(stop chan struct{}) <-chan uint64 {
	peak := make(chan uint64, 1)
	go func() {
		var most uint64
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-tick.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return peak
}
