// Package jsongen draws JSON texts out of the words of a wire format, so that tests
// reach the corners of a walker that random bytes never do.
package jsongen

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook/gateway/document"
)

// Object draws an object whose members have the given names, and whose strings are
// often the given words. Each text that is none of the words is different. The
// members named in lists are mostly lists of objects; the first two are mostly there.
func Object(t *rapid.T, names, lists, words []string) string {
	g := &generator{t: t, names: names, lists: lists, words: words}
	return g.object(5, lists[:2])
}

type generator struct {
	t                   *rapid.T
	names, lists, words []string
	n                   int
}

func (g *generator) value(depth int) string {
	switch k := rapid.IntRange(0, 9).Draw(g.t, "kind"); {
	case k < 3 && depth > 0:
		return g.object(depth-1, nil)
	case k < 6 && depth > 0:
		var items []string
		for range rapid.IntRange(0, 3).Draw(g.t, "items") {
			items = append(items, g.value(depth-1))
		}
		return "[" + strings.Join(items, ",") + "]"
	case k == 6:
		return rapid.SampledFrom([]string{"null", "true", "7", "-1.5e3"}).Draw(g.t, "scalar")
	case k == 7:
		g.n++
		return document.Quote(fmt.Sprintf(`{"inner": "text %d"}`, g.n))
	case k == 8:
		return document.Quote(rapid.SampledFrom(g.words).Draw(g.t, "word"))
	default:
		g.n++
		return document.Quote(fmt.Sprintf("some text %d", g.n))
	}
}

// object draws an object; first are the names of members that it mostly has.
func (g *generator) object(depth int, first []string) string {
	seen := map[string]bool{}
	var members []string
	for i := range rapid.IntRange(0, 6).Draw(g.t, "members") + len(first) {
		name := rapid.SampledFrom(g.names).Draw(g.t, "name")
		if i < len(first) {
			name = first[i]
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		value := g.value(depth)
		if slices.Contains(g.lists, name) && depth > 0 && rapid.Bool().Draw(g.t, "list") {
			var items []string
			for range rapid.IntRange(1, 3).Draw(g.t, "items") {
				items = append(items, g.object(depth-1, nil))
			}
			value = "[" + strings.Join(items, ",") + "]"
		}
		if (name == "type" || name == "role") && rapid.Bool().Draw(g.t, "known") {
			value = document.Quote(rapid.SampledFrom(g.words).Draw(g.t, "word"))
		}
		members = append(members, document.Quote(name)+":"+value)
	}
	return "{" + strings.Join(members, ",") + "}"
}
