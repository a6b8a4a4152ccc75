package verify

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// Selection is a sample that anybody can draw again: the rows in the order of
// SHA-256(seed || row_id), from the smallest on.
type Selection struct {
	Package    string   `json:"package"`
	Population string   `json:"population"`
	Method     string   `json:"method"`
	Seed       string   `json:"seed"`
	SeedSource string   `json:"seed_source"` // auditor: it was given
	Size       int64    `json:"population_rows"`
	N          int      `json:"n"`
	Rows       []Chosen `json:"rows"`
}

// Chosen is one row of a sample.
type Chosen struct {
	RowID string `json:"row_id"`
	Log   string `json:"log"`
	Seq   int64  `json:"seq"`
	Order string `json:"order"` // SHA-256(seed || row_id)
}

// chosenHeap keeps the n smallest: its top is the largest of them.
type chosenHeap []Chosen

func (h chosenHeap) Len() int           { return len(h) }
func (h chosenHeap) Less(i, j int) bool { return h[i].Order > h[j].Order }
func (h chosenHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *chosenHeap) Push(x any)        { *h = append(*h, x.(Chosen)) }
func (h *chosenHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// Sample draws n rows of a population with the auditor's seed.
func Sample(ctx context.Context, files *Files, population, seed string, n int) (*Selection, error) {
	if n <= 0 {
		return nil, errors.New("sample: n must be at least 1")
	}
	if seed == "" {
		return nil, errors.New("sample: the auditor's seed is missing")
	}
	if !slices.Contains(layout.Narratives, population) {
		return nil, fmt.Errorf("sample: there is no population %q: use one of %v", population, layout.Narratives)
	}
	var scope layout.ScopeFile
	if err := describe(files, layout.Scope, &scope); err != nil {
		return nil, err
	}
	var ipe layout.IPE
	if err := describe(files, population+"/population.ipe.json", &ipe); err != nil {
		return nil, err
	}
	s := &Selection{Package: scope.Package, Population: population, Method: "the n smallest of SHA-256(seed || row_id), in that order", Seed: seed, SeedSource: "auditor", N: n, Rows: []Chosen{}}
	var h chosenHeap
	for _, name := range sortedKeys(ipe.FileSHA256) {
		if path.Ext(name) != ".csv" {
			continue
		}
		if err := eachRow(ctx, files, name, func(id, seq, log string) error {
			s.Size++
			sum := sha256.Sum256([]byte(seed + id))
			number, err := strconv.ParseInt(seq, 10, 64)
			if err != nil {
				return fmt.Errorf("row %s: %w", id, err)
			}
			heap.Push(&h, Chosen{RowID: id, Log: log, Seq: number, Order: hex.EncodeToString(sum[:])})
			if len(h) > n {
				heap.Pop(&h)
			}
			return nil
		}); err != nil {
			return nil, fmt.Errorf("sample %s: %w", name, err)
		}
	}
	s.Rows = append(s.Rows, h...)
	slices.SortFunc(s.Rows, func(a, b Chosen) int { return bytes.Compare([]byte(a.Order), []byte(b.Order)) })
	return s, nil
}

func describe(files *Files, name string, v any) error {
	b, err := files.Read(name, maxDescribe)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotPackage, err)
	}
	if err := layout.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// eachRow reads row_id, seq and log of every row of a population's CSV file.
func eachRow(ctx context.Context, files *Files, name string, fn func(id, seq, log string) error) error {
	in, err := files.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	r := csv.NewReader(bufio.NewReader(in))
	r.ReuseRecord = true
	for first := true; ; first = false {
		row, err := r.Read()
		switch {
		case errors.Is(err, io.EOF):
			return ctx.Err()
		case err != nil:
			return err
		case len(row) < 3 || first && (row[0] != "row_id" || row[1] != "seq" || row[2] != "log"):
			return errors.New("its columns do not begin with row_id, seq, log")
		case first:
			continue
		}
		if err := fn(row[0], row[1], row[2]); err != nil {
			return err
		}
	}
}

// WriteSample writes the selection and, for each row, the raw entry, its
// inclusion proof and a sheet with blank columns for the auditor into a new
// directory outside the package.
func WriteSample(ctx context.Context, files *Files, s *Selection, dir string) error {
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return fmt.Errorf("write sample: %s is not empty", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write sample: %w", err)
	}
	var scope layout.ScopeFile
	if err := describe(files, layout.Scope, &scope); err != nil {
		return err
	}
	sheet := "row_id,seq,occurred,authorised,timely,complete,auditor_result,auditor_note\n"
	for _, c := range s.Rows {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		i := slices.IndexFunc(scope.Logs, func(l layout.LogScope) bool { return l.Origin == c.Log })
		if i < 0 || !layout.SafeName(c.RowID) {
			return fmt.Errorf("write sample: row %q is of no log in the package", c.RowID)
		}
		raw, proof, err := entryWithProof(files, scope.Logs[i], c.Seq)
		if err != nil {
			return fmt.Errorf("write sample: row %s: %w", c.RowID, err)
		}
		if e, err := guardbook.ParseEntry(raw); err != nil || e.ID != c.RowID {
			return fmt.Errorf("write sample: entry %d of the log is not row %s", c.Seq, c.RowID)
		}
		item := filepath.Join(dir, c.RowID)
		if err := os.Mkdir(item, 0o755); err != nil {
			return fmt.Errorf("write sample: %w", err)
		}
		if err := errors.Join(os.WriteFile(filepath.Join(item, "entry.json"), append(raw, '\n'), 0o644),
			os.WriteFile(filepath.Join(item, "entry.tlog-proof"), proof, 0o644)); err != nil {
			return fmt.Errorf("write sample: %w", err)
		}
		sheet += fmt.Sprintf("%q,%d,,,,,,\n", derive.Cell(c.RowID), c.Seq)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write sample: %w", err)
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "selection.json"), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "attributes.csv"), []byte(sheet), 0o644))
}

// entryWithProof reads one entry from its bundle and makes its proof from the
// package's tiles.
func entryWithProof(files *Files, l layout.LogScope, seq int64) (raw, proof []byte, err error) {
	if seq < 0 || seq >= l.Size {
		return nil, nil, fmt.Errorf("there is no entry %d of %d", seq, l.Size)
	}
	n := seq / c2sp.TileWidth
	width := int(min(c2sp.TileWidth, l.Size-n*c2sp.TileWidth))
	rest, err := files.Read(path.Join(layout.LogDir(l.Epoch), c2sp.TilePath(c2sp.Entries, n, width)), maxBundle)
	if err != nil {
		return nil, nil, err
	}
	for range seq%c2sp.TileWidth + 1 {
		if raw, rest, err = c2sp.NextEntry(rest); err != nil {
			return nil, nil, err
		}
	}
	note, err := files.Read(layout.Checkpoint(l.Epoch), 1<<20)
	if err != nil {
		return nil, nil, err
	}
	root, err := tlog.ParseHash(l.Root)
	if err != nil {
		return nil, nil, err
	}
	hashes := tlog.TileHashReader(tlog.Tree{N: l.Size, Hash: root}, tileReader{files, l.Epoch})
	p, err := tlog.ProveRecord(l.Size, seq, hashes)
	if err != nil {
		return nil, nil, err
	}
	return slices.Clone(raw), c2sp.FormatProof(seq, p, note), nil
}

// tileReader reads tiles from a package.
type tileReader struct {
	files *Files
	epoch int
}

func (t tileReader) Height() int { return c2sp.TileHeight }

func (t tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		b, err := t.files.Read(path.Join(layout.LogDir(t.epoch), c2sp.TilePath(tile.L, tile.N, tile.W)), c2sp.TileWidth*tlog.HashSize)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (t tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// Exceptions reads the list of checks and exceptions of a package.
func Exceptions(files *Files) ([]derive.ExceptionRow, error) {
	b, err := files.Read("00-summary/exceptions.jsonl", maxDescribe)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPackage, err)
	}
	var rows []derive.ExceptionRow
	for line := range bytes.Lines(b) {
		var r derive.ExceptionRow
		if err := layout.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read exceptions: %w", err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}
