package archive_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/archive/conformance"
	"github.com/guardbook/guardbook/archive/sqlite"
	"github.com/guardbook/guardbook/book"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper is a book and an archive in one directory.
type keeper struct {
	t       *testing.T
	dir     string
	book    *book.Book
	archive *sqlite.Archive
}

func keep(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{t: t, dir: t.TempDir()}
	key, _, err := book.LoadKey(filepath.Join(k.dir, "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	if k.book, err = book.Open(filepath.Join(k.dir, "book"), book.Options{Key: key, Durability: book.Balanced}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.book.Close() })
	k.openArchive()
	return k
}

func (k *keeper) path() string { return filepath.Join(k.dir, "archive.db") }

func (k *keeper) openArchive() {
	k.t.Helper()
	var err error
	if k.archive, err = sqlite.Open(k.t.Context(), k.path(), nil); err != nil {
		k.t.Fatal(err)
	}
	a := k.archive
	k.t.Cleanup(func() { _ = a.Close() })
}

func (k *keeper) append(n int) {
	k.t.Helper()
	drafts := make([]guardbook.Draft, n)
	for i := range drafts {
		drafts[i] = guardbook.Draft{Type: guardbook.TypeDecision, Body: guardbook.DecisionEntry{Agent: "billing", Decision: guardbook.ActionAllow}}
	}
	if _, err := k.book.Append(k.t.Context(), drafts...); err != nil {
		k.t.Fatal(err)
	}
}

// run follows the book with an archive until stop is called.
func (k *keeper) run(a archive.Archive) (stop func()) {
	ctx, cancel := context.WithCancel(k.t.Context())
	done := make(chan error, 1)
	go func() { done <- archive.Run(ctx, k.book, a, nil) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			k.t.Errorf("run: %v", err)
		}
	}
}

// caughtUp waits until the archive has everything that the book has.
func (k *keeper) caughtUp() {
	k.t.Helper()
	for range 1000 {
		log, next, err := k.archive.Cursor(k.t.Context())
		if err == nil && log == k.book.Origin() && next == k.book.Size() {
			k.same()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	k.t.Fatal("the archive does not catch up")
}

// same compares every entry of the archive with the book's.
func (k *keeper) same() {
	k.t.Helper()
	got, err := k.archive.Events(k.t.Context(), archive.Query{})
	if err != nil {
		k.t.Fatal(err)
	}
	var want []guardbook.Entry
	for int64(len(want)) < k.book.Size() {
		es, err := k.book.Read(k.t.Context(), int64(len(want)), 1000)
		if err != nil {
			k.t.Fatal(err)
		}
		want = append(want, es...)
	}
	if len(got) != len(want) {
		k.t.Fatalf("%d entries in the archive, %d in the book", len(got), len(want))
	}
	for i := range want {
		if string(got[i].Raw) != string(want[i].Raw) {
			k.t.Fatalf("entry %d differs", i)
		}
	}
}

func TestTheArchiveFollowsTheBookAndGoesOnWhereItWas(t *testing.T) {
	k := keep(t)
	k.append(1500)
	stop := k.run(k.archive)
	k.caughtUp()
	k.append(3)
	k.caughtUp()
	stop()
	k.append(700) // nobody is reading
	if err := k.archive.Close(); err != nil {
		t.Fatal(err)
	}
	k.openArchive()
	stop = k.run(k.archive)
	k.caughtUp()
	stop()
}

func TestADroppedArchiveIsFilledAnew(t *testing.T) {
	k := keep(t)
	k.append(100)
	stop := k.run(k.archive)
	k.caughtUp()
	stop()
	if err := archive.Rebuild(t.Context(), k.archive); err != nil {
		t.Fatal(err)
	}
	stop = k.run(k.archive)
	k.caughtUp()
	stop()
}

// endedLog is an earlier epoch.
type endedLog struct{ conformance.Log }

func (l *endedLog) Origin() string { return l.Log.Origin }

func (l *endedLog) Read(_ context.Context, from int64, limit int) ([]guardbook.Entry, error) {
	rest := l.Entries[from:]
	return rest[:min(len(rest), limit)], nil
}

func TestARebuiltArchiveHasTheEarlierEpochs(t *testing.T) {
	k := keep(t)
	k.append(5)
	old := &endedLog{conformance.Log{Origin: "guardbook/earlier"}}
	for range 1200 {
		old.Add(time.Now(), time.Now(), guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "old", Decision: guardbook.ActionAllow})
	}
	if err := archive.Rebuild(t.Context(), k.archive, old); err != nil {
		t.Fatal(err)
	}
	stop := k.run(k.archive)
	defer stop()
	for range 1000 {
		if log, next, _ := k.archive.Cursor(t.Context()); log == k.book.Origin() && next == 5 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	got, err := k.archive.Counts(t.Context(), archive.Query{}, archive.ByAgent)
	if err != nil || got["old"] != 1200 || got["billing"] != 5 {
		t.Errorf("counts: %v, %v", got, err)
	}
}

func TestAnArchiveOfAnotherBookIsFilledAnew(t *testing.T) {
	k := keep(t)
	k.append(10)
	foreign := &conformance.Log{Origin: k.book.Origin()}
	for range 4 {
		foreign.Add(time.Now(), time.Now(), guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "foreign", Decision: guardbook.ActionAllow})
	}
	if err := k.archive.Write(t.Context(), foreign.Entries); err != nil {
		t.Fatal(err)
	}
	stop := k.run(k.archive)
	k.caughtUp()
	stop()
}

func TestDamageThatShowsLaterIsMendedFromTheBook(t *testing.T) {
	k := keep(t)
	k.append(1200)
	stop := k.run(k.archive)
	k.caughtUp()
	stop()
	if err := k.archive.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(k.path())
	if err != nil {
		t.Fatal(err)
	}
	for i := 40 * 4096; i+4096 <= len(b); i += 4096 { // the first pages stay whole: it opens
		clear(b[i : i+4096])
	}
	if err := os.WriteFile(k.path(), b, 0o600); err != nil {
		t.Fatal(err)
	}
	k.openArchive()
	stop = k.run(k.archive)
	k.append(1)
	for range 500 { // a reader meets the damage, or the writer does
		if _, err := k.archive.Events(t.Context(), archive.Query{}); err == nil {
			break
		}
		k.append(1)
		time.Sleep(10 * time.Millisecond)
	}
	k.caughtUp()
	stop()
	if aside, _ := filepath.Glob(k.path() + ".damaged-*"); len(aside) == 0 {
		t.Error("the damaged file is not kept")
	}
}

// full is an archive whose disk is full at first.
type full struct {
	archive.Archive
	refuse atomic.Int32
}

func (f *full) Write(ctx context.Context, entries []guardbook.Entry) error {
	if f.refuse.Add(-1) >= 0 {
		return errors.New("database or disk is full")
	}
	return f.Archive.Write(ctx, entries)
}

func TestAFullDiskIsWaitedOut(t *testing.T) {
	k := keep(t)
	k.append(10)
	f := &full{Archive: k.archive}
	f.refuse.Store(3)
	stop := k.run(f)
	k.caughtUp()
	stop()
}

func TestRunEndsWhileTheDiskIsFull(t *testing.T) {
	k := keep(t)
	k.append(10)
	f := &full{Archive: k.archive}
	f.refuse.Store(1 << 30)
	stop := k.run(f)
	for f.refuse.Load() > 1<<30-2 {
		time.Sleep(time.Millisecond)
	}
	stop()
}
