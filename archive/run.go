package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/guardbook/guardbook"
)

// Source is the log that an archive follows; *book.Book is one.
type Source interface {
	Origin() string
	Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error
}

// Log is a log that has ended: an earlier epoch of the book.
type Log interface {
	Origin() string
	// Read returns up to limit entries from a sequence number on; none at the end.
	Read(ctx context.Context, from int64, limit int) ([]guardbook.Entry, error)
}

const (
	// batch is how many entries go into one transaction at most.
	batch = 1000
	// pause is the least time between the beginnings of two transactions that are
	// not full: under load they grow instead of becoming many.
	pause = 20 * time.Millisecond
)

// errAgain ends a Follow so that Run begins anew from the cursor.
var errAgain = errors.New("begin anew")

// Run writes what comes into the source to the archive, from the cursor on, until
// ctx ends or the source cannot be read; it returns that error. A log that the
// archive has not seen begins at 0, behind those that it has. When the archive
// cannot be written (a full disk), Run tries again until it can; when it is damaged or
// belongs to another book, Run resets it and fills it anew.
func Run(ctx context.Context, source Source, a Archive, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &writer{a: a, log: log}
	for {
		from, check, err := w.start(ctx, source.Origin())
		if err != nil {
			return err
		}
		err = source.Follow(ctx, from, func(entries []guardbook.Entry) error {
			if check {
				check = false
				if err := w.compare(ctx, entries[0]); err != nil {
					return err
				}
			}
			return w.write(ctx, entries)
		})
		if !errors.Is(err, errAgain) {
			return err
		}
	}
}

// Rebuild drops everything and fills the archive from logs that have ended, in
// their order; Run then adds the log that goes on. Nothing else may write to it.
func Rebuild(ctx context.Context, a Archive, ended ...Log) error {
	if err := a.Reset(ctx); err != nil {
		return fmt.Errorf("rebuild archive: %w", err)
	}
	for _, l := range ended {
		for next := int64(0); ; {
			entries, err := l.Read(ctx, next, batch)
			if err != nil {
				return fmt.Errorf("rebuild archive: %w", err)
			}
			if len(entries) == 0 {
				break
			}
			if err := a.Write(ctx, entries); err != nil {
				return fmt.Errorf("rebuild archive: %w", err)
			}
			next += int64(len(entries))
		}
	}
	return nil
}

// writer is one Run.
type writer struct {
	a     Archive
	log   *slog.Logger
	began time.Time // of the last transaction
}

// start says where to begin in a log, and whether the first entry there is one
// that the archive has, to be compared.
func (w *writer) start(ctx context.Context, origin string) (from int64, check bool, err error) {
	var last string
	var next int64
	err = w.retry(ctx, func() error {
		var err error
		last, next, err = w.a.Cursor(ctx)
		return err
	})
	if errors.Is(err, errAgain) { // it was damaged and is empty now
		return 0, false, nil
	}
	if err != nil || last != origin || next == 0 {
		return 0, false, err
	}
	return next - 1, true, nil
}

// compare makes sure that the archive belongs to the book: the last entry that it
// has is the book's, byte for byte.
func (w *writer) compare(ctx context.Context, e guardbook.Entry) error {
	return w.retry(ctx, func() error {
		have, err := w.a.Event(ctx, e.ID)
		if err == nil && bytes.Equal(have.Raw, e.Raw) {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return fmt.Errorf("%w: its entry %d of %s is not the book's", ErrCorrupt, e.Seq, e.Log)
	})
}

func (w *writer) write(ctx context.Context, entries []guardbook.Entry) error {
	for len(entries) > 0 {
		n := min(len(entries), batch)
		if n < batch {
			if err := sleep(ctx, time.Until(w.began.Add(pause))); err != nil {
				return err
			}
		}
		w.began = time.Now()
		if err := w.retry(ctx, func() error { return w.a.Write(ctx, entries[:n]) }); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// retry does something until it succeeds or ctx ends. A damaged archive is reset,
// and the answer is errAgain.
func (w *writer) retry(ctx context.Context, do func() error) error {
	const least, most = 100 * time.Millisecond, 10 * time.Second
	failed := false
	for wait := least; ; wait = min(2*wait, most) {
		err := do()
		if err == nil {
			if failed {
				w.log.Info("the archive can be written again")
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrCorrupt) {
			w.log.Error("the archive is dropped and filled anew from the book", "error", err)
			if err = w.a.Reset(ctx); err == nil {
				return errAgain
			}
		}
		if !failed {
			failed = true
			w.log.Error("the archive cannot be written; trying again until it can", "error", err)
		}
		if err := sleep(ctx, wait/2+rand.N(wait)); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
