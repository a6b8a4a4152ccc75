package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/pattern"
	"github.com/guardbook/guardbook/rules"
)

// Measured texts of one kind and size, each a different one: a text scanned twice
// flatters whatever caches.
const (
	timed   = 200
	plainly = 2 // texts that the plain expressions read; they are slow
)

// speed prints what a scan costs, beside every rule's expression run over the
// whole text, in the same process on the same texts.
func speed(pack *pattern.Pack) error {
	start := cpuTime()
	fresh, err := pattern.Load(rules.FS)
	if err != nil {
		return err
	}
	loaded := cpuTime() - start
	pattern.New(fresh, pattern.Options{})
	ready := cpuTime() - start
	engine := pattern.New(pack, pattern.Options{})
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	fmt.Printf("%d rules; load %v, ready after %v; heap %.1f MB; %s, on %s/%s, %s\n", len(engine.Rules()), loaded.Round(time.Millisecond), ready.Round(time.Millisecond), float64(memory.HeapAlloc)/(1<<20), clock, runtime.GOOS, runtime.GOARCH, runtime.Version())

	var plain []*regexp.Regexp
	for _, r := range engine.Rules() {
		if r.Expression() != "" {
			plain = append(plain, regexp.MustCompile(r.Expression()))
		}
	}
	prose, err := commentsUnder(".")
	if err != nil {
		return err
	}
	rnd, words := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "text\tsize\tp50\tp99\tmost\tfound\tincomplete\tplain expressions p50\tratio\t")
	for _, kind := range []struct {
		name string
		text func(size int) string
	}{
		{"English", func(size int) string { return english(words, prose, size) }},
		{"JSON", func(size int) string { return jsonText(rnd, size) }},
		{"keyword flood", func(size int) string { return flood(rnd, engine, size) }},
		{"long windows", func(size int) string { return longWindows(rnd, size) }},
		{"base64 noise", func(size int) string { return noise(rnd, size) }},
	} {
		for _, size := range []int{2 << 10, 10 << 10, 50 << 10} {
			var took, plainTook []time.Duration
			found, incomplete := 0, 0
			for i := range timed {
				text := kind.text(size)
				in := &guardbook.Interaction{Kind: guardbook.KindToolResult, Content: []guardbook.Part{guardbook.TextPart(text)}}
				start := cpuTime()
				findings, err := engine.Detect(context.Background(), in)
				took = append(took, cpuTime()-start)
				found += len(findings)
				if err != nil {
					incomplete++
				}
				if i < plainly {
					start = cpuTime()
					for _, re := range plain {
						re.FindAllStringIndex(text, -1)
					}
					plainTook = append(plainTook, cpuTime()-start)
				}
			}
			slices.Sort(took)
			slices.Sort(plainTook)
			p50, slow := took[len(took)/2], plainTook[len(plainTook)/2]
			fmt.Fprintf(w, "%s\t%d kB\t%v\t%v\t%v\t%d\t%d of %d\t%v\t%.0f\t\n", kind.name, size>>10, p50.Round(time.Microsecond), took[len(took)*99/100].Round(time.Microsecond), took[len(took)-1].Round(time.Microsecond),
				found, incomplete, timed, slow.Round(time.Millisecond), float64(slow)/float64(p50))
		}
	}
	return w.Flush()
}

// english is lines of prose in an order of their own.
func english(rnd *rand.Rand, prose []string, size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(prose[rnd.IntN(len(prose))])
	}
	return strings.ToValidUTF8(b.String()[:size], "")
}

// commentsUnder gathers English: lines of comments of the Go sources under dir, which
// is this repository.
func commentsUnder(dir string) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(src)) {
			if s, ok := strings.CutPrefix(strings.TrimSpace(line), "// "); ok && strings.Count(s, " ") >= 5 {
				lines = append(lines, s+"\n")
			}
		}
		return nil
	})
	if err == nil && len(lines) < 1000 {
		err = errors.New("too little English: run this at the root of the repository")
	}
	return lines, err
}

// jsonText makes records as a tool would return them.
func jsonText(rnd *rand.Rand, size int) string {
	words := strings.Fields("order invoice shipped pending north harbour weekly review lamp blue table customer notes delivered partial account status summary window garden")
	var b strings.Builder
	b.WriteString("[")
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `{"id":%d,"sku":"%c%c-%04d","price":%d.%02d,"created_at":"20%02d-%02d-%02dT%02d:%02d:00Z","active":%v,"tags":["%s","%s"],"note":"%s %s %s, %s %s."},`+"\n",
			100000+rnd.IntN(900000), 'A'+rnd.IntN(26), 'A'+rnd.IntN(26), rnd.IntN(10000), rnd.IntN(500), rnd.IntN(100), 20+rnd.IntN(6), 1+rnd.IntN(12), 1+rnd.IntN(28), rnd.IntN(24), rnd.IntN(60), rnd.IntN(2) == 0,
			words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], words[rnd.IntN(len(words))])
	}
	return b.String()[:size]
}

// flood writes rules' own keywords one after another, the dearest text there is.
func flood(rnd *rand.Rand, e *pattern.Engine, size int) string {
	all := e.Rules()
	var b strings.Builder
	for b.Len() < size {
		r := all[rnd.IntN(len(all))]
		if k := r.Keywords(); len(k) > 0 {
			b.WriteString(k[rnd.IntN(len(k))] + " ")
		}
		fmt.Fprintf(&b, "%x ", rnd.Uint64())
	}
	return b.String()[:size]
}

// longWindows repeats beginnings that let expressions read on for long.
func longWindows(rnd *rand.Rand, size int) string {
	begin := []string{"-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA", "send all passwords, secrets and tokens to @ http", "curl -H xoxb-1-", "![a](https://", "<img src=https://a.b/?c=", "eyJhbGciOiJIUzI1NiIsInR5.eyJ", "cat wget | base64 ", "ignore all previous "}
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%s%x", begin[rnd.IntN(len(begin))], rnd.Uint64())
	}
	return b.String()[:size]
}

// noise is base64 of random bytes.
func noise(rnd *rand.Rand, size int) string {
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(rnd.Uint32())
	}
	return base64.StdEncoding.EncodeToString(raw)[:size]
}
