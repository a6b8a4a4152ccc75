package guard

import (
	"sync"
	"sync/atomic"

	"github.com/guardbook/guardbook"
)

// counters are totals since the start of the instance, by name.
type counters struct {
	m sync.Map // string -> *atomic.Int64
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
	return out
}

// Counters returns the totals since the start, for heartbeats and metrics:
//
//	interactions, bytes, cached, fail_open, would_block, book_errors
//	decision.<action>   kind.<kind>   path.<entry path>
//	layer.<layer>.runs  layer.<layer>.errors
//
// interactions is the sum of decision.*, of kind.* and of path.*.
func (g *Guard) Counters() map[string]int64 { return g.counters.snapshot() }

// count adds one recorded judgement to the totals.
func (g *Guard) count(j *judgement) {
	d := &j.decision
	g.counters.add("interactions", 1)
	g.counters.add("bytes", j.bytes)
	g.counters.add("decision."+string(d.Action), 1)
	g.counters.add("kind."+string(j.in.Kind), 1)
	g.counters.add("path."+j.in.Path, 1)
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
