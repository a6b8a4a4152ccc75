package book

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
)

const (
	maxGroup      = 1024     // entries that are committed together
	maxGroupBytes = 4 << 20  // their size
	walMark       = 4 << 20  // growth of the -wal file after which it is copied back
	walLimit      = 64 << 20 // size at which the writer pauses to finish the copy
)

// request is one call of Append on its way through the writer.
type request struct {
	entries  []encoded
	bytes    int
	durable  bool
	receipts []Receipt
	err      error
	done     chan struct{}
}

// writerState is the writer's own; b.writing guards it.
type writerState struct {
	lastRec time.Time
	unsure  bool  // a commit failed: read the journal's size again before the next
	grown   int64 // bytes committed since the checkpointer was last called
	hashes  []tlog.Hash
	packed  []byte
}

// Append writes the drafts as one group: either all of them are in the book, next
// to one another, or none. It returns when they are as durable as the book's
// Durability says. An error that wraps ErrUnconfirmed, or the context's, means
// that it is not known whether they were written.
func (b *Book) Append(ctx context.Context, drafts ...guardbook.Draft) ([]Receipt, error) {
	return b.append(ctx, b.opts.Durability == Strict, drafts)
}

// AppendDurable is Append that returns when the entries are on the disk, whatever
// the book's Durability.
func (b *Book) AppendDurable(ctx context.Context, drafts ...guardbook.Draft) ([]Receipt, error) {
	return b.append(ctx, true, drafts)
}

func (b *Book) append(ctx context.Context, durable bool, drafts []guardbook.Draft) ([]Receipt, error) {
	if len(drafts) == 0 {
		return nil, nil
	}
	r := &request{entries: make([]encoded, len(drafts)), durable: durable, done: make(chan struct{})}
	now := b.opts.Now()
	for i, d := range drafts {
		e, err := encode(d, b.origin, b.opts.Instance, now)
		if err != nil {
			return nil, fmt.Errorf("append: %w", err)
		}
		r.entries[i] = e
		r.bytes += len(e.json)
	}
	select {
	case <-b.stop:
		return nil, fmt.Errorf("append: %w", ErrClosed)
	default:
	}
	select {
	case b.requests <- r:
	case <-b.stop:
		return nil, fmt.Errorf("append: %w", ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("append: not begun: %w", context.Cause(ctx))
	}
	select {
	case <-r.done:
	case <-b.stopped:
		select {
		case <-r.done:
		default:
			return nil, fmt.Errorf("append: %w", ErrClosed)
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("append: %w: %w", ErrUnconfirmed, context.Cause(ctx))
	}
	return r.receipts, r.err
}

// writeLoop is the only writer: it takes what is waiting and commits it together.
func (b *Book) writeLoop() {
	defer close(b.stopped)
	probe := time.NewTicker(time.Second)
	defer probe.Stop()
	var group []*request
	for {
		group = group[:0]
		select {
		case r := <-b.requests:
			group = append(group, r)
		case <-probe.C:
			b.tryAgain()
			continue
		case <-b.stop:
			// Whoever got past the check in append may still be on the way in.
			select {
			case r := <-b.requests:
				group = append(group, r)
			default:
				return
			}
		}
		entries, bytes := len(group[0].entries), group[0].bytes
	gather:
		for entries < maxGroup && bytes < maxGroupBytes {
			select {
			case r := <-b.requests:
				group = append(group, r)
				entries += len(r.entries)
				bytes += r.bytes
			default:
				break gather
			}
		}
		err := b.commit(group)
		for _, r := range group {
			if err != nil {
				r.receipts, r.err = nil, err
			}
			close(r.done)
		}
	}
}

// tryAgain tests, while the book is not writable, whether it is again: nobody may
// be sending anything, and /readyz should not wait for somebody.
func (b *Book) tryAgain() {
	if b.Writable() == nil {
		return
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	err := b.recover()
	if err == nil {
		err = b.j.probe()
	}
	b.setFailed(err)
}

// recover brings writer and journal together again after a failure.
func (b *Book) recover() error {
	if err := b.j.mend(); err != nil {
		return err
	}
	if b.w.unsure {
		if _, err := b.resume(); err != nil {
			return err
		}
		b.w.unsure = false
	}
	return nil
}

// commit writes a group in one transaction and, when it is there, says so.
func (b *Book) commit(group []*request) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	edge, entries, err := b.transact(group)
	if err != nil {
		err = fmt.Errorf("append: %w: %w", ErrUnconfirmed, err)
		b.setFailed(err)
		return err
	}
	b.mu.Lock()
	b.edge = edge
	if b.failed != nil {
		b.failed = nil
		b.opts.Log.Info("the book can be written again")
	}
	b.recent.add(entries)
	b.tell()
	b.mu.Unlock()
	if b.opts.Durability == Balanced {
		notify(b.dirty)
	}
	if b.w.grown > walMark {
		b.w.grown = 0
		notify(b.grown)
	}
	return nil
}

func (b *Book) transact(group []*request) (edge c2sp.Edge, entries []guardbook.Entry, err error) {
	if err := b.recover(); err != nil {
		return edge, nil, err
	}
	edge = b.edge // only the writer changes it
	begun := false
	defer func() {
		if err == nil {
			return
		}
		b.w.unsure = true
		if begun {
			_ = b.j.write.exec("ROLLBACK") // an error here means that SQLite has rolled back already
		}
	}()
	if err := b.j.write.exec("BEGIN IMMEDIATE"); err != nil {
		return edge, nil, err
	}
	begun = true
	rec := b.opts.Now().UTC().Truncate(time.Microsecond)
	if rec.Before(b.w.lastRec) {
		rec = b.w.lastRec // the clock went back; the record doesn't
	}
	stamp := rec.Format(guardbook.TimeLayout)
	durable := false
	for _, r := range group {
		durable = durable || r.durable
		r.receipts = make([]Receipt, len(r.entries))
		for i := range r.entries {
			e, leaf := r.entries[i].finish(edge.Size(), stamp)
			b.w.hashes = edge.Append(b.w.hashes[:0], leaf)
			b.w.packed = b.w.packed[:0]
			for _, h := range b.w.hashes {
				b.w.packed = append(b.w.packed, h[:]...)
			}
			if err := b.j.add(e.Seq, e.Raw, b.w.packed); err != nil {
				return edge, nil, err
			}
			b.w.grown += int64(len(e.Raw) + len(b.w.packed))
			entries = append(entries, e)
			r.receipts[i] = Receipt{Seq: e.Seq, ID: e.ID, Rec: rec}
		}
	}
	if err := b.j.write.exec("COMMIT"); err != nil {
		return edge, nil, err
	}
	begun = false
	b.w.lastRec = rec
	b.w.grown += 8 << 10 // the pages at the edge are written again by every commit
	if durable && b.opts.Durability == Balanced {
		if err := b.j.sync(); err != nil {
			return edge, nil, err
		}
	}
	return edge, entries, nil
}

func (b *Book) setFailed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if (err == nil) != (b.failed == nil) {
		if err != nil {
			b.opts.Log.Error("the book cannot be written", "error", err)
		} else {
			b.opts.Log.Info("the book can be written again")
		}
	}
	b.failed = err
}

// notify wakes a loop that may be asleep, and never waits for it.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// syncLoop takes, in balanced mode, commits to the disk.
func (b *Book) syncLoop() {
	for {
		select {
		case <-b.dirty:
		case <-b.ctx.Done():
			return
		}
		timer := time.NewTimer(b.opts.SyncEvery)
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			timer.Stop()
		}
		if err := b.j.sync(); err != nil {
			b.setFailed(err)
		}
	}
}

// checkpointLoop copies the -wal file back into the database beside the writer,
// so that no commit has to do it.
func (b *Book) checkpointLoop() {
	var c *connection
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		select {
		case <-b.grown:
		case <-b.ctx.Done():
			return
		}
		if err := b.copyBack(&c); err != nil {
			b.opts.Log.Warn("copy the write-ahead log back", "error", err)
		}
	}
}

func (b *Book) copyBack(c **connection) (err error) {
	if *c == nil {
		if *c, err = connect(b.j.path, "rw", "synchronous(NORMAL)"); err != nil {
			return err
		}
	}
	var busy, log, copied int64
	const passive = "PRAGMA wal_checkpoint(PASSIVE)"
	if err := (*c).ints(passive, &busy, &log, &copied); err != nil {
		return err
	}
	info, err := b.j.wal.Stat()
	if err != nil || info.Size() < walLimit || copied == 0 {
		return err
	}
	// Under constant writing there is always a commit more than was copied, and the
	// file would grow for ever. Now that little is left, do the rest while no
	// commit runs: the next one begins the file anew.
	b.writing.Lock()
	defer b.writing.Unlock()
	return (*c).ints(passive, &busy, &log, &copied)
}
