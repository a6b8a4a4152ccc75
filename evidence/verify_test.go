package evidence_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook"
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

func TestABookThatHadToBeginAnewIsExportedWhole(t *testing.T) {
	s := newScenario(t)
	s.to(start)
	begin := guardbook.StartEntry{Boot: "b", Clean: true, Previous: -1, Epoch: 1, Key: s.key.Verifier()}
	s.add("", guardbook.TypeStart, begin)
	s.decide("", nil)
	if err := s.book.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	s.book, err = book.Open(filepath.Join(s.data, "book"), book.Options{Key: s.key, Durability: book.Balanced, SealEvery: time.Hour, Now: s.now,
		HighWater: func(string) int64 { return 10 }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.book.Close()
	if s.book.Opened().Epoch != 2 {
		t.Fatalf("epoch %d", s.book.Opened().Epoch)
	}
	begin.Epoch, begin.Clean, begin.Lost, begin.Boot = 2, false, s.book.Opened().Lost, "b2"
	s.to(start.Add(time.Hour))
	s.add("", guardbook.TypeStart, begin)
	s.decide("", nil)
	s.to(end)
	s.add("", guardbook.TypeStop, guardbook.StopEntry{Boot: "b2", Reason: "signal"})
	s.seal()
	dir := s.build(nil)
	r := check(t, s, dir)
	if r.ExitCode != verify.ExitIncomplete || len(r.Logs) != 2 || r.Logs[0].Entries+r.Logs[1].Entries != 5 || r.Proofs.Valid != r.Proofs.Checked {
		t.Errorf("exit %d, logs %+v, problems %v", r.ExitCode, r.Logs, r.Problems)
	}
	if rows := table(t, dir, "CC7.2/population.csv"); len(rows) != 2 || rows[0]["log"] == rows[1]["log"] {
		t.Errorf("rows: %v", rows)
	}
}

func TestAPackageIsTrustedByFingerprint(t *testing.T) {
	s := newScenario(t)
	s.play()
	dir := s.build(nil)
	if r := checkWith(t, s.key.Fingerprint(), dir); r.ExitCode != verify.ExitIncomplete || !r.Manifest.Pinned || r.Manifest.Signature != "ok" {
		t.Errorf("exit %d: %v", r.ExitCode, r.Problems)
	}
	if r := checkWith(t, "sha256:00", dir); r.ExitCode != verify.ExitBroken {
		t.Errorf("another fingerprint: exit %d", r.ExitCode)
	}
}

func TestWhatIsNoPackageIsRefused(t *testing.T) {
	dir := t.TempDir()
	files, err := verify.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if _, err := verify.Verify(t.Context(), files, verify.Options{}); !errors.Is(err, verify.ErrNotPackage) {
		t.Errorf("error: %v", err)
	}
	if _, err := verify.OpenFiles(filepath.Join(dir, "none")); err == nil {
		t.Error("a package that is not there was opened")
	}
}
