// Package verify checks an evidence package offline: without a server, without
// the book's storage and without the program part that built it. It trusts
// nothing in the package but what a key signs that came by another way.
//
// It recomputes the Merkle tree from the raw entries, compares it with every
// signed checkpoint, makes every listing again and compares the bytes. What it
// finds is about the records. It says nothing about controls.
package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// ErrNotPackage means that what was given is no evidence package of a form that
// this build knows.
var ErrNotPackage = errors.New("not an evidence package")

// Options says what is trusted.
type Options struct {
	// Trust is the verifier key of the book, or its fingerprint, given by another way
	// than the package. Empty: the key that the package names is used, and the result is unpinned.
	Trust string
	// Anchors are signed checkpoints that were kept out of the operator's reach.
	Anchors [][]byte
}

// Verify checks a package. An error means that it could not be checked at all;
// everything else is in the report.
func Verify(ctx context.Context, files *Files, o Options) (*Report, error) {
	r := &Report{Where: files.Where, Counts: map[string]int64{}, Problems: []Problem{}, Incomplete: []string{}, Logs: []Log{}}
	v := &verifier{Report: r, files: files, o: o}
	manifest, err := files.Read(layout.Manifest, maxDescribe)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPackage, err)
	}
	if err := layout.Unmarshal(manifest, &v.manifest); err != nil {
		r.problem(Problem{Code: "manifest_invalid", File: layout.Manifest, Message: err.Error()})
		r.conclude()
		return r, nil //nolint:nilerr // it is a problem of the package, and in the report
	}
	if v.manifest.Format != layout.Format {
		return nil, fmt.Errorf("%w: its format is %q, this build knows %q", ErrNotPackage, v.manifest.Format, layout.Format)
	}
	r.Package = v.manifest.Package
	for _, p := range files.unusable {
		r.problem(p)
	}
	if err := v.checkFiles(ctx, manifest); err != nil {
		return nil, err
	}
	if !v.readScope() {
		v.signature(manifest)
		r.conclude()
		return r, nil
	}
	v.signature(manifest)
	if err := v.checkLogs(ctx); err != nil {
		return nil, err
	}
	r.conclude()
	return r, nil
}

type verifier struct {
	*Report
	files    *Files
	o        Options
	manifest layout.ManifestFile
	scope    layout.ScopeFile
	key      string            // the verifier key in use
	sums     map[string]string // actual hashes by name
}

// checkFiles compares every file with the manifest and the sums.
func (v *verifier) checkFiles(ctx context.Context, manifest []byte) error {
	v.sums = map[string]string{}
	listed := map[string]bool{layout.Manifest: true, layout.Sums: true, layout.Signature: true}
	sum := sha256.Sum256(manifest)
	var want strings.Builder
	for _, f := range v.manifest.Files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if !layout.SafeName(f.Name) || listed[f.Name] {
			v.problem(Problem{Code: "manifest_invalid", File: layout.Manifest, Message: fmt.Sprintf("it lists %q, which is no name for a file or stands there twice", f.Name)})
			continue
		}
		listed[f.Name] = true
		v.Manifest.Listed++
		fmt.Fprintf(&want, "%s  %s\n", f.SHA256, f.Name)
		if !v.files.Has(f.Name) {
			v.Manifest.Missing++
			v.problem(Problem{Code: "file_missing", File: f.Name, Message: f.Name + " is in the manifest and not in the package"})
			continue
		}
		got, size, err := v.hash(f.Name)
		v.sums[f.Name] = got
		if err != nil {
			got = err.Error()
		}
		if got != f.SHA256 || size != f.Size {
			v.Manifest.Altered++
			v.problem(Problem{Code: "file_altered", File: f.Name, Expected: f.SHA256, Got: got, Message: fmt.Sprintf("%s does not have the hash in the manifest (%d bytes, listed %d)", f.Name, size, f.Size)})
			continue
		}
		v.Manifest.Match++
	}
	for _, name := range v.files.Names() {
		if !listed[name] {
			v.Manifest.Unlisted++
			v.problem(Problem{Code: "file_unlisted", File: name, Message: name + " is in the package and not in the manifest"})
		}
	}
	fmt.Fprintf(&want, "%s  %s\n", hex.EncodeToString(sum[:]), layout.Manifest)
	if got, err := v.files.Read(layout.Sums, maxDescribe); err != nil || string(got) != want.String() {
		v.problem(Problem{Code: "sums_differ", File: layout.Sums, Message: "SHA256SUMS does not say what the manifest says"})
	}
	return nil
}

func (v *verifier) hash(name string) (string, int64, error) {
	in, err := v.files.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.Copy(h, in)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// readScope reads what the package says about itself.
func (v *verifier) readScope() bool {
	b, err := v.files.Read(layout.Scope, maxDescribe)
	if err == nil {
		err = layout.Unmarshal(b, &v.scope)
	}
	if err == nil && v.scope.Package != v.manifest.Package {
		err = fmt.Errorf("it is about package %q", v.scope.Package)
	}
	if err != nil {
		v.problem(Problem{Code: "scope_invalid", File: layout.Scope, Message: err.Error()})
		return false
	}
	p := v.scope.Params
	v.BuiltAt, v.BuiltBy, v.Tool = v.scope.BuiltAt, v.scope.BuiltBy, "guardbook "+p.Tool.Version
	v.From, v.To = p.From.UTC().Format(time.RFC3339), p.To.UTC().Format(time.RFC3339)
	return true
}

// signature checks the manifest's signature with the key that is trusted.
func (v *verifier) signature(manifest []byte) {
	v.key = v.o.Trust
	if strings.HasPrefix(v.key, "sha256:") { // a fingerprint stands for the one key that has it
		name, _, _ := strings.Cut(v.scope.Params.Key, "+")
		if _, got, err := derive.DescribeKey(v.scope.Params.Key, name); err == nil && got == v.key {
			v.key = v.scope.Params.Key
		}
	}
	if v.Manifest.Pinned = v.key != ""; !v.Manifest.Pinned {
		v.key = v.scope.Params.Key
		v.incomplete("UNPINNED: the key was taken from the package itself; give the key that you were told by another way with --trust")
	} else if v.scope.Params.Key != "" && v.scope.Params.Key != v.key {
		v.problem(Problem{Code: "key_mismatch", File: layout.Scope, Expected: v.key, Got: v.scope.Params.Key, Message: "the package names another key than the one that you trust"})
	}
	verifier, err := note.NewVerifier(v.key)
	if err != nil {
		v.Manifest.Signature = "invalid"
		v.problem(Problem{Code: "signature_invalid", File: layout.Signature, Message: "the key cannot be read: " + err.Error()})
		return
	}
	v.Manifest.Key = verifier.Name()
	if _, fingerprint, err := derive.DescribeKey(v.key, verifier.Name()); err == nil {
		v.Manifest.Key += " " + fingerprint
	}
	signed, err := v.files.Read(layout.Signature, 1<<20)
	if err != nil {
		v.Manifest.Signature = "missing"
		v.problem(Problem{Code: "signature_missing", File: layout.Signature, Message: err.Error()})
		return
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	v.Manifest.Signature = "invalid"
	switch {
	case err != nil:
		v.problem(Problem{Code: "signature_invalid", File: layout.Signature, Message: "the manifest is not signed by the key: " + err.Error()})
	case n.Text != layout.ManifestNote(v.manifest.Package, manifest):
		v.problem(Problem{Code: "signature_invalid", File: layout.Signature, Message: "the signature is over another manifest"})
	default:
		v.Manifest.Signature = "ok"
	}
}

// checkLogs recomputes the logs and everything that is made from them.
func (v *verifier) checkLogs(ctx context.Context) error {
	if len(v.scope.Logs) == 0 {
		v.problem(Problem{Code: "log_missing", File: layout.Scope, Message: "the package has no log; an empty log proves nothing"})
		return nil
	}
	v.Logs = make([]Log, len(v.scope.Logs))
	anchors := v.readAnchors()
	proofs := v.listProofs()
	var readers []*logReader
	var logs []derive.Log
	for i, l := range v.scope.Logs {
		v.Logs[i] = Log{Epoch: l.Epoch, Origin: l.Origin, Stated: l.Size}
		lr := &logReader{files: v.files, report: v.Report, scope: l, log: &v.Logs[i], wanted: map[int64]tlog.Hash{}, anchors: anchors[l.Origin]}
		for _, p := range proofs {
			if p.Epoch == l.Epoch {
				lr.wanted[p.Seq] = tlog.Hash{}
			}
		}
		lr.readNotes()
		readers = append(readers, lr)
		logs = append(logs, lr.input())
	}
	params := v.scope.Params
	params.Key = v.key
	made := derive.Hashes{}
	facts, err := derive.Run(ctx, derive.Input{Params: params, Logs: logs, Text: v.text}, made)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.problem(Problem{Code: "log_unreadable", Message: err.Error()})
		return nil
	}
	v.judgeLogs(facts)
	v.judgeListings(facts, made)
	v.judgeProofs(readers, proofs, facts)
	v.judgeAnchors(readers)
	v.judgeTime(facts)
	return nil
}

// text gives a policy text of the package by hash.
func (v *verifier) text(h string) ([]byte, error) {
	b, err := v.files.Read(layout.Blob(h), 64<<20)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != h {
		v.problem(Problem{Code: "policy_altered", File: layout.Blob(h), Expected: h, Got: hex.EncodeToString(sum[:]), Message: "the policy text does not have the hash that is its name"})
	}
	return b, nil
}

// judgeLogs turns what recomputing showed into problems.
func (v *verifier) judgeLogs(facts *derive.Facts) {
	for i := range facts.Logs {
		f, l, s := &facts.Logs[i], &v.Logs[i], v.scope.Logs[i]
		l.Entries, l.Checkpoints = f.Size, f.Checkpoints
		l.CheckpointsValid = f.Checkpoints - len(f.Unsigned) - len(f.Wrong)
		l.Misplaced = int64(len(f.Misplaced))
		for _, r := range f.Unreadable {
			v.problem(Problem{Code: "entry_unreadable", Log: f.Origin, Seq: r.Seq, Message: "the entry is no strict JSON of a known version and type"})
		}
		for _, r := range f.Misplaced {
			v.problem(Problem{Code: "entry_misplaced", Log: f.Origin, Seq: r.Seq, Message: "the entry in this place says that it belongs to another"})
		}
		if n := len(f.Unsigned); n > 0 {
			v.problem(Problem{Code: "checkpoint_unsigned", File: layout.History(f.Epoch), Message: fmt.Sprintf("%d checkpoints are not signed by the key under the name of log %s", n, f.Origin)})
		}
		for _, size := range f.Wrong {
			v.problem(Problem{Code: "root_differs", File: layout.History(f.Epoch), Message: fmt.Sprintf("the tree over the first %d entries of log %s is not the one that was signed", size, f.Origin)})
		}
		if f.Short {
			v.problem(Problem{Code: "log_short", File: layout.History(f.Epoch), Message: fmt.Sprintf("log %s has %d entries here, and a checkpoint signs more", f.Origin, f.Size)})
		}
		if f.Size != f.Sealed {
			v.problem(Problem{Code: "log_unsealed", File: layout.History(f.Epoch), Message: fmt.Sprintf("entries from %d on of log %s are under no checkpoint that fits", f.Sealed, f.Origin)})
		}
		if f.Size != s.Size || s.Root != rootText(f.Root) {
			v.problem(Problem{Code: "log_differs", File: layout.Scope, Expected: fmt.Sprintf("%d entries, root %s", s.Size, s.Root), Got: fmt.Sprintf("%d entries, root %s", f.Size, rootText(f.Root)),
				Message: "the log is not the one that the package is about"})
		}
		if last, err := v.files.Read(layout.Checkpoint(f.Epoch), 1<<20); f.Checkpoints > 0 && (err != nil || !v.isLast(f.Epoch, last)) {
			v.problem(Problem{Code: "checkpoint_invalid", File: layout.Checkpoint(f.Epoch), Message: "it is not the last checkpoint of the history"})
		}
	}
	v.Found.First, v.Found.Last = facts.Found.First, facts.Found.Last
	if v.scope.FoundFirst != facts.Found.First || v.scope.FoundLast != facts.Found.Last || !slices.Equal(v.scope.Agents, facts.Agents) && len(v.scope.Agents)+len(facts.Agents) > 0 {
		v.problem(Problem{Code: "scope_differs", File: layout.Scope, Message: "times or agents of the scope are not those of the log"})
	}
}

func (v *verifier) isLast(epoch int, last []byte) bool {
	b, err := v.files.Read(layout.History(epoch), maxDescribe)
	return err == nil && bytes.HasSuffix(b, c2sp.AppendHistory(nil, last))
}

// judgeListings compares each listing with the one that was made again, and each
// description with what it describes.
func (v *verifier) judgeListings(facts *derive.Facts, made derive.Hashes) {
	expected := map[string]bool{layout.Readme: true, layout.Scope: true, layout.Keys: true}
	for _, name := range sortedKeys(made) {
		expected[name] = true
		v.Populations.Listings++
		switch got, there := v.sums[name]; {
		case !there:
			v.problem(Problem{Code: "listing_missing", File: name, Message: name + " is made from the log and is not in the package"})
		case got != made[name]:
			v.problem(Problem{Code: "listing_differs", File: name, Expected: made[name], Got: got, Message: name + " is not what the raw entries give"})
		default:
			v.Populations.Equal++
		}
	}
	for _, p := range facts.Populations {
		name := p.ID + "/population.ipe.json"
		expected[name], expected[p.ID+"/narrative.md"] = true, true
		v.judgeIPE(name, p, facts, made)
	}
	for _, h := range facts.Texts {
		expected[layout.Blob(h)] = !slices.Contains(facts.Missing, h)
	}
	for _, r := range facts.Proofs {
		expected[r.ProofName()] = true
		if !v.files.Has(r.ProofName()) {
			v.problem(Problem{Code: "proof_missing", File: r.ProofName(), Message: "the proof of an entry that an exception or a severity names is not there"})
		}
	}
	for _, f := range v.manifest.Files {
		if !expected[f.Name] && !v.ofLog(f.Name) {
			v.problem(Problem{Code: "file_unknown", File: f.Name, Message: f.Name + " has no place in a package"})
		}
	}
	for _, c := range facts.Checks {
		v.Exceptions += len(c.Exceptions)
		if c.NotEvaluated != "" {
			v.NotEvaluated++
		}
	}
}

// ofLog reports whether a file is one of those that a log of its size has.
func (v *verifier) ofLog(name string) bool {
	for _, l := range v.scope.Logs {
		rest, ok := strings.CutPrefix(name, layout.LogDir(l.Epoch)+"/")
		if ok {
			return strings.HasPrefix(rest, "tile/") || rest == "checkpoint" || rest == "checkpoints.txt"
		}
	}
	return false
}

func (v *verifier) judgeIPE(name string, p derive.Population, facts *derive.Facts, made derive.Hashes) {
	var d layout.IPE
	b, err := v.files.Read(name, maxDescribe)
	if err == nil {
		err = layout.Unmarshal(b, &d)
	}
	if err != nil {
		v.problem(Problem{Code: "ipe_invalid", File: name, Message: err.Error()})
		return
	}
	files := map[string]string{p.JSONL: made[p.JSONL]}
	for _, f := range p.Files {
		files[f] = made[f]
	}
	var ties []derive.TieOut
	for _, t := range facts.TieOuts {
		if t.Population == p.ID || t.Population == "" {
			ties = append(ties, t)
		}
	}
	rows, err := v.countRows(p.Files)
	if err != nil || d.RowCount != p.Rows || rows != p.Rows || !maps.Equal(d.FileSHA256, files) || d.Query.Text != p.Query || !slices.Equal(d.CountByDay, p.Days) && len(d.CountByDay)+len(p.Days) > 0 {
		v.problem(Problem{Code: "ipe_differs", File: name, Expected: fmt.Sprintf("%d rows", p.Rows), Got: fmt.Sprintf("%d rows stated, %d in the CSV", d.RowCount, rows), Message: "the description does not fit the population"})
	}
	n := len(d.TieOuts) - len(ties) // the first are the rows, counted in different ways
	if n < 1 || slices.ContainsFunc(d.TieOuts[:max(n, 0)], func(t derive.TieOut) bool { return t.CountA != p.Rows || t.CountB != p.Rows || t.Delta != 0 }) || !slices.EqualFunc(d.TieOuts[n:], ties, func(a, b derive.TieOut) bool { a.Population, b.Population = "", ""; return a == b }) {
		v.problem(Problem{Code: "ipe_differs", File: name, Message: "the tie-outs are not those that the log gives"})
	}
}

func (v *verifier) countRows(names []string) (int64, error) {
	var rows int64
	for _, name := range names {
		in, err := v.files.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return rows, err
		}
		if err != nil {
			return rows, err
		}
		n, err := derive.CountRows(in)
		in.Close()
		if err != nil {
			return rows, err
		}
		rows += n
	}
	return rows, nil
}

// judgeTime reports what is intact and incomplete.
func (v *verifier) judgeTime(facts *derive.Facts) {
	v.Restarts, v.Gaps = facts.Restarts, 0
	for _, c := range facts.Checks {
		switch c.ID {
		case "COV-01":
			v.Gaps = len(c.Exceptions)
		case "INT-05":
			for _, e := range c.Exceptions {
				v.Regressions += int(e.Count)
			}
		}
	}
	v.MaxGap.Seconds = int64(facts.MaxGap.Duration() / time.Second)
	if v.Gaps > 0 {
		v.MaxGap.Start, v.MaxGap.End = facts.MaxGap.Start.Format(time.RFC3339), facts.MaxGap.End.Format(time.RFC3339)
		v.incomplete("%d intervals without a sign of life of an instance: COV-01", v.Gaps)
	}
	if last, err := time.Parse(time.RFC3339Nano, facts.Found.Last); err != nil || last.Before(v.scope.Params.To) {
		v.incomplete("the log in the package ends %s, before the window does: IPE-05", facts.Found.Last)
	}
	if n := len(facts.Missing); n > 0 {
		v.incomplete("%d policy texts that were in force are not in the package: CHG-01", n)
	}
	for _, t := range facts.TieOuts {
		if t.Delta != 0 && !t.Tolerated {
			v.incomplete("tie-out %q: %d and %d: IPE-01", t.Name, t.CountA, t.CountB)
		}
	}
	if v.Regressions > 0 {
		v.incomplete("%d times the clock went back: INT-05", v.Regressions)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
