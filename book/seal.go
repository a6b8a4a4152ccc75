package book

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
)

// Checkpoint is a signed statement of what the log held.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Note   []byte    // the signed note, C2SP tlog-checkpoint
	Time   time.Time // when it was signed, by this machine's clock
}

// Checkpoint is the newest checkpoint.
func (b *Book) Checkpoint() Checkpoint {
	b.sealMu.RLock()
	defer b.sealMu.RUnlock()
	return b.sealed
}

// Seal signs what the book holds now: it writes the tiles up to there and then
// the checkpoint. If nothing is new, it returns the checkpoint that there is.
func (b *Book) Seal(ctx context.Context) (Checkpoint, error) {
	return b.sealAt(ctx, func(time.Duration) {})
}

// restFunc is called after each bundle with the time that it took.
type restFunc func(worked time.Duration)

// sealAt seals; rest decides at what pace.
func (b *Book) sealAt(ctx context.Context, rest restFunc) (Checkpoint, error) {
	b.sealing.Lock()
	defer b.sealing.Unlock()
	last := b.Checkpoint()
	b.mu.Lock()
	edge := b.edge
	b.mu.Unlock()
	if last.Note != nil && last.Size == edge.Size() {
		return last, nil
	}
	c, err := b.seal(ctx, last, edge, rest)
	if err != nil {
		return last, fmt.Errorf("seal at %d: %w", edge.Size(), err)
	}
	b.sealMu.Lock()
	b.sealed = c
	b.sealMu.Unlock()
	return c, nil
}

func (b *Book) seal(ctx context.Context, last Checkpoint, edge c2sp.Edge, rest restFunc) (Checkpoint, error) {
	// What is signed must not be lost: the journal goes to the disk first.
	if b.opts.Durability == Balanced {
		if err := b.j.sync(); err != nil {
			return last, err
		}
	}
	if err := writeTiles(ctx, b.dir, b.j.read, last.Size, edge.Size(), rest); err != nil {
		return last, err
	}
	signer, err := b.opts.Key.Signer(b.epoch)
	if err != nil {
		return last, err
	}
	c := Checkpoint{Origin: b.origin, Size: edge.Size(), Root: edge.Root(), Time: b.opts.Now().UTC()}
	if c.Note, err = c2sp.Sign(c2sp.Checkpoint{Origin: c.Origin, Size: c.Size, Root: c.Root}, signer); err != nil {
		return last, err
	}
	if err := appendHistory(filepath.Join(b.dir, HistoryFile), c.Note); err != nil {
		return last, err
	}
	if err := writeFile(filepath.Join(b.dir, CheckpointFile), c.Note, 0o644); err != nil {
		return last, fmt.Errorf("write checkpoint: %w", err)
	}
	return c, nil
}

// appendHistory adds a checkpoint to the file of all of them, and takes a part of
// it away again if the disk is full.
func appendHistory(path string, signed []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open the history of checkpoints: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open the history of checkpoints: %w", err)
	}
	_, err = f.Write(c2sp.AppendHistory(nil, signed))
	if err == nil {
		err = f.Sync()
	}
	if err == nil && info.Size() == 0 {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the history of checkpoints: %w", err), f.Truncate(info.Size()))
	}
	return nil
}

// repairHistory cuts off a checkpoint that was being written when the machine
// went down, and adds or publishes the newest where a crash came between the two
// files. It runs once, before the first seal.
func (b *Book) repairHistory() error {
	path := filepath.Join(b.dir, HistoryFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("open the history of checkpoints: %w", err)
	}
	defer f.Close()
	var last []byte
	for s, err := range c2sp.History(f) {
		if errors.Is(err, c2sp.ErrTorn) {
			if err := f.Truncate(s.Offset); err != nil {
				return fmt.Errorf("cut a torn checkpoint off the history: %w", err)
			}
			break
		}
		if err != nil {
			return err
		}
		last = s.Note
	}
	if b.sealed.Note == nil {
		return nil
	}
	if !bytes.Equal(last, b.sealed.Note) {
		if err := appendHistory(path, b.sealed.Note); err != nil {
			return err
		}
	}
	published, err := os.ReadFile(filepath.Join(b.dir, CheckpointFile))
	if err == nil && bytes.Equal(published, b.sealed.Note) {
		return nil
	}
	if err := writeFile(filepath.Join(b.dir, CheckpointFile), b.sealed.Note, 0o644); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// sealLoop seals at the set interval when there is something new.
func (b *Book) sealLoop() {
	tick := time.NewTicker(b.opts.SealEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// After each piece of work as long a rest: what is decided meanwhile must
			// not wait behind the seal of what was decided before.
			if _, err := b.sealAt(b.ctx, time.Sleep); err != nil && b.ctx.Err() == nil {
				b.opts.Log.Error("seal the book", "error", err)
			}
		case <-b.ctx.Done():
			return
		}
	}
}

// Prove gives the proof that an entry is in the book, as C2SP tlog-proof text: it
// leads from the entry to a signed checkpoint. An entry that isn't sealed yet is
// sealed first.
func (b *Book) Prove(ctx context.Context, seq int64) ([]byte, error) {
	if size := b.Size(); seq < 0 || seq >= size {
		return nil, fmt.Errorf("prove entry %d of %d: %w", seq, size, ErrNotFound)
	}
	c := b.Checkpoint()
	if seq >= c.Size {
		var err error
		if c, err = b.Seal(ctx); err != nil {
			return nil, fmt.Errorf("prove entry %d: %w", seq, err)
		}
	}
	return prove(ctx, b.j.read, seq, c)
}

func prove(ctx context.Context, db querier, seq int64, c Checkpoint) ([]byte, error) {
	p, err := tlog.ProveRecord(c.Size, seq, hashReader(ctx, db))
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", seq, err)
	}
	es, err := readEntries(ctx, db, seq, 1)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", seq, err)
	}
	if err := tlog.CheckRecord(p, c.Size, c.Root, seq, tlog.RecordHash(es[0].Raw)); err != nil {
		return nil, fmt.Errorf("prove entry %d: the stored hashes do not lead to the signed root: %w", seq, ErrDamaged)
	}
	return c2sp.FormatProof(seq, p, c.Note), nil
}
