package pattern

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/rules"
	"pgregory.net/rapid"
)

var shipped = sync.OnceValues(func() (*Pack, error) { return Load(rules.FS) })

// engine is an engine of the shipped packs.
func engine(t testing.TB) *Engine {
	t.Helper()
	pack, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	return New(pack, Options{})
}

func detect(t testing.TB, e *Engine, kind guardbook.Kind, text string) []guardbook.Finding {
	t.Helper()
	found, err := e.Detect(context.Background(), &guardbook.Interaction{Kind: kind, Content: []guardbook.Part{guardbook.TextPart(text)}})
	if err != nil {
		t.Fatalf("scan %q: %v", text, err)
	}
	return found
}

// matchesOf lists the matches in a text before any are merged.
func matchesOf(e *Engine, kind guardbook.Kind, text string) []match {
	s := newScan(e)
	s.begin(context.Background(), &guardbook.Interaction{Kind: kind}, e.active[kind])
	s.budget = 1 << 30
	s.read(guardbook.Text{Path: "/content/0", Text: text})
	return s.found
}

// kindOfRule is a kind on which a rule is looked for: output where it is, because
// that is what streams.
func kindOfRule(r *Rule) guardbook.Kind {
	if len(r.Channels) == 0 {
		return guardbook.KindOutput
	}
	for _, k := range r.Channels {
		if k == guardbook.KindOutput {
			return k
		}
	}
	return r.Channels[0]
}

func TestAStreamThatHoldsWhatHoldSaysNeverReleasesAByteOfAMatch(t *testing.T) {
	all := engine(t)
	for _, r := range all.rules {
		e := New(&Pack{Rules: []*Rule{r}}, Options{})
		kind := kindOfRule(r)
		for _, example := range r.Examples.Match {
			if len(example) > HoldReach || strings.HasPrefix(example, "i.g.n.") { // too long, and spelled out: see Hold
				continue
			}
			text := "Well, here it is: " + example + " and so we go on."
			for _, m := range matchesOf(e, kind, text) {
				for cut := 1; cut < m.end; cut++ {
					if len(text) > 300 && cut%7 != 0 && m.end-cut > 3 {
						continue
					}
					if released := cut - e.Hold(kind, text[:cut]); released > m.start {
						t.Errorf("rule %s: of %q, %q was released, although the match begins at byte %d", r.ID, text, text[:released], m.start)
						break
					}
				}
			}
		}
	}
}

func TestHoldLetsOrdinaryTextGo(t *testing.T) {
	e := engine(t)
	text := strings.Repeat("The harbour is quiet in the morning, and the boats come back at noon with fish. ", 20)
	held := 0
	for cut := range len(text) {
		held += e.Hold(guardbook.KindOutput, text[:cut])
	}
	if mean := held / len(text); mean > 24 {
		t.Errorf("%d bytes are held on average; a stream would stutter", mean)
	}
	if n := e.Hold(guardbook.KindOutput, "It is done.\n"); n > 8 {
		t.Errorf("%d bytes are held after a full sentence", n)
	}
}

func TestHoldStaysInBoundsForAnyBytes(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte("akig -.@+0123456789\xe2\x80\x8b"))), 0, 200).Draw(t, "text"))
		if n := e.Hold(guardbook.KindOutput, text); n < 0 || n > len(text) {
			t.Fatalf("Hold(%q) = %d", text, n)
		}
	})
}
