package book

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/book/c2sp"
)

// Files of an epoch's directory, beside the journal and the tiles.
const (
	CheckpointFile = "checkpoint"   // the newest signed checkpoint
	HistoryFile    = "checkpoints"  // all of them, oldest first
	KeyFile        = "verifier-key" // the epoch's verifier key; no root of trust, since it lies beside the log
)

func epochDir(dir string, epoch int) string { return filepath.Join(dir, strconv.Itoa(epoch)) }

// epochs lists the epochs in a book's directory, oldest first.
func epochs(dir string) ([]int, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var es []int
	for _, d := range list {
		if n, err := strconv.Atoi(d.Name()); err == nil && n > 0 && d.IsDir() && strconv.Itoa(n) == d.Name() {
			es = append(es, n)
		}
	}
	slices.Sort(es)
	return es, nil
}

// found is where the book goes on.
type found struct {
	epoch  int
	sealed Checkpoint // the newest; zero in an epoch that begins
	lost   string
}

// locate finds the epoch to go on with: the newest one, if its journal holds all
// that was signed, else the next. An old epoch is only read here, never written:
// what is left of a damaged one may still be wanted.
func locate(ctx context.Context, dir string, o Options) (found, error) {
	es, err := epochs(dir)
	if err != nil {
		return found{}, err
	}
	if len(es) == 0 {
		return found{epoch: 1}, nil
	}
	newest := es[len(es)-1]
	sealed, empty, lost, err := inspect(ctx, dir, newest, o)
	switch {
	case err != nil:
		return found{}, err
	case lost != "":
		return found{epoch: newest + 1, lost: lost}, nil
	case empty && newest > 1:
		// The epoch had only begun: the reason for it is not in the book yet.
		_, _, lost, err := inspect(ctx, dir, newest-1, o)
		if err != nil {
			return found{}, err
		}
		if lost == "" {
			lost = fmt.Sprintf("epoch %d was begun because entries of epoch %d were missing", newest, newest-1)
		}
		return found{epoch: newest, sealed: sealed, lost: lost}, nil
	}
	return found{epoch: newest, sealed: sealed}, nil
}

// inspect compares an epoch's journal with what is known about it from elsewhere:
// its newest signed checkpoint and Options.HighWater.
func inspect(ctx context.Context, dir string, epoch int, o Options) (sealed Checkpoint, empty bool, lost string, err error) {
	origin := o.Key.Origin(epoch)
	miss := func(format string, args ...any) (Checkpoint, bool, string, error) {
		return Checkpoint{}, false, origin + ": " + fmt.Sprintf(format, args...), nil
	}
	sealed, err = newestCheckpoint(epochDir(dir, epoch), o.Key.EpochVerifier(epoch))
	var unsigned *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unsigned):
		return miss("its last checkpoint is not signed by key %s", o.Key.Verifier())
	case err != nil:
		return sealed, false, "", err
	}
	known := int64(0)
	if o.HighWater != nil {
		known = o.HighWater(origin)
	}
	path := filepath.Join(epochDir(dir, epoch), journalFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if sealed.Size > 0 || known > 0 {
			return miss("the journal is missing; %d entries were in it", max(sealed.Size, known))
		}
		return sealed, true, "", nil
	}
	db, err := openRead(path)
	if err != nil {
		return sealed, false, "", err
	}
	defer db.Close()
	size, err := journalSize(ctx, db)
	switch {
	case isCorrupt(err):
		return miss("the journal cannot be read (%v); %d entries were signed", err, sealed.Size)
	case err != nil:
		return sealed, false, "", err
	case size < sealed.Size:
		return miss("entries %d to %d are missing: the last checkpoint signs %d, the journal holds %d", size, sealed.Size-1, sealed.Size, size)
	case size < known:
		return miss("entries %d to %d are missing: the archive has read %d, the journal holds %d", size, known-1, known, size)
	}
	hashes := hashReader(ctx, db)
	edge, err := c2sp.LoadEdge(sealed.Size, hashes)
	if err == nil && sealed.Note != nil && edge.Root() != sealed.Root {
		return miss("the journal's first %d entries are not those that were signed: their root is %s, the last checkpoint's %s", sealed.Size, edge.Root(), sealed.Root)
	}
	if err == nil && size > 0 {
		_, err = readEntries(ctx, db, size-1, 1)
	}
	if err == nil {
		_, err = c2sp.LoadEdge(size, hashes)
	}
	if isCorrupt(err) {
		return miss("the end of the journal is damaged: %v", err)
	}
	return sealed, size == 0, "", err
}

// journalSize is sizeOf for a journal whose tables may not have been made yet.
func journalSize(ctx context.Context, db querier) (int64, error) {
	var tables int64
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'entries'").Scan(&tables); err != nil {
		return 0, fmt.Errorf("read the journal: %w", err)
	}
	if tables == 0 {
		return 0, nil
	}
	return sizeOf(ctx, db)
}

// newestCheckpoint reads the newest signed checkpoint of an epoch from its two
// files. Its Note is nil if there is none yet.
func newestCheckpoint(dir, vkey string) (Checkpoint, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verifier key: %w", err)
	}
	var newest Checkpoint
	consider := func(signed []byte, file string) error {
		c, err := c2sp.Open(signed, v)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, file), err)
		}
		if newest.Note == nil || c.Size >= newest.Size {
			newest = Checkpoint{Origin: c.Origin, Size: c.Size, Root: c.Root, Note: signed}
		}
		return nil
	}
	if f, err := os.Open(filepath.Join(dir, HistoryFile)); err == nil {
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			newest.Time = info.ModTime()
		}
		var last []byte
		for s, err := range c2sp.History(bufio.NewReader(f)) {
			if errors.Is(err, c2sp.ErrTorn) {
				break
			}
			if err != nil {
				return newest, err
			}
			last = s.Note
		}
		if last != nil {
			if err := consider(last, HistoryFile); err != nil {
				return newest, err
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return newest, err
	}
	signed, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newest, nil
	}
	if err != nil {
		return newest, err
	}
	return newest, consider(signed, CheckpointFile)
}
