package evidence

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// readBatch is how many entries are read at once.
const readBatch = 512

// logExport is one log on its way into a package.
type logExport struct {
	Log
	size   int64 // of the last checkpoint that is taken
	notes  [][]byte
	beyond int64 // entries that no checkpoint signs yet
	root   tlog.Hash
	hashes *os.File // stored hashes in the order of tlog, for tiles and proofs
}

// chooseLogs decides how far each log is taken: to its last checkpoint, the
// newest log no further than limit (0: no limit).
func chooseLogs(ctx context.Context, src Source, vkey string, limit int64) ([]*logExport, error) {
	var out []*logExport
	logs := src.Logs()
	for i, l := range logs {
		e := &logExport{Log: l}
		key, err := derive.KeyFor(vkey, l.Origin)
		if err != nil {
			return nil, fmt.Errorf("log of epoch %d: %w", l.Epoch, err)
		}
		notes, err := src.Checkpoints(l.Epoch)
		if err != nil {
			return nil, fmt.Errorf("read checkpoints of epoch %d: %w", l.Epoch, err)
		}
		for _, n := range notes {
			cp, err := c2sp.Open(n, key)
			if err != nil {
				return nil, fmt.Errorf("epoch %d: a checkpoint is not signed by the book's key (guardbook book verify tells more): %w", l.Epoch, err)
			}
			if i == len(logs)-1 && limit > 0 && cp.Size > limit {
				break
			}
			e.notes, e.size = append(e.notes, n), cp.Size
		}
		if i == len(logs)-1 && limit > 0 && e.size != limit {
			return nil, fmt.Errorf("no checkpoint has the size %d: the nearest below is %d", limit, e.size)
		}
		size, err := src.Size(ctx, l.Epoch)
		if err != nil {
			return nil, fmt.Errorf("size of epoch %d: %w", l.Epoch, err)
		}
		if size < e.size {
			return nil, fmt.Errorf("epoch %d has %d entries, and a checkpoint signs %d: entries are missing (guardbook book verify tells more)", l.Epoch, size, e.size)
		}
		if limit == 0 {
			e.beyond = size - e.size
		}
		out = append(out, e)
	}
	return out, nil
}

// export writes a log's entry bundles, tiles and checkpoints.
func (e *logExport) export(ctx context.Context, src Source, f *folder, scratch string) error {
	var err error
	if e.hashes, err = os.CreateTemp(scratch, "hashes-*"); err != nil {
		return fmt.Errorf("create scratch file: %w", err)
	}
	w := bufio.NewWriterSize(e.hashes, 1<<16)
	dir := layout.LogDir(e.Epoch)
	var edge c2sp.Edge
	var bundle []byte
	var done []tlog.Hash
	flush := func() error {
		n := edge.Size()
		width := int(n % c2sp.TileWidth)
		if len(bundle) == 0 {
			return nil
		}
		name := path.Join(dir, c2sp.TilePath(c2sp.Entries, (n-1)/c2sp.TileWidth, width))
		b := bundle
		bundle = nil
		return f.put(name, b)
	}
	for edge.Size() < e.size {
		batch, err := src.Read(ctx, e.Epoch, edge.Size(), int(min(readBatch, e.size-edge.Size())))
		if err != nil {
			return fmt.Errorf("read the book (guardbook book verify tells more): %w", err)
		}
		if len(batch) == 0 {
			return fmt.Errorf("the book ends at entry %d of %d", edge.Size(), e.size)
		}
		for _, entry := range batch {
			if len(entry.Raw) > c2sp.MaxEntry {
				return fmt.Errorf("entry %d of %d bytes is larger than a bundle can hold", entry.Seq, len(entry.Raw))
			}
			bundle = c2sp.AppendEntry(bundle, entry.Raw)
			done = edge.Append(done[:0], tlog.RecordHash(entry.Raw))
			for _, h := range done {
				if _, err := w.Write(h[:]); err != nil {
					return fmt.Errorf("write scratch file: %w", err)
				}
			}
			if edge.Size()%c2sp.TileWidth == 0 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write scratch file: %w", err)
	}
	e.root = edge.Root()
	if err := e.tiles(f, dir); err != nil {
		return err
	}
	var history []byte
	for _, n := range e.notes {
		history = c2sp.AppendHistory(history, n)
	}
	if err := f.put(layout.History(e.Epoch), history); err != nil {
		return err
	}
	if len(e.notes) == 0 {
		return nil
	}
	return f.put(layout.Checkpoint(e.Epoch), e.notes[len(e.notes)-1])
}

// tiles writes the hashes as tiles, so that any reader of C2SP tlog-tiles can
// check the folder.
func (e *logExport) tiles(f *folder, dir string) error {
	for _, t := range tlog.NewTiles(c2sp.TileHeight, 0, e.size) {
		b, err := tlog.ReadTileData(t, e.reader())
		if err != nil {
			return fmt.Errorf("make tile %s: %w", t.Path(), err)
		}
		if err := f.put(path.Join(dir, c2sp.TilePath(t.L, t.N, t.W)), b); err != nil {
			return err
		}
	}
	return nil
}

// reader reads stored hashes.
func (e *logExport) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, n := range indexes {
			if _, err := e.hashes.ReadAt(out[i][:], n*tlog.HashSize); err != nil {
				return nil, fmt.Errorf("read hash %d: %w", n, err)
			}
		}
		return out, nil
	})
}

// prove gives an entry's inclusion proof in the tree of the last checkpoint.
func (e *logExport) prove(seq int64) ([]byte, error) {
	p, err := tlog.ProveRecord(e.size, seq, e.reader())
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", seq, err)
	}
	return c2sp.FormatProof(seq, p, e.notes[len(e.notes)-1]), nil
}

func (e *logExport) close() {
	if e.hashes != nil {
		e.hashes.Close()
		os.Remove(e.hashes.Name())
	}
}

// fromSource reads the log where it came from.
func (e *logExport) fromSource(src Source) derive.Log {
	return derive.Log{Epoch: e.Epoch, Origin: e.Origin, Size: e.size, Checkpoints: e.notes, Entries: func(ctx context.Context, fn func([]byte) error) error {
		for at := int64(0); at < e.size; {
			batch, err := src.Read(ctx, e.Epoch, at, int(min(readBatch, e.size-at)))
			if err != nil {
				return err
			}
			if len(batch) == 0 {
				return fmt.Errorf("the book ends at entry %d of %d", at, e.size)
			}
			for _, entry := range batch {
				if err := fn(entry.Raw); err != nil {
					return err
				}
			}
			at += int64(len(batch))
		}
		return nil
	}}
}

// fromFolder reads the log from the bundles that were just written.
func (e *logExport) fromFolder(f *folder) derive.Log {
	return derive.Log{Epoch: e.Epoch, Origin: e.Origin, Size: e.size, Checkpoints: e.notes, Entries: func(ctx context.Context, fn func([]byte) error) error {
		for n := int64(0); n*c2sp.TileWidth < e.size; n++ {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			width := int(min(c2sp.TileWidth, e.size-n*c2sp.TileWidth))
			in, err := f.root.Open(path.Join(layout.LogDir(e.Epoch), c2sp.TilePath(c2sp.Entries, n, width)))
			if err != nil {
				return err
			}
			rest, err := io.ReadAll(in)
			in.Close()
			for err == nil && len(rest) > 0 {
				var raw []byte
				if raw, rest, err = c2sp.NextEntry(rest); err == nil {
					err = fn(raw)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// rootText is a root as a checkpoint writes it.
func rootText(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }
