package verify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/book/c2sp"
)

// maxNote bounds a checkpoint with its signatures, in bytes.
const maxNote = 1 << 16

// Anchor is a signed checkpoint that was kept out of the operator's reach. Whoever
// holds the signing key can write another history; they cannot make it fit.
type Anchor struct {
	File string // what the report calls it
	Note []byte // C2SP tlog-checkpoint; what it says is checked by Verify
}

// ReadAnchors reads files that hold a signed checkpoint each. Its error says that
// one cannot be read; whether they are checkpoints is for Verify to say.
func ReadAnchors(files []string) ([]Anchor, error) {
	var anchors []Anchor
	for _, name := range files {
		b, err := readAnchor(name)
		if err != nil {
			return nil, fmt.Errorf("read anchor: %w", err)
		}
		anchors = append(anchors, Anchor{File: name, Note: b})
	}
	return anchors, nil
}

func readAnchor(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxNote+1))
	if err == nil && len(b) > maxNote {
		err = fmt.Errorf("%s is larger than %d bytes: it is no checkpoint", name, maxNote)
	}
	return b, err
}

// anchored is an anchor of the log that is being verified.
type anchored struct {
	signed
	met  bool // the tree reached its size
	fits bool // and had its root
}

func (v *verifier) anchorProblem(a signed, seq int64, expected, actual any, format string, args ...any) {
	p := Problem{Kind: "anchor", Log: v.out.Origin, File: a.file, Message: fmt.Sprintf(format, args...)}
	if seq != none {
		p.Seq = &seq
	}
	if expected != nil {
		p.Expected, p.Actual = fmt.Sprint(expected), fmt.Sprint(actual)
	}
	v.report.problem(p)
}

// takeAnchors takes those anchors that are about this log, and gives back the others.
func (v *verifier) takeAnchors(anchors []Anchor) (others []Anchor) {
	for _, a := range anchors {
		origin, _, _ := bytes.Cut(a.Note, []byte("\n"))
		if v.key == nil || string(origin) != v.key.Name() {
			others = append(others, a)
			continue
		}
		s := signed{note: a.Note, file: a.File}
		var err error
		if s.Checkpoint, err = c2sp.Open(a.Note, v.key); err != nil {
			v.anchorProblem(s, none, nil, nil, "the anchor cannot be used: %v", notSignedBy(err, v.out.Key))
			continue
		}
		v.anchors = append(v.anchors, &anchored{signed: s})
	}
	slices.SortStableFunc(v.anchors, func(a, b *anchored) int { return cmp.Compare(a.Size, b.Size) })
	return others
}

// meetAnchors compares the tree with the anchors of its present size.
func (v *verifier) meetAnchors() {
	for _, a := range v.anchors {
		if a.met || a.Size != v.edge.Size() {
			continue
		}
		a.met, a.fits = true, v.agrees(a.Checkpoint)
		if a.fits {
			v.out.Anchored = a.Size
			continue
		}
		v.anchorProblem(a.signed, none, a.Root, v.edge.Root(), "the first %d records are not those that the anchor fixes: some record between %d and %d", a.Size, v.out.Anchored, a.Size-1)
	}
}

// judgeAnchors says what can only be said at the end of the log, which has end
// records if those that are known to be missing count.
func (v *verifier) judgeAnchors(end int64) {
	fit := 0
	for _, a := range v.anchors {
		if a.fits {
			fit++
		}
		switch {
		case a.Size > end:
			v.anchorProblem(a.signed, end, fmt.Sprintf("size %d", a.Size), fmt.Sprintf("size %d", end), "%s missing: the log is shorter than the anchor", numbers(end, a.Size-1))
			v.out.Missing += a.Size - end
			end = a.Size
		case a.fits && a.Size > v.last.Size:
			v.anchorProblem(a.signed, none, fmt.Sprintf("size %d", a.Size), fmt.Sprintf("size %d", v.last.Size), "the newest checkpoint of the log signs less than the anchor: checkpoints are missing")
		}
	}
	all := &v.report.Anchors
	all.Valid += fit
	all.Size = max(all.Size, v.out.Anchored)
	open := max(0, v.last.Size-v.out.Anchored)
	all.Unanchored += open
	switch {
	case open > 0:
		v.report.gap(Gap{Kind: "unanchored", Log: v.out.Origin, Message: fmt.Sprintf("signed and not anchored: %s. Nothing outside the operator's reach fixes what they say", numbers(v.out.Anchored, v.last.Size-1))})
	case len(v.anchors) == 0 && v.want > 0: // and nothing is signed yet
		v.report.gap(Gap{Kind: "unanchored", Log: v.out.Origin, Message: "nothing outside the operator's reach fixes the log"})
	}
}

// strayAnchors names the anchors that no log of the book took: a log that an anchor
// is about and that isn't there was taken away.
func (r *Report) strayAnchors(anchors []Anchor, t Trust) {
	for _, a := range anchors {
		origin, _, _ := bytes.Cut(a.Note, []byte("\n"))
		p := Problem{Kind: "anchor", File: a.File}
		if c, err := r.openStray(a.Note, string(origin), t); err == nil {
			p.Log, p.Message = c.Origin, fmt.Sprintf("the log is missing: the anchor fixes its first %d records", c.Size)
		} else {
			p.Message = fmt.Sprintf("the anchor cannot be used, there is no log %.80q here: %v", origin, err)
		}
		r.problem(p)
	}
}

// openStray checks an anchor with the key of the book under the anchor's name.
func (r *Report) openStray(msg []byte, origin string, t Trust) (c2sp.Checkpoint, error) {
	public := t.public
	for _, l := range r.Logs {
		if public == nil && l.Key != "" {
			public, _ = publicKey(l.Key)
		}
	}
	if public == nil {
		return c2sp.Checkpoint{}, errors.New("there is no key to check it with")
	}
	key, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return c2sp.Checkpoint{}, errors.New("it is no signed checkpoint")
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		return c2sp.Checkpoint{}, errors.New("it is no signed checkpoint")
	}
	c, err := c2sp.Open(msg, v)
	if err != nil {
		return c, notSignedBy(err, key)
	}
	return c, nil
}
