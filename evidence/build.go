package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// Options says which package is built, and who builds it. From, To and Key are
// needed.
type Options struct {
	Organisation string    // default: "organisation"
	Environment  string    // default: "production"
	From, To     time.Time // half-open, UTC, by when things occurred
	Key          Key
	Tool         derive.Tool

	// Who and how, for the statements about the extraction; texts for people.
	By, Role, AuthMethod, Host, CommandLine string
	// Recorded says whether this build will be an entry of the book.
	Recorded string

	// Narratives replaces the text that management is to write, by criterion.
	Narratives map[string]string
	// Archive, if any, is asked for a count of its own.
	Archive Counter
	// Size builds as of an earlier checkpoint of the newest log; 0: the last one.
	Size int64
	// MaxProofs and RowsPerFile: see derive.Params; 0: the default.
	MaxProofs, RowsPerFile int

	Now func() time.Time // default: time.Now
}

func (o *Options) complete() error {
	if o.Key == nil {
		return errors.New("build evidence: no signing key")
	}
	if !o.From.Before(o.To) {
		return fmt.Errorf("build evidence: the window's start %s is not before its end %s", o.From.UTC().Format(time.RFC3339), o.To.UTC().Format(time.RFC3339))
	}
	o.From, o.To = o.From.UTC(), o.To.UTC()
	for _, d := range []struct {
		value *string
		def   string
	}{
		{&o.Organisation, "organisation"}, {&o.Environment, "production"}, {&o.By, "unknown"}, {&o.Role, "unknown"},
		{&o.AuthMethod, "unknown"}, {&o.Host, "unknown"}, {&o.Recorded, "no: built outside a running server"},
	} {
		if *d.value == "" {
			*d.value = d.def
		}
	}
	if o.MaxProofs == 0 {
		o.MaxProofs = derive.MaxProofs
	}
	if o.RowsPerFile == 0 {
		o.RowsPerFile = derive.RowsPerFile
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Package says what was built.
type Package struct {
	ID             string           `json:"id"`   // the same for the same log, window and program
	Name           string           `json:"name"` // for a folder or a zip
	ManifestSHA256 string           `json:"manifest_sha256"`
	From           time.Time        `json:"from"`
	To             time.Time        `json:"to"`
	Files          int              `json:"files"`
	Entries        int64            `json:"entries"` // of all logs
	Rows           map[string]int64 `json:"rows"`    // by population
	Exceptions     int              `json:"exceptions"`
	NotEvaluated   int              `json:"checks_not_evaluated"`
}

// Build writes a package into a directory that does not exist yet, or is empty.
// It needs room for the log once more while it works. When it fails, nothing is
// left behind.
func Build(ctx context.Context, src Source, o Options, dir string) (*Package, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return nil, fmt.Errorf("build evidence: %s is not empty", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	scratch, err := os.MkdirTemp(parent, ".evidence-*")
	if err != nil {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	defer os.RemoveAll(scratch)
	work := filepath.Join(scratch, "package")
	p, err := (&builder{src: src, o: o}).build(ctx, scratch, work)
	if err != nil {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	if err := os.Rename(work, dir); err != nil {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	return p, nil
}

// BuildZip builds a package and writes it as a zip. Nothing is written before the
// package is complete; begin, if any, is called at that moment.
func BuildZip(ctx context.Context, src Source, o Options, w io.Writer, begin func(*Package)) (*Package, error) {
	scratch, err := os.MkdirTemp("", "guardbook-evidence-*")
	if err != nil {
		return nil, fmt.Errorf("build evidence: %w", err)
	}
	defer os.RemoveAll(scratch)
	dir := filepath.Join(scratch, "package")
	p, err := Build(ctx, src, o, dir)
	if err != nil {
		return nil, err
	}
	if begin != nil {
		begin(p)
	}
	return p, WriteZip(ctx, dir, p.Name, w)
}

type builder struct {
	src   Source
	o     Options
	f     *folder
	logs  []*logExport
	scope layout.ScopeFile
	facts *derive.Facts
}

func (b *builder) build(ctx context.Context, scratch, dir string) (*Package, error) {
	var err error
	if b.logs, err = chooseLogs(ctx, b.src, b.o.Key.Verifier(), b.o.Size); err != nil {
		return nil, err
	}
	params := derive.Params{Organisation: b.o.Organisation, Environment: b.o.Environment, From: b.o.From, To: b.o.To,
		Key: b.o.Key.Verifier(), Tool: b.o.Tool, RowsPerFile: b.o.RowsPerFile, MaxProofs: b.o.MaxProofs}
	var entries int64
	for _, l := range b.logs {
		entries += l.size
		params.Unsealed += l.beyond
	}
	if entries == 0 {
		return nil, errors.New("no checkpoint signs an entry yet: start the server, or wait a few seconds")
	}
	if b.o.Archive != nil {
		last := b.logs[len(b.logs)-1]
		if params.Archive, err = b.o.Archive.CountEntries(ctx, b.o.From, b.o.To, last.Origin, last.size); err != nil {
			return nil, err
		}
	}
	if b.f, err = newFolder(dir); err != nil {
		return nil, err
	}
	defer b.f.root.Close()
	var logs []derive.Log
	for _, l := range b.logs {
		defer l.close()
		if err := l.export(ctx, b.src, b.f, scratch); err != nil {
			return nil, err
		}
		logs = append(logs, l.fromFolder(b.f))
	}
	if b.facts, err = derive.Run(ctx, derive.Input{Params: params, Logs: logs, Text: b.src.Text}, b.f); err != nil {
		return nil, err
	}
	for i := range b.facts.Logs {
		if f := &b.facts.Logs[i]; f.Size != f.Sealed {
			return nil, fmt.Errorf("log %s does not fit its checkpoints from size %d on: guardbook book verify tells more", f.Origin, f.Sealed)
		}
	}
	rerun, err := b.rerun(ctx, params)
	if err != nil {
		return nil, err
	}
	id := b.id(params)
	now := b.o.Now().UTC()
	b.scope = b.scopeFile(id, now, params)
	for _, write := range []func() error{b.texts, b.proofs, b.keys, b.narratives,
		func() error { return b.ipe(ctx, now, rerun) },
		func() error { return b.f.describe(layout.Scope, b.scope) },
		func() error { return b.f.put(layout.Readme, []byte(b.readme())) },
	} {
		if err := write(); err != nil {
			return nil, err
		}
	}
	p := &Package{ID: id, Name: layout.Name(b.o.Organisation, b.o.Environment, b.o.From, b.o.To, id), From: b.o.From, To: b.o.To,
		Files: len(b.f.files) + 3, Entries: entries, Rows: map[string]int64{}}
	for _, pop := range b.facts.Populations {
		p.Rows[pop.ID] = pop.Rows
	}
	for _, c := range b.facts.Checks {
		p.Exceptions += len(c.Exceptions)
		if c.NotEvaluated != "" {
			p.NotEvaluated++
		}
	}
	p.ManifestSHA256, err = b.f.seal(id, b.o.Key)
	return p, err
}

// rerun makes every listing once more, from the book instead of the exported
// bundles, and compares.
func (b *builder) rerun(ctx context.Context, params derive.Params) (hashes derive.Hashes, err error) {
	var logs []derive.Log
	for _, l := range b.logs {
		logs = append(logs, l.fromSource(b.src))
	}
	hashes = derive.Hashes{}
	if _, err := derive.Run(ctx, derive.Input{Params: params, Logs: logs, Text: b.src.Text}, hashes); err != nil {
		return nil, fmt.Errorf("make the listings a second time: %w", err)
	}
	for name, sum := range hashes {
		if f := b.f.files[name]; f == nil || f.SHA256 != sum {
			return nil, fmt.Errorf("%s came out differently when it was made a second time", name)
		}
	}
	return hashes, nil
}

// id names a package by what it is made of, not by when it was built.
func (b *builder) id(p derive.Params) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%s\n%s %s %t\n", layout.Format, p.Organisation, p.Environment, p.From.Format(time.RFC3339Nano), p.To.Format(time.RFC3339Nano),
		p.Tool.Version, p.Tool.Commit, p.Tool.Dirty)
	for _, l := range b.logs {
		fmt.Fprintf(h, "%s\n%d\n%s\n", l.Origin, l.size, l.root)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

func (b *builder) scopeFile(id string, now time.Time, params derive.Params) layout.ScopeFile {
	s := layout.ScopeFile{Format: layout.Format, Package: id, BuiltAt: now.Format(time.RFC3339), BuiltBy: b.o.By, System: "Guardbook, runtime security for AI agents",
		Params: params, TimeZone: "UTC", Criteria: layout.Narratives, Agents: notNil(b.facts.Agents), Instances: notNil(b.facts.Instances),
		FoundFirst: b.facts.Found.First, FoundLast: b.facts.Found.Last, ProofsLeft: b.facts.ProofsLeft, MissingTexts: notNil(b.facts.Missing), Recorded: b.o.Recorded}
	for _, l := range b.logs {
		s.Logs = append(s.Logs, layout.LogScope{Epoch: l.Epoch, Origin: l.Origin, Size: l.size, Root: rootText(l.root)})
	}
	return s
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// texts copies the policy texts that were live in the window.
func (b *builder) texts() error {
	for _, h := range b.facts.Texts {
		src, err := b.src.Text(h)
		if err != nil {
			continue // an exception says so: CHG-01
		}
		if sum := sha256.Sum256(src); hex.EncodeToString(sum[:]) != h {
			return fmt.Errorf("policy text %s does not have that hash any more", h)
		}
		if err := b.f.put(layout.Blob(h), src); err != nil {
			return err
		}
	}
	return nil
}

// proofs writes the inclusion proofs.
func (b *builder) proofs() error {
	byEpoch := map[int]*logExport{}
	for _, l := range b.logs {
		byEpoch[l.Epoch] = l
	}
	for _, r := range b.facts.Proofs {
		p, err := byEpoch[r.Epoch].prove(r.Seq)
		if err != nil {
			return err
		}
		if err := b.f.put(r.ProofName(), p); err != nil {
			return err
		}
	}
	return nil
}

// keys writes which key signs which part of the log.
func (b *builder) keys() error {
	k := layout.KeysFile{Note: "For reading only. Trust the key that you were given by another way: guardbook evidence verify --trust KEY."}
	for _, l := range b.logs {
		v, fingerprint, err := derive.DescribeKey(b.o.Key.Verifier(), l.Origin)
		if err != nil {
			return err
		}
		k.Keys = append(k.Keys, layout.Key{Epoch: l.Epoch, Origin: l.Origin, Verifier: v, Fingerprint: fingerprint, FirstSize: 0, LastSize: l.size})
	}
	return b.f.describe(layout.Keys, k)
}

// same reports whether two sets of hashes are equal.
func same(a, b map[string]string) bool { return maps.Equal(a, b) }

// countRows counts the records of a CSV file as a spreadsheet would, without the header.
func (b *builder) countRows(name string) (int64, error) {
	in, err := b.f.root.Open(name)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	return derive.CountRows(in)
}

// rawCounts counts the rows of every population over the exported log, reading no
// more of an entry than the populations' queries name: a second way to the
// number of rows.
func (b *builder) rawCounts(ctx context.Context) (map[string]int64, error) {
	n := map[string]int64{}
	for _, l := range b.logs {
		err := l.fromFolder(b.f).Entries(ctx, func(raw []byte) error {
			for _, id := range derive.Belongs(raw, b.o.From, b.o.To) {
				n[id]++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}
