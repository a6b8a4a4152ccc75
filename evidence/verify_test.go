package evidence_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence/verify"
)

// check verifies a package with the scenario's own key.
func check(t *testing.T, s *scenario, where string, anchors ...[]byte) *verify.Report {
	t.Helper()
	return checkWith(t, s.key.Verifier(), where, anchors...)
}

func checkWith(t *testing.T, trust, where string, anchors ...[]byte) *verify.Report {
	t.Helper()
	files, err := verify.OpenFiles(where)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	r, err := verify.Verify(t.Context(), files, verify.Options{Trust: trust, Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func signer(t *testing.T, k *book.Key) note.Signer {
	t.Helper()
	s, err := k.Signer(1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASampleIsTheSameForTheSameSeed(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(nil)
	files, err := verify.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	draw := func(seed string, n int) *verify.Selection {
		sel, err := verify.Sample(t.Context(), files, "CC7.2", seed, n)
		if err != nil {
			t.Fatal(err)
		}
		return sel
	}
	a, b, all := draw("auditor-7", 5), draw("auditor-7", 5), draw("auditor-7", 1000)
	if !slices.Equal(a.Rows, b.Rows) || len(a.Rows) != 5 || !slices.Equal(all.Rows[:5], a.Rows) || int64(len(all.Rows)) != all.Size {
		t.Errorf("samples: %v %v of %d", a.Rows, b.Rows, all.Size)
	}
	if c := draw("other", 5); slices.Equal(a.Rows, c.Rows) {
		t.Error("another seed draws the same rows")
	}
	out := filepath.Join(t.TempDir(), "sample")
	if err := verify.WriteSample(t.Context(), files, a, out); err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(s.key.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range a.Rows {
		raw, err := os.ReadFile(filepath.Join(out, row.RowID, "entry.json"))
		if err != nil {
			t.Fatal(err)
		}
		proof, err := os.ReadFile(filepath.Join(out, row.RowID, "entry.tlog-proof"))
		if err != nil {
			t.Fatal(err)
		}
		if _, at, err := c2sp.CheckProof(proof, raw[:len(raw)-1], key); err != nil || at != row.Seq {
			t.Errorf("proof of entry %d: %d, %v", row.Seq, at, err)
		}
	}
}
