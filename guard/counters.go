package guard

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"github.com/guardbook/guardbook"
)

// A heartbeat is an entry, and an entry has at most 64 KiB: whatever callers name in it
// is bounded in length and number. What is over is counted under the name "(other)".
const (
	maxPaths  = 64
	maxFamily = 40 // entry paths with the same first segment
	maxPath   = 60 // bytes of an entry path's name
	maxCalls  = 60
	maxModel  = 100 // bytes of a model's name
	other     = "(other)"
)

// counters are totals since the start of the instance, by name.
type counters struct {
	m     sync.Map // string -> *atomic.Int64
	paths pathCounters
	calls callCounters
}

func (c *counters) add(name string, n int64) {
	v, ok := c.m.Load(name)
	if !ok {
		v, _ = c.m.LoadOrStore(name, new(atomic.Int64))
	}
	v.(*atomic.Int64).Add(n)
}

func (c *counters) snapshot() map[string]int64 {
	out := map[string]int64{}
	for k, v := range c.m.Range {
		out[k.(string)] = v.(*atomic.Int64).Load()
	}
	c.paths.snapshot(out)
	return out
}

// Counters returns the totals since the start, for heartbeats and metrics:
//
//	interactions, bytes, cached, fail_open, would_block, book_errors
//	decision.<action>   kind.<kind>   path.<entry path>
//	layer.<layer>.runs  layer.<layer>.errors
//
// interactions is the sum of decision.*, of kind.* and of path.*.
//
// And for each entry path P, counted where interactions arrive and where they leave:
//
//	seen.P      interactions that were handed to the guard
//	allowed.P   whose decision is in the book and lets them pass: allow, log, flag or redact
//	blocked.P   whose decision is in the book and is block
//	held.P      whose decision is in the book and is hold
//	errored.P   for which no decision is known to be in the book, whatever was done
//	            with them: the book could not be written, or deciding failed
//	open.P      that are being decided on at this moment
//	flagged.P, redacted.P   those of allowed.P with that decision
//
// At every moment, for every path,
//
//	seen = allowed + blocked + held + errored + open
//
// and open is 0 when nothing is going on. path.P is allowed + blocked + held: the
// decisions of the path that are in the book. The instance's own test interactions
// (canaries) are counted like all others. Beyond 64 paths, or 40 that begin alike,
// further ones are counted together under the path "(other)". Those that are 0 are
// left out.
func (g *Guard) Counters() map[string]int64 { return g.counters.snapshot() }

// Called counts model calls of one entry path that an upstream answered with success.
// The model's name is the caller's word: it is cut, and what is not printable is
// replaced.
func (g *Guard) Called(c guardbook.ModelCalls) { g.counters.calls.add(c) }

// Calls returns the model calls since the start, by path and model.
func (g *Guard) Calls() []guardbook.ModelCalls { return g.counters.calls.snapshot() }

// count adds one recorded judgement to the totals.
func (g *Guard) count(j *judgement) {
	d := &j.decision
	g.counters.add("interactions", 1)
	g.counters.add("bytes", j.bytes)
	g.counters.add("decision."+string(d.Action), 1)
	g.counters.add("kind."+string(j.in.Kind), 1)
	if d.Cached {
		g.counters.add("cached", 1)
	}
	if j.failOpen {
		g.counters.add("fail_open", 1)
	}
	if d.Would == guardbook.ActionBlock {
		g.counters.add("would_block", 1)
	}
	for _, l := range d.Layers {
		if l.Name == layerPolicy {
			continue
		}
		g.counters.add("layer."+l.Name+".runs", 1)
		if l.Error != "" {
			g.counters.add("layer."+l.Name+".errors", 1)
		}
	}
}

// pathCounters count interactions as they arrive and as they leave.
type pathCounters struct {
	mu       sync.Mutex
	m        map[string]*pathCount
	families map[string]int // paths by first segment
}

// pathCount is what one entry path has seen, and what became of it.
type pathCount struct{ seen, allowed, flagged, redacted, blocked, held, errored int64 }

// passage counts the interactions of one Decide: each arrives once and leaves once.
type passage struct {
	c    *pathCounters
	open []*pathCount // by interaction; nil: it has left
}

// arrive counts interactions in. Its end must be called, whatever happens.
func (c *pathCounters) arrive(ins []*guardbook.Interaction) passage {
	p := passage{c, make([]*pathCount, len(ins))}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, in := range ins {
		p.open[i] = c.at(in.Path)
		p.open[i].seen++
	}
	return p
}

// at finds the counts of a path; c.mu is held.
func (c *pathCounters) at(path string) *pathCount {
	path = clip(path, maxPath)
	if n := c.m[path]; n != nil {
		return n
	}
	if c.m == nil {
		c.m, c.families = map[string]*pathCount{}, map[string]int{}
	}
	family, _, _ := strings.Cut(path, "/")
	if len(c.m) >= maxPaths || c.families[family] >= maxFamily {
		path, family = other, other
		if n := c.m[path]; n != nil {
			return n
		}
	}
	n := &pathCount{}
	c.m[path] = n
	c.families[family]++
	return n
}

// leave counts every interaction out whose decision is in the book.
func (p *passage) leave(ds []guardbook.Decision) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for i, n := range p.open {
		switch ds[i].Action {
		case guardbook.ActionBlock:
			n.blocked++
		case guardbook.ActionHold:
			n.held++
		default:
			n.allowed++
			switch ds[i].Action {
			case guardbook.ActionFlag:
				n.flagged++
			case guardbook.ActionRedact:
				n.redacted++
			}
		}
	}
	p.open = nil
}

// end counts out as errors what has not left yet.
func (p *passage) end() {
	if p.open == nil {
		return
	}
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for _, n := range p.open {
		n.errored++
	}
	p.open = nil
}

func (c *pathCounters) snapshot(out map[string]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, n := range c.m {
		decided := n.allowed + n.blocked + n.held
		out["path."+path] = decided
		for name, v := range map[string]int64{
			"seen": n.seen, "allowed": n.allowed, "flagged": n.flagged, "redacted": n.redacted,
			"blocked": n.blocked, "held": n.held, "errored": n.errored, "open": n.seen - decided - n.errored,
		} {
			if v != 0 {
				out[name+"."+path] = v
			}
		}
	}
}

// callCounters count model calls by path and model.
type callCounters struct {
	mu sync.Mutex
	m  map[callKey]callCount
}

type callCount struct{ calls, tokens int64 }

type callKey struct{ path, model string }

func (c *callCounters) add(m guardbook.ModelCalls) {
	k := callKey{m.Path, modelName(m.Model)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[callKey]callCount{}
	}
	if _, ok := c.m[k]; !ok && len(c.m) >= maxCalls {
		k.model = other // one more for each path, and the paths of model calls are few
	}
	n := c.m[k]
	n.calls, n.tokens = n.calls+m.Calls, n.tokens+m.OutputTokens
	c.m[k] = n
}

func (c *callCounters) snapshot() []guardbook.ModelCalls {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]guardbook.ModelCalls, 0, len(c.m))
	for k, n := range c.m {
		out = append(out, guardbook.ModelCalls{Path: k.path, Model: k.model, Calls: n.calls, OutputTokens: n.tokens})
	}
	slices.SortFunc(out, func(a, b guardbook.ModelCalls) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Model, b.Model))
	})
	return out
}

// modelName makes a model's name fit to stand in an entry.
func modelName(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
	return clip(s, maxModel)
}
