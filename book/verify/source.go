// Package verify recomputes a book from its raw bytes and says what it found. It
// needs no database, no server and no key of the operator's: a program of its own
// (cmd/guardbook-verify) is made of it, so that an auditor can check a book with
// something other than what wrote it.
//
// What it can show is that the records are the ones that were signed, that none
// is missing between them, and how the record was kept. It cannot show that what
// was recorded was true, nor that controls were effective.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/guardbook/guardbook/book/c2sp"
)

// Names of the files in a log's directory.
const (
	checkpointFile = "checkpoint"
	historyFile    = "checkpoints"
	keyFile        = "verifier-key"
)

// Log is the raw material of one log (one epoch of a book).
type Log struct {
	// Epoch is the number of the epoch, 0 if the source doesn't say.
	Epoch int
	// Path stands before the names of the log's files in the report.
	Path string
	// Key is the verifier key that lies beside the log; it is no root of trust.
	Key string
	// Files holds the checkpoint, the history of checkpoints and the tiles.
	Files fs.FS
	// Records gives the records of a journal in order of their rows; nil: the
	// records are read from the entry bundles. It is called once, after the
	// checkpoints were read, so that a journal that grows meanwhile is not mistaken
	// for one that lacks what was signed.
	Records func(context.Context) iter.Seq2[Record, error]
	// Broken names what is known to be wrong with the source itself, such as a
	// journal that isn't there.
	Broken string
}

// Record is one record as it was found.
type Record struct {
	Seq    int64  // the journal's row, or the place in the bundles
	Raw    []byte // not shared with the source
	Hashes []byte // the hashes stored beside it; nil in bundles
	File   string // without Log.Path
	Offset int64  // of the record's bytes in File; -1: File has rows
}

// OpenDir reads an exported book: a directory that is a log (it holds a
// checkpoint), or one that holds a directory for each epoch. No name in it may
// lead out of it. Close the result when the report is made.
func OpenDir(dir string) ([]Log, io.Closer, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	files := root.FS()
	if _, err := fs.Stat(files, checkpointFile); err == nil {
		return []Log{{Files: files, Key: readKey(files)}}, root, nil
	}
	list, err := fs.ReadDir(files, ".")
	if err != nil {
		root.Close()
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	var logs []Log
	for _, d := range list {
		n, err := strconv.Atoi(d.Name())
		if err != nil || n < 1 || strconv.Itoa(n) != d.Name() || !d.IsDir() {
			continue
		}
		sub, err := fs.Sub(files, d.Name())
		if err != nil {
			root.Close()
			return nil, nil, fmt.Errorf("open %s: %w", dir, err)
		}
		logs = append(logs, Log{Epoch: n, Path: d.Name() + "/", Files: sub, Key: readKey(sub)})
	}
	slices.SortFunc(logs, func(a, b Log) int { return a.Epoch - b.Epoch })
	return logs, root, nil
}

func readKey(files fs.FS) string {
	b, err := readFile(files, keyFile, 4096)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// readFile reads a file that must not be larger than limit.
func readFile(files fs.FS, name string, limit int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return b, err
}

const (
	maxTile   = c2sp.TileWidth * 32
	maxBundle = c2sp.TileWidth * (2 + c2sp.MaxEntry)
)

// readTile reads a tile or bundle of a tree: the partial file of the given width,
// else the full one, of which it is the beginning. It returns the file's name.
func (l *Log) readTile(level int, n int64, width int) (data []byte, name string, err error) {
	limit := int64(maxTile)
	if level == c2sp.Entries {
		limit = maxBundle
	}
	name = c2sp.TilePath(level, n, width)
	data, err = readFile(l.Files, name, limit)
	if errors.Is(err, fs.ErrNotExist) && width < c2sp.TileWidth {
		full := c2sp.TilePath(level, n, c2sp.TileWidth)
		if data, ferr := readFile(l.Files, full, limit); ferr == nil {
			if level != c2sp.Entries && len(data) == maxTile {
				data = data[:width*32]
			}
			return data, full, nil
		}
	}
	return data, name, err
}

// bundles reads the records of the first size entries from the entry bundles. A
// bundle that cannot be read is an error, and the records go on after it.
func (l *Log) bundles(size int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for n := int64(0); n*c2sp.TileWidth < size; n++ {
			first := n * c2sp.TileWidth
			width := int(min(size-first, c2sp.TileWidth))
			data, name, err := l.readTile(c2sp.Entries, n, width)
			if err != nil {
				if !yield(Record{Seq: first, File: name, Offset: 0}, fmt.Errorf("the entry bundle cannot be read: %w", pathless(err))) {
					return
				}
				continue
			}
			rest := data
			for i := range width {
				at := int64(len(data) - len(rest))
				var entry []byte
				if entry, rest, err = c2sp.NextEntry(rest); err != nil {
					if !yield(Record{Seq: first + int64(i), File: name, Offset: at}, err) {
						return
					}
					break
				}
				if !yield(Record{Seq: first + int64(i), Raw: entry, File: name, Offset: at + 2}, nil) {
					return
				}
			}
			if err == nil && len(rest) > 0 && path.Base(path.Dir(name)) != "" && isPartial(name, width) {
				if !yield(Record{Seq: -1, File: name, Offset: int64(len(data) - len(rest))}, fmt.Errorf("%d bytes follow the last entry of the bundle", len(rest))) {
					return
				}
			}
		}
	}
}

// isPartial says whether a bundle's file should hold exactly width entries: the
// full file may stand in for a partial one.
func isPartial(name string, width int) bool {
	return width == c2sp.TileWidth || strings.HasSuffix(name, ".p/"+strconv.Itoa(width))
}

// pathless takes the path out of an error: the report names files its own way.
func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// none is the sequence number of a problem that no record has.
const none = math.MinInt64
