package respond_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive/conformance"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/respond"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDisk = errors.New("no space left on device")

// recorder writes to a real book, unless it is told to fail.
type recorder struct {
	*book.Book
	full   atomic.Bool
	before func() // called with each append, before it
}

func (r *recorder) Append(ctx context.Context, d ...guardbook.Draft) error {
	if r.before != nil {
		r.before()
	}
	if r.full.Load() {
		return errDisk
	}
	_, err := r.Book.Append(ctx, d...)
	return err
}

func (r *recorder) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	return r.Append(ctx, d...)
}

// openBook opens a real book in a directory; close it before the test ends.
func openBook(t *testing.T, dir string) *recorder {
	t.Helper()
	key, _, err := book.LoadKey(filepath.Join(dir, "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := book.Open(filepath.Join(dir, "book"), book.Options{Key: key, Durability: book.Balanced, SealEvery: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return &recorder{Book: b}
}

func (r *recorder) entries(t *testing.T) []guardbook.Entry {
	t.Helper()
	var out []guardbook.Entry
	for int64(len(out)) < r.Size() {
		es, err := r.Read(context.Background(), int64(len(out)), 1000)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, es...)
	}
	return out
}

// body reads an entry's body.
func body[T any](t *testing.T, e guardbook.Entry) T {
	t.Helper()
	b, err := guardbook.Body[T](e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pages is a book in memory, for tests that need many of them or want one to end
// at any entry.
type pages struct {
	mu      sync.Mutex
	log     conformance.Log
	changed chan struct{}
	limit   int // the disk is full behind this many entries; 0: never
}

func newPages(entries ...guardbook.Entry) *pages {
	return &pages{log: conformance.Log{Origin: "guardbook/test", Entries: entries}, changed: make(chan struct{})}
}

func (p *pages) Append(_ context.Context, drafts ...guardbook.Draft) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && len(p.log.Entries)+len(drafts) > p.limit {
		return errDisk
	}
	for _, d := range drafts {
		if d.Time.IsZero() {
			d.Time = time.Now()
		}
		e := p.log.Add(d.Time, time.Now(), d.Type, d.Body)
		if d.ID != "" {
			e.ID = d.ID
		}
		e.Raw = conformance.Raw(e.Header, d.Body)
		p.log.Entries[e.Seq] = e
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (p *pages) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	return p.Append(ctx, d...)
}

func (p *pages) Size() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(len(p.log.Entries))
}

func (p *pages) all() []guardbook.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]guardbook.Entry(nil), p.log.Entries...)
}

func (p *pages) Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error {
	for {
		p.mu.Lock()
		changed, rest := p.changed, append([]guardbook.Entry(nil), p.log.Entries[from:]...)
		p.mu.Unlock()
		if len(rest) > 0 {
			if err := fn(rest); err != nil {
				return err
			}
			from += int64(len(rest))
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var (
	_ respond.Recorder = (*recorder)(nil)
	_ respond.Follower = (*recorder)(nil)
	_ respond.Recorder = (*pages)(nil)
	_ respond.Follower = (*pages)(nil)
)
