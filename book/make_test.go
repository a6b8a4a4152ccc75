package book_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/guardbook/guardbook/book"
)

// A process that is killed while it makes the journal leaves files that nobody
// will miss.
func TestAJournalThatWasNeverFinishedIsMadeAnew(t *testing.T) {
	data := t.TempDir()
	epoch := filepath.Join(data, "book", "1")
	if err := os.MkdirAll(epoch, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"journal.db.new", "journal.db.new-journal", "journal.db.new-wal"} {
		if err := os.WriteFile(filepath.Join(epoch, left), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, data, book.Options{})
	defer b.Close()
	if o := b.Opened(); o.Epoch != 1 || o.Lost != "" || b.Size() != 0 {
		t.Errorf("opened as %+v with %d entries", o, b.Size())
	}
	if left, _ := filepath.Glob(filepath.Join(epoch, "*.new*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
