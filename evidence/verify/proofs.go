package verify

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// listProofs names the entries for which the package has a proof, by the names of
// the files.
func (v *verifier) listProofs() []derive.Ref {
	var list []derive.Ref
	for _, f := range v.manifest.Files {
		base, ok := strings.CutSuffix(path.Base(f.Name), ".tlog-proof")
		if !ok {
			continue
		}
		a, b, _ := strings.Cut(base, "-")
		epoch, err1 := strconv.Atoi(a)
		seq, err2 := strconv.ParseInt(b, 10, 64)
		r := derive.Ref{Epoch: epoch, Seq: seq}
		if err1 != nil || err2 != nil || r.ProofName() != f.Name {
			continue // told as a file that has no place in a package
		}
		list = append(list, r)
	}
	return list
}

// judgeProofs checks every proof with the hash that its entry has in the log.
func (v *verifier) judgeProofs(readers []*logReader, proofs []derive.Ref, facts *derive.Facts) {
	for _, r := range proofs {
		v.Proofs.Checked++
		i := slices.IndexFunc(readers, func(l *logReader) bool { return l.scope.Epoch == r.Epoch })
		if i < 0 {
			v.problem(Problem{Code: "proof_invalid", File: r.ProofName(), Message: "there is no such log"})
			continue
		}
		if err := v.proof(readers[i], r, &facts.Logs[i]); err != nil {
			v.problem(Problem{Code: "proof_invalid", File: r.ProofName(), Message: err.Error()})
			continue
		}
		v.Proofs.Valid++
	}
}

func (v *verifier) proof(l *logReader, r derive.Ref, f *derive.LogFacts) error {
	text, err := v.files.Read(r.ProofName(), 1<<20)
	if err != nil {
		return err
	}
	p, err := c2sp.ParseProof(text)
	if err != nil {
		return err
	}
	key, err := derive.KeyFor(v.key, l.scope.Origin)
	if err != nil {
		return err
	}
	cp, err := c2sp.Open(p.Checkpoint, key)
	if err != nil {
		return err
	}
	if p.Index != r.Seq || cp.Size > f.Size || r.Seq >= cp.Size {
		return fmt.Errorf("it is about entry %d of %d", p.Index, cp.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, cp.Size, cp.Root, p.Index, l.wanted[r.Seq]); err != nil {
		return fmt.Errorf("the entry is not in the signed tree: %w", err)
	}
	return nil
}

// anchor is a checkpoint that was kept out of the operator's reach.
type anchor struct {
	c2sp.Checkpoint
	met, fits bool
}

// readAnchors reads the checkpoints that were given, by log.
func (v *verifier) readAnchors() map[string][]*anchor {
	out := map[string][]*anchor{}
	for i, msg := range v.o.Anchors {
		v.Anchors.Given++
		origin, _, _ := strings.Cut(string(msg), "\n")
		key, err := derive.KeyFor(v.key, origin)
		var cp c2sp.Checkpoint
		if err == nil {
			cp, err = c2sp.Open(msg, key)
		}
		if err == nil && !slices.ContainsFunc(v.scope.Logs, func(l layout.LogScope) bool { return l.Origin == origin }) {
			err = fmt.Errorf("the package has no log %q", origin)
		}
		if err != nil {
			v.problem(Problem{Code: "anchor_invalid", Message: fmt.Sprintf("anchor %d: %v", i+1, err)})
			continue
		}
		out[origin] = append(out[origin], &anchor{Checkpoint: cp})
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b *anchor) int { return cmp.Compare(a.Size, b.Size) })
	}
	return out
}

// judgeAnchors compares the anchors with the trees of their sizes.
func (v *verifier) judgeAnchors(readers []*logReader) {
	var entries, anchored int64
	for i, l := range readers {
		entries += v.Logs[i].Entries
		best := int64(0)
		for _, a := range l.anchors {
			switch {
			case a.fits:
				v.Anchors.Valid++
				best = max(best, a.Size)
			case a.met:
				v.problem(Problem{Code: "anchor_differs", Message: fmt.Sprintf("the first %d entries of log %s are not those that the anchor fixes", a.Size, a.Origin)})
			case v.Found.Last < v.scope.Params.To.UTC().Format("2006-01-02T15:04:05"):
				v.problem(Problem{Code: "log_shorter_than_anchor", Message: fmt.Sprintf("an anchor fixes %d entries of log %s; the package has %d, and they end before the window does", a.Size, a.Origin, v.Logs[i].Entries)})
			default:
				v.incomplete("an anchor of size %d is newer than the package's %d entries of log %s and cannot be compared with them", a.Size, v.Logs[i].Entries, a.Origin)
			}
		}
		anchored += best
		v.Anchors.Size = max(v.Anchors.Size, best)
	}
	v.Anchors.Unanchored = entries - anchored
	if v.Anchors.Unanchored > 0 {
		v.incomplete("%d entries are signed and not anchored: INT-06, INT-08", v.Anchors.Unanchored)
	}
}

// rootText is a root as a checkpoint writes it.
func rootText(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }
