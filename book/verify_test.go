package book_test

import (
	"path/filepath"
	"testing"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

// report verifies the book of a data directory.
func report(t testing.TB, data, trust string) *verify.Report {
	t.Helper()
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	root, err := verify.ParseTrust(trust)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := verify.Verify(t.Context(), r.Logs(), verify.Options{Book: "test", Trust: root})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestAnUntouchedBookIsIntact(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	for range 7 {
		fill(t, b, 111)
		if _, err := b.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, b, 5)
	rep := report(t, data, keyIn(t, data).Verifier()) // while it is open
	rep.WriteText(t.Output())
	if rep.Exit != verify.ExitIntact {
		t.Errorf("exit %d", rep.Exit)
	}
}
