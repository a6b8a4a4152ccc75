package book

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"uuid"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
)

const (
	followBatch = 512
	// maxRead bounds what one Read gives, in bytes beyond the first entry.
	maxRead = 16 << 20
)

// Read returns up to limit entries from a sequence number on, fewer when they are
// large, and none at the end of the book. Each entry's bytes are checked against
// its leaf hash; the error for one that differs names it and wraps ErrDamaged.
func (b *Book) Read(ctx context.Context, from int64, limit int) ([]guardbook.Entry, error) {
	b.mu.Lock()
	closed, size, recent := b.closed, b.edge.Size(), b.recent.from(from, limit)
	b.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case recent != nil:
		return recent, nil
	case from < 0:
		return nil, fmt.Errorf("read entry %d: %w", from, ErrNotFound)
	case from >= size || limit <= 0:
		return nil, nil
	}
	es, err := readEntries(ctx, b.j.read, from, int(min(int64(limit), size-from)))
	if err != nil && errors.Is(b.Writable(), ErrClosed) {
		return nil, ErrClosed // it was closed meanwhile
	}
	return es, err
}

// Entry reads one entry.
func (b *Book) Entry(ctx context.Context, seq int64) (guardbook.Entry, error) {
	es, err := b.Read(ctx, seq, 1)
	if err != nil {
		return guardbook.Entry{}, err
	}
	if len(es) == 0 {
		return guardbook.Entry{}, fmt.Errorf("read entry %d: %w", seq, ErrNotFound)
	}
	return es[0], nil
}

// Find reads the entry with an id.
func (b *Book) Find(ctx context.Context, id string) (guardbook.Entry, error) {
	return find(ctx, b.j.read, id)
}

// Follow calls fn with every entry from a sequence number on, in order and in
// batches, and waits for more. It returns fn's error, the context's, a damaged
// entry's, or ErrClosed. fn must not change the entries.
func (b *Book) Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error {
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		es, err := b.Read(ctx, from, followBatch)
		if err != nil {
			return err
		}
		if len(es) > 0 {
			if err := fn(es); err != nil {
				return err
			}
			from += int64(len(es))
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readEntries reads entries that must all be there, up to maxRead bytes of them.
func readEntries(ctx context.Context, db querier, from int64, limit int) ([]guardbook.Entry, error) {
	rows, err := db.QueryContext(ctx, "SELECT seq, entry, hashes FROM entries WHERE seq >= ? ORDER BY seq LIMIT ?", from, limit)
	if err != nil {
		return nil, fmt.Errorf("read entries from %d: %w", from, err)
	}
	defer rows.Close()
	var es []guardbook.Entry
	bytes := 0
	for bytes < maxRead && rows.Next() {
		want := from + int64(len(es))
		var seq int64
		var raw []byte
		var hashes sql.RawBytes
		if err := rows.Scan(&seq, &raw, &hashes); err != nil {
			return nil, fmt.Errorf("read entry %d: %w", want, err)
		}
		e, err := checkRow(want, seq, raw, hashes)
		if err != nil {
			return nil, err
		}
		es = append(es, e)
		bytes += len(raw)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read entry %d: %w", from+int64(len(es)), err)
	}
	if len(es) < limit && bytes < maxRead {
		return nil, fmt.Errorf("entry %d is missing from the journal: %w", from+int64(len(es)), ErrDamaged)
	}
	return es, nil
}

// checkRow checks that a row is the one that was asked for and holds the bytes
// that were hashed.
func checkRow(want, seq int64, raw, hashes []byte) (guardbook.Entry, error) {
	if seq != want {
		return guardbook.Entry{}, fmt.Errorf("entry %d is missing from the journal (the next is %d): %w", want, seq, ErrDamaged)
	}
	if len(hashes) != c2sp.Completes(seq)*tlog.HashSize {
		return guardbook.Entry{}, fmt.Errorf("entry %d has %d bytes of hashes instead of %d: %w", seq, len(hashes), c2sp.Completes(seq)*tlog.HashSize, ErrDamaged)
	}
	if got, stored := tlog.RecordHash(raw), tlog.Hash(hashes); got != stored {
		return guardbook.Entry{}, fmt.Errorf("entry %d was altered: its bytes hash to %s, it was written with %s: %w", seq, got, stored, ErrDamaged)
	}
	e, err := guardbook.ParseEntry(raw)
	if err != nil {
		return e, fmt.Errorf("entry %d: %w: %w", seq, err, ErrDamaged)
	}
	if e.Seq != seq {
		return e, fmt.Errorf("entry %d calls itself %d: %w", seq, e.Seq, ErrDamaged)
	}
	return e, nil
}

// find looks for an id where its time says that it should be, then everywhere:
// the journal has no index of ids, because every append would pay for it.
func find(ctx context.Context, db querier, id string) (guardbook.Entry, error) {
	size, err := sizeOf(ctx, db)
	if err != nil {
		return guardbook.Entry{}, err
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return guardbook.Entry{}, fmt.Errorf("find %.40q: it is no entry id: %w", id, ErrNotFound)
	}
	ms := int64(u[0])<<40 | int64(u[1])<<32 | int64(u[2])<<24 | int64(u[3])<<16 | int64(u[4])<<8 | int64(u[5])
	near := time.UnixMilli(ms).Add(-time.Second).UTC().Format(guardbook.TimeLayout)
	lo, hi := int64(0), size
	for lo < hi {
		mid := (lo + hi) / 2
		es, err := readEntries(ctx, db, mid, 1)
		if err != nil {
			return guardbook.Entry{}, err
		}
		if es[0].Rec < near {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	const nearby = 20_000
	id = u.String()
	for _, span := range [][2]int64{{lo, min(lo+nearby, size)}, {0, size}} {
		for span[0] < span[1] {
			// The id may also stand in the body of another entry.
			var seq int64
			err := db.QueryRowContext(ctx, "SELECT seq FROM entries WHERE seq >= ? AND seq < ? AND instr(entry, ?) > 0 ORDER BY seq LIMIT 1",
				span[0], span[1], []byte(`"id":"`+id+`"`)).Scan(&seq)
			if errors.Is(err, sql.ErrNoRows) {
				break
			}
			if err != nil {
				return guardbook.Entry{}, fmt.Errorf("find entry %s: %w", id, err)
			}
			es, err := readEntries(ctx, db, seq, 1)
			if err != nil {
				return guardbook.Entry{}, err
			}
			if es[0].ID == id {
				return es[0], nil
			}
			span[0] = seq + 1
		}
	}
	return guardbook.Entry{}, fmt.Errorf("find entry %s: %w", id, ErrNotFound)
}
