package book_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/book/verify"
)

// grow appends n entries to the book of a data directory and closes it.
func grow(t testing.TB, data string, n int) {
	t.Helper()
	b := open(t, data, book.Options{Durability: book.Balanced})
	fill(t, b, n)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// Whoever has the data directory and the signing key can make books that are right
// in themselves. The checkpoints that somebody else kept tell them from the real one.
func TestWhatIsAnchoredIsNotRewrittenByWhoHoldsTheKey(t *testing.T) {
	const early, late = 400, 700
	data := t.TempDir()
	grow(t, data, early)
	backup := copyData(t, data)
	first := kept(t, data)
	grow(t, data, late-early)
	last := kept(t, data)
	trust := keyIn(t, data).Verifier()

	cases := []struct {
		attack string
		do     func(t *testing.T) (data string)
		bare   int // exit code without an anchor
		first  int // with the early one
		last   int // with the late one
	}{
		{"none", func(t *testing.T) string { return data }, verify.ExitIncomplete, verify.ExitIncomplete, verify.ExitIntact},
		{"rewrite a suffix of the same length", func(t *testing.T) string {
			other := copyData(t, backup)
			grow(t, other, late-early)
			return other
		}, verify.ExitIncomplete, verify.ExitIncomplete, verify.ExitFailed},
		{"rewrite the whole, of the same length", func(t *testing.T) string {
			other := copyData(t, backup)
			os.RemoveAll(filepath.Join(other, "book"))
			grow(t, other, late)
			return other
		}, verify.ExitIncomplete, verify.ExitFailed, verify.ExitFailed},
		{"roll everything back to a backup", func(t *testing.T) string { return backup },
			verify.ExitIncomplete, verify.ExitIntact, verify.ExitFailed},
		{"roll the checkpoints and tiles back, keep the journal", func(t *testing.T) string {
			other := copyData(t, data)
			for _, f := range []string{book.CheckpointFile, book.HistoryFile, "tile"} {
				os.RemoveAll(filepath.Join(other, "book", "1", f))
				os.Rename(filepath.Join(copyData(t, backup), "book", "1", f), filepath.Join(other, "book", "1", f))
			}
			return other
		}, verify.ExitIncomplete, verify.ExitIntact, verify.ExitFailed}, // the unsigned tail is younger than a minute
		{"start over with an empty book", func(t *testing.T) string {
			other := copyData(t, backup)
			os.RemoveAll(filepath.Join(other, "book"))
			grow(t, other, 0)
			return other
		}, verify.ExitIncomplete, verify.ExitFailed, verify.ExitFailed},
	}
	for _, c := range cases {
		t.Run(c.attack, func(t *testing.T) {
			data := c.do(t)
			for _, with := range []struct {
				name    string
				anchors []verify.Anchor
				want    int
			}{{"no anchor", nil, c.bare}, {"the early anchor", first, c.first}, {"the late anchor", last, c.last}} {
				r := report(t, data, trust, with.anchors...)
				onlyAnchors := r.Exit != verify.ExitFailed || len(r.Counts) == 1 && r.Counts["anchor"] == 1
				if r.Exit != with.want || !onlyAnchors {
					r.WriteText(t.Output())
					t.Errorf("%s: exit %d, want %d; kinds %v", with.name, r.Exit, with.want, r.Counts)
				}
			}
		})
	}
}

func TestEveryEpochIsAnchoredForItself(t *testing.T) {
	data := t.TempDir()
	grow(t, data, 300)
	if err := os.Remove(journalPath(data)); err != nil {
		t.Fatal(err)
	}
	grow(t, data, 20) // goes on in a new epoch, after the loss
	anchors := kept(t, data)
	if len(anchors) != 2 {
		t.Fatalf("%d epochs", len(anchors))
	}
	trust := keyIn(t, data).Verifier()
	if r := report(t, data, trust, anchors...); r.Anchors.Given != 2 || r.Anchors.Valid != 2 || r.Anchors.Unanchored != 0 || r.Counts["anchor"] != 0 {
		r.WriteText(t.Output())
		t.Error("both anchored")
	}
	if r := report(t, data, trust, anchors[0]); r.Anchors.Valid != 1 || r.Anchors.Size != 300 || r.Anchors.Unanchored != 20 {
		r.WriteText(t.Output())
		t.Error("only the first epoch anchored")
	}
	os.RemoveAll(filepath.Join(data, "book", "2"))
	if r := report(t, data, trust, anchors...); r.Exit != verify.ExitFailed || r.Counts["anchor"] != 1 {
		r.WriteText(t.Output())
		t.Error("the second epoch was taken away")
	}
}

// The journal and its stored hashes were altered together, the tiles were not: the
// anchor, like a checkpoint, tells which of them was signed.
func TestAnAnchorTellsWhichOfJournalAndTilesIsRight(t *testing.T) {
	data := story(t)
	anchors := kept(t, data)
	for s, err := range c2sp.History(bytes.NewReader(read(t, filepath.Join(data, "book", "1", book.HistoryFile)))) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(s.Note, []byte("\n400\n")) {
			anchors = append(anchors, verify.Anchor{File: "kept", Note: s.Note})
		}
	}
	rewrite(t, data, 304)
	r := report(t, data, keyIn(t, data).Verifier(), anchors...)
	if r.Exit != verify.ExitFailed || r.Anchors.Valid != 2 || r.Logs[0].Altered != 1 || !hasSeq(r, "altered", 304) || r.Counts["checkpoint"] != 0 {
		r.WriteText(t.Output())
		t.Errorf("exit %d, kinds %v", r.Exit, r.Counts)
	}
}
