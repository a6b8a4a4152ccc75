package book

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/book/verify"
)

// Reader reads a book without writing it, beside the instance that does or after
// it. It takes no lock.
type Reader struct {
	dir    string
	epochs []Epoch
}

// Epoch is one log of a book. Most books have one.
type Epoch struct {
	Number int
	Origin string // as the epoch's verifier key names it
	Key    string // the epoch's verifier key; it lies beside the log and proves nothing by itself
	Dir    string

	db *sql.DB // nil if there is no journal
}

// OpenReader opens the book in a directory, DATA/book, for reading.
func OpenReader(dir string) (*Reader, error) {
	numbers, err := epochs(dir)
	if err != nil {
		return nil, fmt.Errorf("open book: %w", err)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("open book: there is none in %s", dir)
	}
	r := &Reader{dir: dir}
	for _, n := range numbers {
		e := Epoch{Number: n, Dir: epochDir(dir, n)}
		if key, err := os.ReadFile(filepath.Join(e.Dir, KeyFile)); err == nil {
			e.Key = strings.TrimSpace(string(key))
			if v, err := note.NewVerifier(e.Key); err == nil {
				e.Origin = v.Name()
			}
		}
		path := filepath.Join(e.Dir, journalFile)
		switch _, err := os.Stat(path); {
		case err == nil:
			if e.db, err = openRead(path); err != nil {
				r.Close()
				return nil, fmt.Errorf("open book: epoch %d: %w", n, err)
			}
		case !errors.Is(err, fs.ErrNotExist):
			r.Close()
			return nil, fmt.Errorf("open book: epoch %d: %w", n, err)
		}
		r.epochs = append(r.epochs, e)
	}
	return r, nil
}

// Close closes the journals.
func (r *Reader) Close() error {
	var errs []error
	for _, e := range r.epochs {
		if e.db != nil {
			errs = append(errs, e.db.Close())
		}
	}
	return errors.Join(errs...)
}

// Epochs lists the book's logs, oldest first.
func (r *Reader) Epochs() []Epoch { return r.epochs }

func (r *Reader) epoch(n int) (Epoch, error) {
	for _, e := range r.epochs {
		if e.Number == n {
			if e.db == nil {
				return e, fmt.Errorf("epoch %d has no journal: %w", n, ErrDamaged)
			}
			return e, nil
		}
	}
	return Epoch{}, fmt.Errorf("epoch %d: %w", n, ErrNotFound)
}

// Size is the number of entries in an epoch's journal.
func (r *Reader) Size(ctx context.Context, epoch int) (int64, error) {
	e, err := r.epoch(epoch)
	if err != nil {
		return 0, err
	}
	return journalSize(ctx, e.db)
}

// Read returns up to limit entries of an epoch from a sequence number on, as
// Book.Read does.
func (r *Reader) Read(ctx context.Context, epoch int, from int64, limit int) ([]guardbook.Entry, error) {
	size, err := r.Size(ctx, epoch)
	if err != nil {
		return nil, err
	}
	if from < 0 {
		return nil, fmt.Errorf("read entry %d: %w", from, ErrNotFound)
	}
	if from >= size || limit <= 0 {
		return nil, nil
	}
	e, _ := r.epoch(epoch)
	return readEntries(ctx, e.db, from, int(min(int64(limit), size-from)))
}

// Find reads the entry with an id, wherever it is, and says in which epoch.
func (r *Reader) Find(ctx context.Context, id string) (guardbook.Entry, int, error) {
	for i := len(r.epochs) - 1; i >= 0; i-- {
		if r.epochs[i].db == nil {
			continue
		}
		e, err := find(ctx, r.epochs[i].db, id)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return e, r.epochs[i].Number, err
		}
	}
	return guardbook.Entry{}, 0, fmt.Errorf("find entry %.40q: %w", id, ErrNotFound)
}

// Checkpoint is the newest checkpoint of an epoch. Its signature is checked
// against the key that lies beside the log; its Note is nil if there is none.
func (r *Reader) Checkpoint(epoch int) (Checkpoint, error) {
	e, err := r.epoch(epoch)
	if err != nil {
		return Checkpoint{}, err
	}
	return newestCheckpoint(e.Dir, e.Key)
}

// Checkpoints reads all checkpoints of an epoch, oldest first, and checks none.
func (r *Reader) Checkpoints(epoch int) ([][]byte, error) {
	e, err := r.epoch(epoch)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(e.Dir, HistoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	defer f.Close()
	var notes [][]byte
	for s, err := range c2sp.History(bufio.NewReader(f)) {
		if errors.Is(err, c2sp.ErrTorn) {
			break // one is being written
		}
		if err != nil {
			return notes, fmt.Errorf("read checkpoints: %w", err)
		}
		notes = append(notes, s.Note)
	}
	return notes, nil
}

// Prove gives the proof that a sealed entry of an epoch is in the book, as C2SP
// tlog-proof text.
func (r *Reader) Prove(ctx context.Context, epoch int, seq int64) ([]byte, error) {
	e, err := r.epoch(epoch)
	if err != nil {
		return nil, err
	}
	c, err := r.Checkpoint(epoch)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", seq, err)
	}
	size, err := r.Size(ctx, epoch)
	if err != nil {
		return nil, err
	}
	switch {
	case seq < 0 || seq >= size:
		return nil, fmt.Errorf("prove entry %d of %d: %w", seq, size, ErrNotFound)
	case c.Note == nil || seq >= c.Size:
		return nil, fmt.Errorf("prove entry %d: it is not sealed yet (the last checkpoint signs %d)", seq, c.Size)
	}
	return prove(ctx, e.db, seq, c)
}

// Logs is the book as package verify wants it: the journals' rows as they are,
// with nothing checked.
func (r *Reader) Logs() []verify.Log {
	var logs []verify.Log
	for _, e := range r.epochs {
		l := verify.Log{Epoch: e.Number, Path: filepath.Base(e.Dir) + "/", Key: e.Key, Files: os.DirFS(e.Dir)}
		if e.db == nil {
			l.Broken = "the journal is missing; the records are read from the entry bundles"
		} else {
			l.Records = func(ctx context.Context) iter.Seq2[verify.Record, error] { return rawRows(ctx, e.db) }
		}
		logs = append(logs, l)
	}
	return logs
}

// rawRows reads all rows that a journal has now, some at a time: one long read
// would keep the write-ahead log of a running instance from being copied back.
func rawRows(ctx context.Context, db *sql.DB) iter.Seq2[verify.Record, error] {
	return func(yield func(verify.Record, error) bool) {
		failed := func(err error) { yield(verify.Record{Seq: -1, File: journalFile, Offset: -1}, err) }
		end, err := journalSize(ctx, db)
		if err != nil {
			failed(err)
			return
		}
		p := page{db: db, end: end}
		for {
			n, err := p.next(ctx, yield)
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				failed(fmt.Errorf("the journal cannot be read on after row %d: %w", p.after, err))
				return
			}
			if n == 0 {
				return
			}
		}
	}
}

// page reads rows in the order of their numbers, some at a time.
type page struct {
	db    *sql.DB
	end   int64 // the first number that is not read
	begun bool  // a row was read
	after int64 // its number, the last one's
}

// errEnough says that the caller of an iterator wants no more.
var errEnough = errors.New("enough")

// next yields some rows more, and says how many. None: that was all.
func (p *page) next(ctx context.Context, yield func(verify.Record, error) bool) (n int, err error) {
	const some = 2048
	query, args := "SELECT seq, entry, hashes FROM entries WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?", []any{p.after, p.end, some}
	if !p.begun { // rows with negative numbers, too: none belongs there
		query, args = "SELECT seq, entry, hashes FROM entries WHERE seq < ? ORDER BY seq LIMIT ?", []any{p.end, some}
	}
	rows, err := p.db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		rec := verify.Record{File: journalFile, Offset: -1}
		if err := rows.Scan(&rec.Seq, &rec.Raw, &rec.Hashes); err != nil {
			return n, err
		}
		if rec.Hashes == nil {
			rec.Hashes = []byte{} // nil would mean that there is no place for them
		}
		n++
		p.after, p.begun = rec.Seq, true
		if !yield(rec, nil) {
			return n, errEnough
		}
	}
	return n, rows.Err()
}
