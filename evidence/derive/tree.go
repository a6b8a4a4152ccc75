package derive

import (
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
)

// KeyFor is the verifier of a log's checkpoints: the public key of a verifier
// key, under the name of the log. A book signs each epoch under the epoch's own
// origin, which is the key's name, or the name and the epoch's number.
func KeyFor(vkey, origin string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("verifier key: %w", err)
	}
	if origin == v.Name() {
		return v, nil
	}
	if !strings.HasPrefix(origin, v.Name()+"/") {
		return nil, fmt.Errorf("log %q does not belong to the key of %q", origin, v.Name())
	}
	data, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil || len(data) < 1 {
		return nil, fmt.Errorf("verifier key %s: its public key cannot be read", v.Name())
	}
	renamed, err := note.NewEd25519VerifierKey(origin, data[1:])
	if err != nil {
		return nil, fmt.Errorf("verifier key %s: %w", v.Name(), err)
	}
	return note.NewVerifier(renamed)
}

// LogFacts is what recomputing one log from its raw entries showed.
type LogFacts struct {
	Epoch  int
	Origin string
	Size   int64
	Root   tlog.Hash
	// FirstRec and LastRec are the recorded times at the ends.
	FirstRec, LastRec string

	Unreadable  []Ref // entries that are no strict JSON, or do not fit their type or version
	Misplaced   []Ref // seq or log does not fit the place
	BackInTime  []Ref // recorded before the entry before
	Checkpoints int   // all
	Unsigned    []int64
	Wrong       []int64  // sizes of checkpoints whose root differs
	Range       [2]int64 // the entries between which the first difference lies
	Short       bool     // fewer entries than the last checkpoint says
	Sealed      int64    // size of the last good checkpoint
}

// Sound reports whether nothing was found that an intact log cannot have.
func (f *LogFacts) Sound() bool {
	return len(f.Unreadable)+len(f.Misplaced)+len(f.Unsigned)+len(f.Wrong) == 0 && !f.Short && f.Sealed == f.Size
}

// treeCheck recomputes the root as entries come and compares it with every
// checkpoint on the way.
type treeCheck struct {
	facts *LogFacts
	edge  c2sp.Edge
	spare []tlog.Hash
	due   []c2sp.Checkpoint
}

func newTreeCheck(facts *LogFacts, l *Log, vkey string) *treeCheck {
	c := &treeCheck{facts: facts}
	key, err := KeyFor(vkey, l.Origin)
	for _, msg := range l.Checkpoints {
		facts.Checkpoints++
		var cp c2sp.Checkpoint
		bad := err
		if bad == nil {
			cp, bad = c2sp.Open(msg, key)
		}
		if bad != nil {
			facts.Unsigned = append(facts.Unsigned, cp.Size)
			continue
		}
		if n := len(c.due); n > 0 && cp.Size < c.due[n-1].Size {
			facts.Wrong = append(facts.Wrong, cp.Size) // a log never shrinks
			continue
		}
		c.due = append(c.due, cp)
	}
	c.reached()
	return c
}

func (c *treeCheck) add(raw []byte) {
	c.spare = c.edge.Append(c.spare[:0], tlog.RecordHash(raw))
	c.reached()
}

// reached compares the checkpoints of the size that the tree has now.
func (c *treeCheck) reached() {
	for len(c.due) > 0 && c.due[0].Size == c.edge.Size() {
		if c.due[0].Root == c.edge.Root() {
			c.facts.Sealed = c.due[0].Size
		} else {
			if len(c.facts.Wrong) == 0 {
				c.facts.Range = [2]int64{c.facts.Sealed, c.due[0].Size}
			}
			c.facts.Wrong = append(c.facts.Wrong, c.due[0].Size)
		}
		c.due = c.due[1:]
	}
}

func (c *treeCheck) finish() {
	c.facts.Size, c.facts.Root = c.edge.Size(), c.edge.Root()
	c.facts.Short = len(c.due) > 0
}
