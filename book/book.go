// Package book keeps the book: the append-only record of one instance. Entries
// are canonical JSON in a SQLite journal, each of them a leaf of an RFC 6962 tree
// whose hashes are stored in the same transaction, so that every durable entry
// already has its place and its proof. The tree is sealed at intervals: signed
// checkpoints and tiles in the formats of C2SP, which any verifier can read.
package book

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
)

// Durability says what has happened to an entry when Append returns.
type Durability string

const (
	// Strict: the entry is on the disk. A loss of power loses nothing.
	Strict Durability = "strict"
	// Balanced: the entry is with the kernel, so that the end of the process, in
	// whatever way, loses nothing; it is on the disk within Options.SyncEvery.
	Balanced Durability = "balanced"
)

// Defaults of Options.
const (
	DefaultSyncEvery = 50 * time.Millisecond
	DefaultSealEvery = 5 * time.Second
)

// Errors that callers tell apart.
var (
	// ErrUnconfirmed is wrapped by the error of an append that the disk refused or
	// did not confirm: the entries may or may not be in the book. The book goes on
	// with the next append; whether an entry is there can be asked by its id.
	ErrUnconfirmed = errors.New("the book did not confirm the entry")
	// ErrDamaged is wrapped by the error of a read that met bytes other than those
	// that were written.
	ErrDamaged = errors.New("the book is damaged")
	// ErrNotFound is wrapped when a sequence number or an id is not in the book.
	ErrNotFound = errors.New("no such entry")
	// ErrInUse is wrapped when another process has the book open for writing.
	ErrInUse = errors.New("the book is in use by another process")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("the book is closed")
)

// Options say how a book is kept.
type Options struct {
	// Instance is the instance's id in entries; empty: the key's.
	Instance string
	// Key signs the checkpoints and names the log. Required.
	Key *Key
	// Durability is Strict when empty.
	Durability Durability
	// SyncEvery bounds, in balanced mode, how long an entry waits for the sync that
	// takes it to the disk to begin; zero: DefaultSyncEvery.
	SyncEvery time.Duration
	// SealEvery is the time between two checkpoints; zero: DefaultSealEvery.
	SealEvery time.Duration
	// HighWater, if given, says how many entries of a log have been seen elsewhere
	// (the archive's cursor). A journal with fewer has lost some, and the book goes
	// on in a new epoch.
	HighWater func(log string) int64
	Log       *slog.Logger     // nil: nothing is logged
	Now       func() time.Time // nil: time.Now
}

func (o *Options) complete() error {
	if o.Key == nil {
		return errors.New("a signing key is needed")
	}
	if o.Durability == "" {
		o.Durability = Strict
	}
	if o.Durability != Strict && o.Durability != Balanced {
		return fmt.Errorf("durability %q is not known: use %s or %s", o.Durability, Strict, Balanced)
	}
	if o.Instance == "" {
		o.Instance = o.Key.Instance()
	}
	if o.SyncEvery <= 0 {
		o.SyncEvery = DefaultSyncEvery
	}
	if o.SealEvery <= 0 {
		o.SealEvery = DefaultSealEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Opened says in what state a book was found. The instance writes it into its
// start entry.
type Opened struct {
	Epoch    int    // 1, and one more each time that the log had to begin anew
	Previous int64  // the last sequence number found; -1 if there was none
	Clean    bool   // the log ended with a stop entry, or was empty in the first epoch
	Lost     string // what is known to be missing from the epoch before; empty: nothing
}

// Receipt says where an entry stands.
type Receipt struct {
	Seq int64
	ID  string
	Rec time.Time
}

// Book is an open book: one writer, many readers. Its methods may be called from
// many goroutines.
type Book struct {
	opts   Options
	epoch  int
	dir    string // of the epoch
	origin string
	opened Opened
	lock   *os.File
	j      *journal

	requests chan *request
	stop     chan struct{} // closed by Close: no new requests
	stopped  chan struct{} // closed by the writer when it has answered the last one
	dirty    chan struct{} // a commit waits for its sync (balanced)
	grown    chan struct{} // the -wal file has grown past its mark
	ctx      context.Context
	cancel   context.CancelFunc
	tasks    sync.WaitGroup

	writing sync.Mutex // held over a use of the writing connection
	w       writerState

	mu      sync.Mutex
	edge    c2sp.Edge // committed
	recent  recent
	changed chan struct{} // closed and replaced at each commit
	failed  error         // why the last append failed; nil after one that didn't
	closed  bool

	sealing sync.Mutex // one seal at a time
	sealMu  sync.RWMutex
	sealed  Checkpoint
}

// Open opens the book in a directory, DATA/book, making it if there is none. It
// takes the directory's lock, compares the journal with the last signed
// checkpoint, and continues in a new epoch if entries are missing.
func Open(dir string, o Options) (*Book, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("open book: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open book: make its directory: %w", err)
	}
	lock, err := takeLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("open book %s: %w", dir, err)
	}
	b := &Book{
		opts: o, lock: lock,
		requests: make(chan *request, 1024),
		stop:     make(chan struct{}), stopped: make(chan struct{}),
		dirty: make(chan struct{}, 1), grown: make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if err := b.begin(dir); err != nil {
		b.cancel()
		if b.j != nil {
			b.j.close()
		}
		lock.Close()
		return nil, fmt.Errorf("open book %s: %w", dir, err)
	}
	go b.writeLoop()
	b.tasks.Go(b.checkpointLoop)
	b.tasks.Go(b.sealLoop)
	if o.Durability == Balanced {
		b.tasks.Go(b.syncLoop)
	}
	return b, nil
}

// begin finds the epoch to go on with and prepares the first append.
func (b *Book) begin(dir string) error {
	found, err := locate(b.ctx, dir, b.opts)
	if err != nil {
		return err
	}
	b.epoch, b.dir, b.origin = found.epoch, epochDir(dir, found.epoch), b.opts.Key.Origin(found.epoch)
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("make the epoch's directory: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(b.dir, KeyFile), []byte(b.opts.Key.EpochVerifier(b.epoch)+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the epoch's verifier key: %w", err)
	}
	if b.j, err = openJournal(b.dir, b.opts.Durability); err != nil {
		return err
	}
	last, err := b.resume()
	if err != nil {
		return err
	}
	b.opened = Opened{Epoch: b.epoch, Previous: b.edge.Size() - 1, Lost: found.lost}
	b.opened.Clean = found.lost == "" && (b.edge.Size() == 0 || last.Type == guardbook.TypeStop)
	b.sealed = found.sealed
	if err := b.repairHistory(); err != nil {
		return err
	}
	if b.sealed.Note == nil || b.sealed.Size < b.edge.Size() {
		if _, err := b.Seal(b.ctx); err != nil {
			return err
		}
	}
	return nil
}

// resume reads from the journal where the next entry goes: after opening, and
// after an append that failed.
func (b *Book) resume() (last guardbook.Entry, err error) {
	size, err := sizeOf(b.ctx, b.j.read)
	if err != nil {
		return last, err
	}
	edge, err := c2sp.LoadEdge(size, hashReader(b.ctx, b.j.read))
	if err != nil {
		return last, fmt.Errorf("read the edge of the tree: %w", err)
	}
	b.w.lastRec = time.Time{}
	if size > 0 {
		es, err := readEntries(b.ctx, b.j.read, size-1, 1)
		if err != nil {
			return last, err
		}
		last = es[0]
		if b.w.lastRec, err = time.Parse(guardbook.TimeLayout, last.Rec); err != nil {
			return last, fmt.Errorf("entry %d: its time of recording: %w", last.Seq, err)
		}
	}
	b.mu.Lock()
	if edge.Size() != b.edge.Size() {
		b.recent.clear()
		b.tell()
	}
	b.edge = edge
	b.mu.Unlock()
	return last, nil
}

// tell wakes those who wait for entries. b.mu is held.
func (b *Book) tell() {
	if !b.closed {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// Opened says how the book was found.
func (b *Book) Opened() Opened { return b.opened }

// Origin is the origin line of the log, the member "log" of its entries.
func (b *Book) Origin() string { return b.origin }

// Size is the number of entries that are committed.
func (b *Book) Size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.edge.Size()
}

// Writable is nil, or why the last attempt to write failed. While it fails the
// book tries again once a second by itself.
func (b *Book) Writable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	return b.failed
}

// Close writes what is waiting, seals the book a last time and gives up the lock.
func (b *Book) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	close(b.changed) // wakes the followers, who see that it is over
	b.mu.Unlock()
	close(b.stop)
	<-b.stopped
	_, sealErr := b.Seal(context.Background())
	b.cancel()
	b.tasks.Wait()
	b.sealing.Lock() // a Seal or Prove of somebody else may still read
	defer b.sealing.Unlock()
	err := errors.Join(sealErr, b.j.close(), b.lock.Close())
	if err != nil {
		return fmt.Errorf("close book: %w", err)
	}
	return nil
}
