package book

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
)

// tileBatch is how many files are written before they are synced and renamed: the
// first sync of a batch pays for all of it on most file systems.
const tileBatch = 64

// writeTiles writes the entry bundles and hash tiles by which a tree of size to
// differs from one of size from. Files that are there already are replaced by the
// same bytes: a crash in the middle is mended by the next call.
func writeTiles(ctx context.Context, dir string, db querier, from, to int64, rest restFunc) error {
	w := tileWriter{dir: dir}
	for n := from / c2sp.TileWidth; n*c2sp.TileWidth < to; n++ {
		began := time.Now()
		width := int(min(to-n*c2sp.TileWidth, c2sp.TileWidth))
		bundle, hashes, err := readBlock(ctx, db, n*c2sp.TileWidth, width)
		if err != nil {
			return errors.Join(err, w.abandon())
		}
		if err := w.add(c2sp.Entries, n, width, bundle); err != nil {
			return errors.Join(err, w.abandon())
		}
		if err := w.add(0, n, width, hashes); err != nil {
			return errors.Join(err, w.abandon())
		}
		rest(time.Since(began))
	}
	reader := hashReader(ctx, db)
	for level := 1; to>>(level*c2sp.TileHeight) > 0; level++ {
		before, after := from>>(level*c2sp.TileHeight), to>>(level*c2sp.TileHeight)
		if before == after {
			continue
		}
		for n := before / c2sp.TileWidth; n*c2sp.TileWidth < after; n++ {
			width := int(min(after-n*c2sp.TileWidth, c2sp.TileWidth))
			data, err := tlog.ReadTileData(tlog.Tile{H: c2sp.TileHeight, L: level, N: n, W: width}, reader)
			if err != nil {
				return errors.Join(fmt.Errorf("read hash tile %d/%d: %w", level, n, err), w.abandon())
			}
			if err := w.add(level, n, width, data); err != nil {
				return errors.Join(err, w.abandon())
			}
		}
	}
	return w.flush()
}

// readBlock reads the entries of one bundle, each checked against its leaf hash.
func readBlock(ctx context.Context, db querier, from int64, width int) (bundle, hashes []byte, err error) {
	rows, err := db.QueryContext(ctx, "SELECT seq, entry, hashes FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", from, from+int64(width))
	if err != nil {
		return nil, nil, fmt.Errorf("read entries from %d: %w", from, err)
	}
	defer rows.Close()
	want := from
	for ; rows.Next(); want++ {
		var seq int64
		var raw, stored sql.RawBytes
		if err := rows.Scan(&seq, &raw, &stored); err != nil {
			return nil, nil, fmt.Errorf("read entry %d: %w", want, err)
		}
		if seq != want {
			break
		}
		if len(stored) < tlog.HashSize || tlog.RecordHash(raw) != tlog.Hash(stored) {
			return nil, nil, fmt.Errorf("entry %d was altered since it was written: %w", seq, ErrDamaged)
		}
		bundle = c2sp.AppendEntry(bundle, raw)
		hashes = append(hashes, stored[:tlog.HashSize]...)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read entry %d: %w", want, err)
	}
	if want != from+int64(width) {
		return nil, nil, fmt.Errorf("entry %d is missing from the journal: %w", want, ErrDamaged)
	}
	return bundle, hashes, nil
}

// tileWriter writes files in batches: all the bytes, then the syncs, the renames,
// and the syncs of the directories.
type tileWriter struct {
	dir     string
	pending []pendingTile
	dirs    map[string]bool // directories made, synced at the end of a batch
}

type pendingTile struct {
	f    *os.File
	path string
	full bool
}

func (w *tileWriter) add(level int, n int64, width int, data []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(c2sp.TilePath(level, n, width)))
	parent := filepath.Dir(path)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return fmt.Errorf("write tile: %w", err)
		}
		// The names of new directories must survive, too.
		for d := filepath.Dir(parent); len(d) >= len(w.dir); d = filepath.Dir(d) {
			w.mark(d)
		}
	}
	w.mark(parent)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("write tile: %w", err)
	}
	w.pending = append(w.pending, pendingTile{f: f, path: path, full: width == c2sp.TileWidth})
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write tile: %w", err)
	}
	if len(w.pending) >= tileBatch {
		return w.flush()
	}
	return nil
}

func (w *tileWriter) mark(dir string) {
	if w.dirs == nil {
		w.dirs = map[string]bool{}
	}
	w.dirs[dir] = true
}

func (w *tileWriter) flush() error {
	for _, t := range w.pending {
		if err := t.f.Sync(); err != nil {
			return errors.Join(fmt.Errorf("write tile: %w", err), w.abandon())
		}
	}
	for _, t := range w.pending {
		t.f.Close()
		if err := os.Rename(t.f.Name(), t.path); err != nil {
			return errors.Join(fmt.Errorf("write tile: %w", err), w.abandon())
		}
	}
	for d := range w.dirs {
		if err := syncDir(d); err != nil {
			return errors.Join(fmt.Errorf("write tile: %w", err), w.abandon())
		}
	}
	// A full tile takes the place of its partial ones, now that it is there to stay.
	for _, t := range w.pending {
		if t.full {
			if err := os.RemoveAll(t.path + ".p"); err != nil {
				return errors.Join(fmt.Errorf("remove partial tiles: %w", err), w.abandon())
			}
		}
	}
	w.pending, w.dirs = w.pending[:0], nil
	return nil
}

// abandon takes away what was not finished.
func (w *tileWriter) abandon() error {
	var errs []error
	for _, t := range w.pending {
		t.f.Close()
		if strings.HasSuffix(t.f.Name(), ".tmp") {
			if err := os.Remove(t.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	w.pending = nil
	return errors.Join(errs...)
}
