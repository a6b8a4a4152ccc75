package book_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

// copyData copies a data directory as it is at this moment: what a machine that
// lost its power would find.
func copyData(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "d"), os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, "d")
}

// change edits a journal behind the book's back.
func change(t testing.TB, data string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "book", "1", "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func journalPath(data string) string { return filepath.Join(data, "book", "1", "journal.db") }

func TestABookWhoseEntriesAreMissingGoesOnInANewEpoch(t *testing.T) {
	cases := []struct {
		name   string
		damage func(t *testing.T, data string)
		lost   string // part of what Opened says
	}{
		{"an older journal was put back", func(t *testing.T, data string) {
			change(t, data, "DELETE FROM entries WHERE seq >= 120")
		}, "entries 120 to 299 are missing"},
		{"the journal is another one of the same size", func(t *testing.T, data string) {
			other := t.TempDir()
			b := open(t, other, book.Options{})
			fill(t, b, 300)
			b.Close()
			bs, err := os.ReadFile(journalPath(other))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(journalPath(data), bs, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "are not those that were signed"},
		{"the journal is gone", func(t *testing.T, data string) {
			if err := os.Remove(journalPath(data)); err != nil {
				t.Fatal(err)
			}
		}, "the journal is missing; 300 entries"},
		{"the journal is no database", func(t *testing.T, data string) {
			if err := os.WriteFile(journalPath(data), bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "the journal cannot be read"},
		{"the last entry is damaged", func(t *testing.T, data string) {
			change(t, data, "UPDATE entries SET entry = cast('{}' AS BLOB) WHERE seq = 299")
		}, "the end of the journal is damaged"},
		{"the signing key is another one", func(t *testing.T, data string) {
			if err := os.Remove(filepath.Join(data, "signing-key")); err != nil {
				t.Fatal(err)
			}
		}, "not signed by key"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data := t.TempDir()
			b := open(t, data, book.Options{})
			fill(t, b, 300)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			c.damage(t, data)
			before, _ := os.ReadFile(journalPath(data))

			b = open(t, data, book.Options{})
			o := b.Opened()
			if o.Epoch != 2 || o.Previous != -1 || o.Clean || !strings.Contains(o.Lost, c.lost) {
				t.Fatalf("opened as %+v", o)
			}
			if !strings.HasSuffix(b.Origin(), "/2") {
				t.Errorf("the new log is called %s", b.Origin())
			}
			// A crash before the start entry doesn't make it forget.
			b.Close()
			b = open(t, data, book.Options{})
			if again := b.Opened(); again.Epoch != 2 || !strings.Contains(again.Lost, c.lost) {
				t.Fatalf("opened again as %+v", again)
			}
			rs, err := b.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeStart, Body: guardbook.StartEntry{Epoch: 2, Previous: -1, Lost: o.Lost}})
			if err != nil || rs[0].Seq != 0 {
				t.Fatal(rs, err)
			}
			b.Close()
			b = open(t, data, book.Options{})
			if again := b.Opened(); again.Epoch != 2 || again.Lost != "" || again.Previous != 0 {
				t.Fatalf("opened a third time as %+v", again)
			}
			after, _ := os.ReadFile(journalPath(data))
			if !bytes.Equal(before, after) {
				t.Error("the old journal was written to")
			}
		})
	}
}

// Damage in the newest part of the -wal file makes SQLite forget commits that
// were synced. Nothing signs them yet; the archive has seen them.
func TestADamagedWriteAheadLogIsNoticedByTheArchivesCursor(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	fill(t, b, 10)
	if _, err := b.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		fill(t, b, 1)
	}
	data = copyData(t, data)
	wal, err := os.OpenFile(journalPath(data)+"-wal", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := wal.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wal.WriteAt([]byte("damage"), info.Size()-5000); err != nil {
		t.Fatal(err)
	}
	wal.Close()
	os.Remove(journalPath(data) + "-shm")
	damaged, err := os.ReadFile(journalPath(data) + "-wal")
	if err != nil {
		t.Fatal(err)
	}

	b = open(t, data, book.Options{HighWater: func(log string) int64 { return 20 }})
	if o := b.Opened(); o.Epoch != 2 || !strings.Contains(o.Lost, "the archive has read 20, the journal holds 1") {
		t.Errorf("opened as %+v", o)
	}
	if after, err := os.ReadFile(journalPath(data) + "-wal"); err != nil || !bytes.Equal(after, damaged) {
		t.Errorf("the damaged -wal file was not left alone: %v", err)
	}
}

func TestAFlippedByteInAnOldPageIsAnErrorThatNamesTheEntry(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	fill(t, b, 300)
	e, err := b.Entry(t.Context(), 117)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	file, err := os.ReadFile(journalPath(data))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte(e.ID))
	file[at] ^= 1
	if err := os.WriteFile(journalPath(data), file, 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, data, book.Options{})
	if _, err := b.Read(t.Context(), 110, 20); !errors.Is(err, book.ErrDamaged) || !strings.Contains(err.Error(), "entry 117 was altered") {
		t.Errorf("read: %v", err)
	}
	if _, err := b.Prove(t.Context(), 117); !errors.Is(err, book.ErrDamaged) {
		t.Errorf("prove: %v", err)
	}
	if es, err := b.Read(t.Context(), 118, 20); err != nil || len(es) != 20 {
		t.Errorf("the entries after it: %d, %v", len(es), err)
	}
	fill(t, b, 3) // and it goes on
	rep := report(t, data, keyIn(t, data).Verifier())
	if rep.Exit != verify.ExitFailed || rep.Logs[0].Altered != 1 || *rep.Problems[0].Seq != 117 {
		rep.WriteText(t.Output())
		t.Error("verify did not find the altered entry")
	}
}

func TestTwoInstancesCannotOpenOneBook(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	_, err := book.Open(filepath.Join(data, "book"), book.Options{Key: keyIn(t, data)})
	if !errors.Is(err, book.ErrInUse) {
		t.Errorf("the second got %v", err)
	}
	b.Close()
	open(t, data, book.Options{})
}

func TestAReadOnlyDirectoryIsAClearError(t *testing.T) {
	data, err := os.MkdirTemp("", "read-only-") // not t.TempDir: nobody else may enter that
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(data)
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	key := keyIn(t, data)
	dir := filepath.Join(data, "book")
	if err := os.Mkdir(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and end the thread with the goroutine: it is nobody's now
		if os.Geteuid() == 0 {
			actAsNobody()
		}
		_, err := book.Open(dir, book.Options{Key: key})
		failed <- err
	}()
	err = <-failed
	if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "must be writable") {
		t.Errorf("got %v", err)
	}
}

func TestATornCheckpointAtTheEndOfTheHistoryIsCutOff(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	fill(t, b, 10)
	b.Close()
	history := filepath.Join(data, "book", "1", book.HistoryFile)
	bs, err := os.ReadFile(history)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 2, 40, 150} {
		torn := append(bytes.Clone(bs), bs[:len(bs)/2-cut]...)
		if err := os.WriteFile(history, torn, 0o644); err != nil {
			t.Fatal(err)
		}
		b = open(t, data, book.Options{})
		if b.Opened().Epoch != 1 {
			t.Fatalf("opened as %+v", b.Opened())
		}
		b.Close()
		rep := report(t, data, keyIn(t, data).Verifier(), kept(t, data)...)
		if rep.Exit != verify.ExitIntact {
			rep.WriteText(t.Output())
			t.Fatal("it does not verify")
		}
	}
}

func TestAnEntryThatFitsIntoNoBundleIsRefused(t *testing.T) {
	b := open(t, t.TempDir(), book.Options{})
	big := guardbook.Draft{Type: guardbook.TypeOperator, Body: guardbook.OperatorEntry{Op: "x", Detail: map[string]string{"d": strings.Repeat("x", 65_500)}}}
	if _, err := b.Append(t.Context(), heartbeat(1), big); !errors.Is(err, book.ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	if b.Size() != 0 {
		t.Error("a part of the group was written")
	}
	big.Body = guardbook.OperatorEntry{Op: "x", Detail: map[string]string{"d": strings.Repeat("x", 65_000)}}
	if _, err := b.Append(t.Context(), big); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}
