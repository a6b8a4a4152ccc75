// Package access knows who may come in: agents by their keys, operators by the
// admin token or by an account and its sessions. A key of one kind never opens
// a door of the other.
//
// The register of agents is a fold of the book's agent entries. The file
// access.db adds only what must not be in the book: the hashes of keys. So an
// entry and the state that it tells of cannot disagree after a crash, whatever
// the moment: a hash without an entry opens nothing, and an entry without its
// hash is an agent that has no working key, listed as such.
//
// access.db is SQLite and not a JSON file because sessions change with use: a
// row is written, not the whole file, and a crash in the middle is SQLite's to
// deal with.
package access

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook"
)

// Recorder writes facts down in the book, durably, before it returns. An error
// means that the fact may or may not be there.
type Recorder interface {
	AppendDurable(ctx context.Context, d ...guardbook.Draft) error
}

// History calls fn with entries of the book, oldest first, through every epoch
// and up to its end. It must give every entry of type agent and may give others.
type History func(ctx context.Context, fn func(guardbook.Entry) error) error

// Options says what a Store works with. Dir, Recorder and History are required.
type Options struct {
	Dir      string // the data directory; access.db and admin-token are in it
	Recorder Recorder
	History  History
	// Find reports whether the entry with an id is in the book. It is asked after
	// an append that failed. Give it unless History reads the book itself: a copy
	// that lags behind cannot answer.
	Find func(ctx context.Context, id string) (bool, error)
	Log  *slog.Logger     // nil: nothing is logged
	Now  func() time.Time // nil: time.Now
}

// Store holds agents, accounts and sessions. Its methods may be called from many
// goroutines at once.
type Store struct {
	db      *sql.DB
	rec     Recorder
	history History
	find    func(ctx context.Context, id string) (bool, error)
	log     *slog.Logger
	now     func() time.Time

	admin    [sha256.Size]byte // hash of the admin token's secret
	adminID  string
	sessions sessions
	hashing  chan struct{} // one place for each password hash that may run at once
	limits   limits

	index atomic.Pointer[index] // what Authenticate reads

	mu       sync.Mutex // guards what follows; held over a change and its entry
	register Register
	hashes   map[string][sha256.Size]byte
	doubt    *change // its append failed: whether its entry is in the book is not known
}

// Open opens the data directory's access.db, reads or creates the admin token,
// and folds the book's agent entries into the register.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{
		rec: o.Recorder, history: o.History, find: o.Find, log: o.Log, now: o.Now,
		hashing: make(chan struct{}, parallelHashes()), limits: newLimits(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.find == nil {
		s.find = s.findInHistory
	}
	if err := s.openAdminToken(filepath.Join(o.Dir, AdminTokenFile)); err != nil {
		return nil, err
	}
	path := filepath.Join(o.Dir, "access.db")
	db, err := openDB(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.db = db
	if err := s.load(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) load(ctx context.Context) error {
	if err := s.loadSessions(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fold(ctx); err != nil {
		return err
	}
	named := map[string]bool{}
	for _, a := range s.register.Agents() {
		if a.Keyless {
			s.log.Warn("an agent of the book has no key in access.db: rotate it", "agent", a.Name)
		}
		for _, k := range a.Keys {
			named[k.ID] = true
		}
	}
	for id := range s.hashes {
		if !named[id] {
			s.log.Warn("access.db has a key that the book does not name; it opens nothing", "key", id)
		}
	}
	return nil
}

// Close closes access.db.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close access.db: %w", err)
	}
	return nil
}

// record writes one operator entry.
func (s *Store) record(ctx context.Context, op, by string, detail map[string]string) error {
	err := s.rec.AppendDurable(ctx, guardbook.Draft{Type: guardbook.TypeOperator, Time: s.now(),
		Body: guardbook.OperatorEntry{Op: op, By: by, Detail: detail}})
	if err != nil {
		return fmt.Errorf("record %s: %w", op, err)
	}
	return nil
}
