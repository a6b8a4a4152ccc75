package derive

import (
	"cmp"
	"slices"
	"time"
)

// maxRefs bounds the entries that one exception points at; its count tells how
// many there were.
const maxRefs = 10

// episode is one or more like events about one object.
type episode struct {
	object     string
	detail     string
	start, end time.Time
	count      int64
	refs       []Ref
}

// episodes gathers like events: those about the same object that follow each
// other within gap make one episode; gap 0 makes one of all.
type episodes struct {
	gap  time.Duration
	open map[string]*episode
	done []*episode
}

func (g *episodes) hit(object string, at time.Time, ref Ref, detail string) {
	if g.open == nil {
		g.open = map[string]*episode{}
	}
	e := g.open[object]
	if e != nil && g.gap > 0 && at.Sub(e.end) > g.gap {
		g.done = append(g.done, e)
		e = nil
	}
	if e == nil {
		e = &episode{object: object, detail: detail, start: at, end: at}
		g.open[object] = e
	}
	if at.After(e.end) {
		e.end = at
	}
	if at.Before(e.start) {
		e.start = at
	}
	e.count++
	if len(e.refs) < maxRefs && ref.ID != "" {
		e.refs = append(e.refs, ref)
	}
}

// all returns every episode, by start and object.
func (g *episodes) all() []*episode {
	list := slices.Clone(g.done)
	for _, e := range g.open {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *episode) int {
		return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.object, b.object), cmp.Compare(a.detail, b.detail))
	})
	return list
}
