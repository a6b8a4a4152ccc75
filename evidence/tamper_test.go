package evidence_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence"
	"github.com/guardbook/guardbook/evidence/layout"
	"github.com/guardbook/guardbook/evidence/verify"
)

// edit changes a file of a package in place.
func edit(t *testing.T, dir, name string, change func([]byte) []byte) {
	t.Helper()
	p := filepath.Join(dir, name)
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	out := change(b)
	if bytes.Equal(out, b) {
		t.Fatalf("%s was not changed", name)
	}
	if err := os.WriteFile(p, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

func swap(from, to string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
}

// reseal makes manifest, sums and signature anew, as an insider with the key
// could, or somebody else with a key of his own.
func reseal(t *testing.T, dir string, key evidence.Key) {
	t.Helper()
	var old layout.ManifestFile
	b, err := os.ReadFile(filepath.Join(dir, layout.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &old); err != nil {
		t.Fatal(err)
	}
	m := layout.ManifestFile{Format: old.Format, Package: old.Package}
	var sums strings.Builder
	files := tree(t, dir)
	for name, content := range files {
		if name == layout.Manifest || name == layout.Sums || name == layout.Signature {
			continue
		}
		sum := sha256.Sum256([]byte(content))
		m.Files = append(m.Files, layout.File{Name: name, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(m.Files, func(a, b layout.File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range m.Files {
		fmt.Fprintf(&sums, "%s  %s\n", f.SHA256, f.Name)
	}
	if b, err = layout.Marshal(m); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), layout.Manifest)
	sig, err := key.Sign(layout.ManifestNote(m.Package, b))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{layout.Manifest: b, layout.Sums: []byte(sums.String()), layout.Signature: sig} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// bundle is the one entry bundle of the scenario's log.
func bundle(t *testing.T, dir string) string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, "integrity/1/tile/entries/000.p/*"))
	if err != nil || len(m) != 1 {
		t.Fatalf("bundles: %v %v", m, err)
	}
	rel, _ := filepath.Rel(dir, m[0])
	return rel
}

// entriesOf takes a bundle apart, and bundleOf puts one together.
func entriesOf(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for len(b) > 0 {
		raw, rest, err := c2sp.NextEntry(b)
		if err != nil {
			t.Fatal(err)
		}
		out, b = append(out, raw), rest
	}
	return out
}

func bundleOf(entries [][]byte) []byte {
	var b []byte
	for _, e := range entries {
		b = c2sp.AppendEntry(b, e)
	}
	return b
}

func TestEveryKindOfTamperingIsFound(t *testing.T) {
	s := newScenario(t)
	s.play()
	clean := s.build(nil)
	other, _, err := book.LoadKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	const insider, outsider, nobody = "insider", "outsider", ""
	entries := func(t *testing.T, dir string, change func([][]byte) [][]byte) {
		edit(t, dir, bundle(t, dir), func(b []byte) []byte { return bundleOf(change(entriesOf(t, b))) })
	}
	for _, tt := range []struct {
		name   string
		who    string // makes manifest and signature anew
		change func(t *testing.T, dir string)
		codes  []string
	}{
		{"a cell of a population is edited", nobody, func(t *testing.T, dir string) { edit(t, dir, "CC7.2/population.csv", swap(`"block"`, `"allow"`)) }, []string{"file_altered", "listing_differs"}},
		{"a row is taken out of a population, and the package sealed again with the key", insider, func(t *testing.T, dir string) {
			edit(t, dir, "CC7.2/population.csv", func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] })
		}, []string{"listing_differs", "ipe_differs"}},
		{"an exception is taken out, and the package sealed again with the key", insider, func(t *testing.T, dir string) {
			edit(t, dir, "00-summary/exceptions.csv", swap("released after containment", "nothing"))
		}, []string{"listing_differs"}},
		{"a count is edited in ipe.json, and the package sealed again with the key", insider, func(t *testing.T, dir string) {
			edit(t, dir, "CC7.2/population.ipe.json", swap(`"row_count": 17`, `"row_count": 16`))
		}, []string{"ipe_differs"}},
		{"a tie-out is made to fit, and the package sealed again with the key", insider, func(t *testing.T, dir string) {
			edit(t, dir, "CC8.1/population.ipe.json", swap(`"count_b": 1`, `"count_b": 2`))
		}, []string{"ipe_differs"}},
		{"an entry is edited", nobody, func(t *testing.T, dir string) {
			edit(t, dir, bundle(t, dir), swap(`"decision":"block"`, `"decision":"allow"`))
		}, []string{"file_altered", "entry_altered", "root_differs", "log_differs", "listing_differs"}},
		{"an entry is edited with its tile, and the package sealed again with the key", insider, func(t *testing.T, dir string) {
			edit(t, dir, bundle(t, dir), swap(`"decision":"block"`, `"decision":"allow"`))
			retile(t, dir)
		}, []string{"root_differs", "log_differs", "listing_differs", "proof_invalid"}},
		{"an entry has a name twice", insider, func(t *testing.T, dir string) {
			edit(t, dir, bundle(t, dir), swap(`"v":1`, `"v":1,"v":1`))
		}, []string{"bundle_truncated"}},
		{"an entry of the right length has a name twice", insider, func(t *testing.T, dir string) {
			entries(t, dir, func(e [][]byte) [][]byte {
				e[3] = bytes.Replace(e[3], []byte(`"v":1`), []byte(`"v":1,"v":1`), 1)
				return e
			})
		}, []string{"entry_unreadable", "entry_altered", "root_differs"}},
		{"two entries change places", insider, func(t *testing.T, dir string) {
			entries(t, dir, func(e [][]byte) [][]byte { e[8], e[9] = e[9], e[8]; return e })
		}, []string{"entry_altered", "entry_misplaced", "root_differs"}},
		{"an entry is put in and the last one dropped", insider, func(t *testing.T, dir string) {
			entries(t, dir, func(e [][]byte) [][]byte { return slices.Insert(e[:len(e)-1], 8, e[7]) })
		}, []string{"entry_altered", "entry_misplaced", "root_differs"}},
		{"the last entries are dropped", insider, func(t *testing.T, dir string) {
			entries(t, dir, func(e [][]byte) [][]byte { return e[:len(e)-3] })
		}, []string{"bundle_truncated", "log_short", "log_differs"}},
		{"the bundle is deleted", insider, func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, bundle(t, dir))) }, []string{"bundle_missing", "log_short"}},
		{"the bundle is cut inside an entry", nobody, func(t *testing.T, dir string) {
			edit(t, dir, bundle(t, dir), func(b []byte) []byte { return b[:len(b)-5] })
		}, []string{"file_altered", "bundle_truncated", "log_short"}},
		{"a tile is cut", nobody, func(t *testing.T, dir string) {
			edit(t, dir, strings.Replace(bundle(t, dir), "entries", "0", 1), func(b []byte) []byte { return b[:len(b)-32] })
		}, []string{"file_altered", "tile_damaged"}},
		{"the checkpoints are deleted", insider, func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "integrity/1/checkpoints.txt")) }, []string{"checkpoints_missing", "log_unsealed"}},
		{"the checkpoint's root is edited", insider, func(t *testing.T, dir string) {
			edit(t, dir, "integrity/1/checkpoints.txt", func(b []byte) []byte {
				lines := strings.SplitN(string(b), "\n", 4)
				lines[2] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
				return []byte(strings.Join(lines, "\n"))
			})
		}, []string{"checkpoint_unsigned"}},
		{"a proof is edited", insider, func(t *testing.T, dir string) {
			m, _ := filepath.Glob(filepath.Join(dir, "integrity/proofs/*"))
			rel, _ := filepath.Rel(dir, m[0])
			edit(t, dir, rel, swap("index ", "index 1"))
		}, []string{"proof_invalid"}},
		{"a proof is deleted", insider, func(t *testing.T, dir string) {
			m, _ := filepath.Glob(filepath.Join(dir, "integrity/proofs/*"))
			os.Remove(m[0])
		}, []string{"proof_missing"}},
		{"a policy text is edited", insider, func(t *testing.T, dir string) {
			edit(t, dir, "policies/blobs/"+s.sum+".yaml", swap("tables: [products]", "tables: [products, users]"))
		}, []string{"policy_altered"}},
		{"a policy text is deleted", nobody, func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "policies/blobs/"+s.sum+".yaml")) }, []string{"file_missing", "listing_differs"}},
		{"a file is put in", nobody, func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, "CC7.2/approved.csv"), []byte("x"), 0o644)
		}, []string{"file_unlisted"}},
		{"a file is put in and listed", insider, func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, "CC7.2/approved.csv"), []byte("x"), 0o644)
		}, []string{"file_unknown"}},
		{"a file is replaced by a link", nobody, func(t *testing.T, dir string) {
			p := filepath.Join(dir, "CC7.2/population.csv")
			os.Rename(p, filepath.Join(t.TempDir(), "x"))
			os.Symlink("/etc/hostname", p)
		}, []string{"bad_file", "file_missing"}},
		{"the window is edited", insider, func(t *testing.T, dir string) {
			edit(t, dir, layout.Scope, swap(`"to": "2026-03-02`, `"to": "2026-03-01T01`))
		}, []string{"scope_invalid"}},
		{"the window is narrowed", insider, func(t *testing.T, dir string) {
			edit(t, dir, layout.Scope, swap(`"to": "2026-03-02T00:00:00Z"`, `"to": "2026-03-01T12:00:00Z"`))
		}, []string{"listing_differs"}},
		{"the manifest has a name twice", nobody, func(t *testing.T, dir string) {
			edit(t, dir, layout.Manifest, swap(`"format"`, `"format": "x", "format"`))
		}, []string{"manifest_invalid"}},
		{"the manifest is edited", nobody, func(t *testing.T, dir string) { edit(t, dir, layout.Manifest, swap(`"size": `, `"size": 1`)) }, []string{"signature_invalid", "sums_differ", "file_altered"}},
		{"another key signs the package", outsider, func(t *testing.T, dir string) {}, []string{"signature_invalid"}},
		{"another key signs the package and is named in it", outsider, func(t *testing.T, dir string) {
			edit(t, dir, layout.Scope, swap(s.key.Verifier(), other.Verifier()))
		}, []string{"signature_invalid", "key_mismatch"}},
		{"the signature is deleted", nobody, func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, layout.Signature)) }, []string{"signature_missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "p")
			if err := os.CopyFS(dir, os.DirFS(clean)); err != nil {
				t.Fatal(err)
			}
			tt.change(t, dir)
			switch tt.who {
			case insider:
				reseal(t, dir, s.key)
			case outsider:
				reseal(t, dir, other)
			}
			r := check(t, s, dir)
			if r.ExitCode != verify.ExitBroken || r.Result != "NOT INTACT" {
				t.Errorf("exit %d, %s", r.ExitCode, r.Result)
			}
			for _, code := range tt.codes {
				if r.Counts[code] == 0 {
					t.Errorf("%s is not told; told were %v", code, r.Counts)
				}
			}
			var text bytes.Buffer
			if err := r.Text(&text); err != nil || !strings.Contains(text.String(), "NOT INTACT (exit 1)") {
				t.Errorf("text: %v\n%s", err, text.String())
			}
		})
	}
}

// retile writes the hashes of the entries into the lowest tile.
func retile(t *testing.T, dir string) {
	t.Helper()
	name := bundle(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	var tile []byte
	for _, e := range entriesOf(t, b) {
		h := sha256.Sum256(append([]byte{0}, e...))
		tile = append(tile, h[:]...)
	}
	edit(t, dir, strings.Replace(name, "entries", "0", 1), func([]byte) []byte { return tile })
}

func TestAnAlteredEntryIsNamed(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(nil)
	edit(t, dir, bundle(t, dir), swap(`"reason":"leaks"`, `"reason":"drill"`))
	for _, p := range check(t, s, dir).Problems {
		if p.Code == "entry_altered" {
			raw, _ := os.ReadFile(filepath.Join(dir, p.File))
			if e, _, err := c2sp.NextEntry(raw[p.Offset:]); err != nil || !bytes.Contains(e, []byte(`"drill"`)) || p.Expected == p.Got || p.Expected == "" {
				t.Errorf("problem: %+v (%v)", p, err)
			}
			return
		}
	}
	t.Error("no problem names the entry")
}

func TestAnIntactPackageIsIncompleteWithoutAnAnchor(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(nil)
	r := check(t, s, dir)
	if r.ExitCode != verify.ExitIncomplete || !r.Manifest.Pinned || r.Manifest.Signature != "ok" || r.Populations.Equal != r.Populations.Listings || r.Proofs.Valid != r.Proofs.Checked || r.Proofs.Valid == 0 {
		t.Errorf("report: %+v", r)
	}
	if r := checkWith(t, "", dir); r.ExitCode != verify.ExitIncomplete || r.Manifest.Pinned || !strings.Contains(strings.Join(r.Incomplete, " "), "UNPINNED") {
		t.Errorf("without --trust: exit %d %v", r.ExitCode, r.Incomplete)
	}
}

func TestACompleteAnchoredPackageIsIntact(t *testing.T) {
	s := newScenario(t)
	s.to(start.Add(-time.Minute))
	s.add("", guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: true, Previous: -1, Epoch: 1, Key: s.key.Verifier()})
	s.beats(start.Add(time.Hour+time.Minute), "b", 0)
	s.seal()
	dir := s.build(func(o *evidence.Options) { o.To = start.Add(time.Hour) })
	if r := check(t, s, dir, s.book.Checkpoint().Note); r.ExitCode != verify.ExitIntact {
		t.Errorf("exit %d: %v %v", r.ExitCode, r.Incomplete, r.Problems)
	}
}

func TestAnAnchorFindsALogThatWasWrittenAnew(t *testing.T) {
	s := newScenario(t)
	s.play()
	// The same key, another history of at least the same length: what an insider
	// could write. A checkpoint of that other history does not fit.
	anchor, err := c2sp.Sign(c2sp.Checkpoint{Origin: s.book.Origin(), Size: 20, Root: [32]byte{1}}, signer(t, s.key))
	if err != nil {
		t.Fatal(err)
	}
	r := check(t, s, s.build(nil), anchor)
	if r.ExitCode != verify.ExitBroken || r.Counts["anchor_differs"] != 1 {
		t.Errorf("exit %d: %v", r.ExitCode, r.Counts)
	}
	longer, err := c2sp.Sign(c2sp.Checkpoint{Origin: s.book.Origin(), Size: 1 << 20, Root: [32]byte{1}}, signer(t, s.key))
	if err != nil {
		t.Fatal(err)
	}
	r = check(t, s, s.build(func(o *evidence.Options) { o.To = end.Add(time.Hour) }), longer)
	if r.ExitCode != verify.ExitBroken || r.Counts["log_shorter_than_anchor"] != 1 {
		t.Errorf("exit %d: %v", r.ExitCode, r.Counts)
	}
}

func TestAZipIsVerifiedWithoutUnpacking(t *testing.T) {
	s := newScenario(t)
	s.play()
	var a, b bytes.Buffer
	dir := s.build(nil)
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := evidence.WriteZip(t.Context(), dir, "evidence-acme", w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two zips of one folder differ")
	}
	where := filepath.Join(t.TempDir(), "p.zip")
	if err := os.WriteFile(where, a.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := check(t, s, where); r.ExitCode != verify.ExitIncomplete {
		t.Errorf("exit %d: %v", r.ExitCode, r.Problems)
	}
	for _, tt := range []struct {
		name string
		add  func(*zip.Writer)
	}{
		{"a path that leads out", func(z *zip.Writer) { z.Create("evidence-acme/../../etc/cron.d/x") }},
		{"an absolute path", func(z *zip.Writer) { z.Create("/etc/passwd") }},
		{"a file twice", func(z *zip.Writer) { z.Create("evidence-acme/README.md") }},
		{"a link", func(z *zip.Writer) {
			h := &zip.FileHeader{Name: "evidence-acme/x.csv"}
			h.SetMode(os.ModeSymlink | 0o777)
			z.CreateHeader(h)
		}},
		{"a file beside the folder", func(z *zip.Writer) { z.Create("other/x.csv") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			z := zip.NewWriter(&out)
			in, err := zip.NewReader(bytes.NewReader(a.Bytes()), int64(a.Len()))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range in.File {
				if err := z.Copy(m); err != nil {
					t.Fatal(err)
				}
			}
			tt.add(z)
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			where := filepath.Join(t.TempDir(), "p.zip")
			if err := os.WriteFile(where, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := check(t, s, where); r.ExitCode != verify.ExitBroken || r.Counts["bad_file"] != 1 {
				t.Errorf("exit %d: %v", r.ExitCode, r.Counts)
			}
		})
	}
}
