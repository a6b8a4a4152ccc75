package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// maxBundle bounds an entry bundle: 256 entries of 64 KiB with their lengths.
const maxBundle = c2sp.TileWidth * (c2sp.MaxEntry + 2)

// errDamaged ends the reading of a log that cannot be read on; what was found is
// in the report.
var errDamaged = errors.New("the log cannot be read on")

// logReader reads one log from its bundles and checks the tiles on the way.
type logReader struct {
	files  *Files
	report *Report
	scope  layout.LogScope
	log    *Log
	notes  [][]byte
	wanted map[int64]tlog.Hash // entries whose leaf hash is kept, for proofs
	quiet  bool                // problems were already told by the pass before

	anchors []*anchor // oldest first
	edge    c2sp.Edge
	spare   []tlog.Hash

	levels [][]tlog.Hash // hashes of the unfinished tile of each level
	counts []int64       // finished tiles of each level
}

// input is the log as derive reads it.
func (l *logReader) input() derive.Log {
	return derive.Log{Epoch: l.scope.Epoch, Origin: l.scope.Origin, Size: l.scope.Size, Checkpoints: l.notes, Entries: func(ctx context.Context, fn func([]byte) error) error {
		err := l.entries(ctx, fn)
		l.quiet = true
		if errors.Is(err, errDamaged) {
			return nil
		}
		return err
	}}
}

func (l *logReader) problem(p Problem) {
	if !l.quiet {
		p.Log = l.scope.Origin
		l.report.problem(p)
	}
}

func (l *logReader) file(level int, n int64, width int) string {
	return path.Join(layout.LogDir(l.scope.Epoch), c2sp.TilePath(level, n, width))
}

func (l *logReader) entries(ctx context.Context, fn func([]byte) error) error {
	l.levels, l.counts, l.edge = nil, nil, c2sp.Edge{}
	l.meet()
	for n := int64(0); n*c2sp.TileWidth < l.scope.Size; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		width := int(min(c2sp.TileWidth, l.scope.Size-n*c2sp.TileWidth))
		if err := l.bundle(n, width, fn); err != nil {
			return err
		}
	}
	if !l.quiet {
		l.lastTiles()
	}
	return nil
}

// bundle reads one bundle and compares each entry with its hash in the tile.
func (l *logReader) bundle(n int64, width int, fn func([]byte) error) error {
	name := l.file(c2sp.Entries, n, width)
	rest, err := l.files.Read(name, maxBundle)
	if err != nil {
		l.problem(Problem{Code: "bundle_missing", File: name, Seq: n * c2sp.TileWidth, Message: "a bundle of entries cannot be read: " + err.Error()})
		l.missing(int64(width))
		return errDamaged
	}
	var hashes []byte
	if !l.quiet {
		tile := l.file(0, n, width)
		if hashes, err = l.files.Read(tile, c2sp.TileWidth*tlog.HashSize); err != nil || len(hashes) != width*tlog.HashSize {
			l.problem(Problem{Code: "tile_damaged", File: tile, Seq: n * c2sp.TileWidth, Message: fmt.Sprintf("the tile has %d bytes instead of %d", len(hashes), width*tlog.HashSize)})
			hashes = nil
		}
	}
	whole := len(rest)
	for i := range width {
		seq := n*c2sp.TileWidth + int64(i)
		at := int64(whole - len(rest))
		raw, after, err := c2sp.NextEntry(rest)
		if err != nil {
			l.problem(Problem{Code: "bundle_truncated", File: name, Seq: seq, Offset: at, Message: err.Error()})
			l.missing(int64(width - i))
			return errDamaged
		}
		rest = after
		h := tlog.RecordHash(raw)
		if hashes != nil {
			if want := tlog.Hash(hashes[i*tlog.HashSize:]); h != want {
				l.log.Altered++
				l.problem(Problem{Code: "entry_altered", File: name, Seq: seq, Offset: at, Expected: want.String(), Got: h.String(), Message: "the entry's bytes do not have the hash in the tile"})
			}
		}
		if !l.quiet {
			if _, ok := l.wanted[seq]; ok {
				l.wanted[seq] = h
			}
			l.leaf(0, h)
			l.spare = l.edge.Append(l.spare[:0], h)
			l.meet()
		}
		if err := fn(raw); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		l.problem(Problem{Code: "bundle_too_long", File: name, Offset: int64(whole - len(rest)), Seq: n*c2sp.TileWidth + int64(width), Message: fmt.Sprintf("%d bytes after the last entry", len(rest))})
	}
	return nil
}

// meet compares the anchors of the size that the tree has now.
func (l *logReader) meet() {
	for _, a := range l.anchors {
		if !l.quiet && a.Size == l.edge.Size() {
			a.met, a.fits = true, a.Root == l.edge.Root()
		}
	}
}

func (l *logReader) missing(n int64) {
	if !l.quiet {
		l.log.Missing += n
	}
}

// leaf takes a hash of a level; a full tile is compared and gives one hash to the
// level above.
func (l *logReader) leaf(level int, h tlog.Hash) {
	for len(l.levels) <= level {
		l.levels, l.counts = append(l.levels, nil), append(l.counts, 0)
	}
	l.levels[level] = append(l.levels[level], h)
	if len(l.levels[level]) < c2sp.TileWidth {
		return
	}
	l.tile(level, c2sp.TileWidth)
	up := slab(l.levels[level])
	l.levels[level] = l.levels[level][:0]
	l.counts[level]++
	l.leaf(level+1, up)
}

// slab is the root of a full tile.
func slab(hashes []tlog.Hash) tlog.Hash {
	row := append([]tlog.Hash(nil), hashes...)
	for len(row) > 1 {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0]
}

// tile compares a tile with the hashes that were computed.
func (l *logReader) tile(level, width int) {
	if level == 0 {
		return // compared entry by entry
	}
	name := l.file(level, l.counts[level], width)
	got, err := l.files.Read(name, c2sp.TileWidth*tlog.HashSize)
	var want []byte
	for _, h := range l.levels[level] {
		want = append(want, h[:]...)
	}
	if err != nil || !bytes.Equal(got, want) {
		l.problem(Problem{Code: "tile_damaged", File: name, Message: "the tile does not hold the hashes that the entries give"})
	}
}

func (l *logReader) lastTiles() {
	for level := range l.levels {
		if n := len(l.levels[level]); n > 0 {
			l.tile(level, n)
		}
	}
}

// readNotes reads a log's checkpoints; a history that is torn or holds something
// else is a problem.
func (l *logReader) readNotes() {
	name := layout.History(l.scope.Epoch)
	b, err := l.files.Read(name, maxDescribe)
	if errors.Is(err, fs.ErrNotExist) {
		l.problem(Problem{Code: "checkpoints_missing", File: name, Message: "the log has no checkpoints"})
		return
	}
	if err != nil {
		l.problem(Problem{Code: "checkpoints_missing", File: name, Message: err.Error()})
		return
	}
	for s, err := range c2sp.History(bytes.NewReader(b)) {
		if err != nil {
			l.problem(Problem{Code: "checkpoint_invalid", File: name, Offset: s.Offset, Message: err.Error()})
			return
		}
		l.notes = append(l.notes, s.Note)
	}
}
