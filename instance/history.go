package instance

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/book"
)

// rebuild fills an empty archive with the logs that have ended; the one that goes
// on is followed later. Without it, what earlier epochs held would be lost to
// state and listings.
func (i *Instance) rebuild(ctx context.Context) error {
	log, _, err := i.archive.Cursor(ctx)
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if log != "" || i.book.Opened().Epoch == 1 {
		return nil
	}
	r, err := book.OpenReader(filepath.Join(i.cfg.Data, "book"))
	if err != nil {
		return err
	}
	defer r.Close()
	var ended []archive.Log
	for _, e := range r.Epochs() {
		if e.Number < i.book.Opened().Epoch {
			ended = append(ended, endedLog{r, e})
		}
	}
	return archive.Rebuild(ctx, i.archive, ended...)
}

// endedLog is an earlier epoch of the book.
type endedLog struct {
	r *book.Reader
	e book.Epoch
}

func (l endedLog) Origin() string { return l.e.Origin }

func (l endedLog) Read(ctx context.Context, from int64, limit int) ([]guardbook.Entry, error) {
	return l.r.Read(ctx, l.e.Number, from, limit)
}

// history gives every entry of some types that occurred since a time (zero: ever),
// oldest first, through every epoch and up to the book's end: what the archive has,
// found by its index, and then what the archive has not read yet, from the book.
func (i *Instance) history(ctx context.Context, types []guardbook.EntryType, since time.Time, fn func(guardbook.Entry) error) error {
	log, next, err := i.archive.Cursor(ctx)
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if log != i.book.Origin() {
		next = 0
	}
	q := archive.Query{Types: types, Log: log, Since: since}
	for log != "" {
		page, err := i.archive.Events(ctx, q)
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if err := fn(e); err != nil {
				return fmt.Errorf("entry %d: %w", e.Seq, err)
			}
		}
		last := page[len(page)-1]
		q.Log, q.After = last.Log, &last.Seq
		if last.Log == i.book.Origin() {
			next = max(next, last.Seq+1)
		}
	}
	for {
		page, err := i.book.Read(ctx, next, 1000)
		if err != nil {
			return fmt.Errorf("read the book: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		for _, e := range page {
			if !slices.Contains(types, e.Type) || !since.IsZero() && e.TS < since.UTC().Format(guardbook.TimeLayout) {
				continue
			}
			if err := fn(e); err != nil {
				return fmt.Errorf("entry %d: %w", e.Seq, err)
			}
		}
		next = page[len(page)-1].Seq + 1
	}
}
