// Package sqlite is the archive in a SQLite file of its own.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	_ "embed"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/guardbook/guardbook/archive"
)

// schema is what a file of version schemaVersion holds. A file of another version
// is dropped and filled anew from the book.
//
//go:embed schema.sql
var schema string

const (
	schemaVersion = 1
	// applicationID marks the file as ours ("GBar").
	applicationID = 0x47426172
)

// Archive is an archive.Archive in one SQLite file: one writer, several readers.
type Archive struct {
	path string
	log  *slog.Logger

	mu     sync.RWMutex // held for reading while the pools are used, for writing by Reset and Close
	write  *sql.DB      // one connection; nil: closed, or a Reset failed half way
	read   *sql.DB
	closed bool

	damaged atomic.Bool // a reader met damage: the next Write says so

	cursorMu sync.Mutex // guards the writer's view of the cursor
	logs     map[string]int64
}

var _ archive.Archive = (*Archive)(nil)

// Open opens the archive in a file, making it if there is none. A damaged file is
// moved aside (its name gets ".damaged-" and the time), one of another version is
// removed; both are logged, and the archive begins empty.
func Open(ctx context.Context, path string, log *slog.Logger) (*Archive, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Archive{path: path, log: log}
	if err := a.open(ctx); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return a, nil
}

// errOtherVersion says that the file was made by another version of this program.
var errOtherVersion = errors.New("the file has another version")

// open opens the file, replacing one that cannot be used; a.mu is held or a is new.
func (a *Archive) open(ctx context.Context) error {
	err := a.connect(ctx)
	if err == nil {
		return nil
	}
	a.disconnect()
	switch {
	case errors.Is(err, errOtherVersion):
		a.log.Warn("the archive was made by another version and is filled anew", "path", a.path)
		err = a.removeFiles()
	case errors.Is(err, archive.ErrCorrupt):
		err = a.moveAside(err)
	}
	if err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		a.disconnect()
		return err
	}
	return nil
}

func (a *Archive) connect(ctx context.Context) error {
	var err error
	// WAL with synchronous=NORMAL never tears; a loss of power may cost the newest
	// transactions, cursor and rows together, and they are read again.
	if a.write, err = sql.Open("sqlite", dsn(a.path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(NORMAL)")); err != nil {
		return err
	}
	a.write.SetMaxOpenConns(1)
	if a.read, err = sql.Open("sqlite", dsn(a.path, "_pragma=query_only(1)")); err != nil {
		return err
	}
	readers := min(max(2*runtime.NumCPU(), 4), 16)
	a.read.SetMaxOpenConns(readers)
	a.read.SetMaxIdleConns(readers)
	return classify(a.prepare(ctx))
}

// dsn names the file and what every connection is set to.
func dsn(path string, more ...string) string {
	d := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(5000)&_pragma=temp_store(MEMORY)"
	for _, m := range more {
		d += "&" + m
	}
	return d
}

// prepare makes the tables, or checks that they are those of this version and can
// be read.
func (a *Archive) prepare(ctx context.Context) error {
	tx, err := a.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version, application, tables int64
	if err := tx.QueryRowContext(ctx, "SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)").
		Scan(&version, &application, &tables); err != nil {
		return err
	}
	if tables > 0 && (version != schemaVersion || application != applicationID) {
		return errOtherVersion
	}
	if tables == 0 {
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", schemaVersion, applicationID)); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return a.loadLogs(ctx)
}

// loadLogs reads the place of every log.
func (a *Archive) loadLogs(ctx context.Context) error {
	rows, err := a.write.QueryContext(ctx, "SELECT origin, place FROM logs")
	if err != nil {
		return err
	}
	defer rows.Close()
	logs := map[string]int64{}
	for rows.Next() {
		var origin string
		var place int64
		if err := rows.Scan(&origin, &place); err != nil {
			return err
		}
		logs[origin] = place
	}
	a.cursorMu.Lock()
	a.logs = logs
	a.cursorMu.Unlock()
	return rows.Err()
}

func (a *Archive) disconnect() {
	for _, db := range []*sql.DB{a.read, a.write} { // the writer last: it checkpoints and removes the -wal
		if db != nil {
			_ = db.Close() // nothing is lost with it: every transaction is committed or not
		}
	}
	a.read, a.write = nil, nil
}

// Close closes the file.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.disconnect()
	return nil
}

// Reset drops everything. A damaged file is moved aside instead of removed.
func (a *Archive) Reset(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fmt.Errorf("reset archive: %w", errClosed)
	}
	var damage error
	if a.write != nil {
		damage = a.check(ctx)
	}
	a.disconnect()
	var err error
	if errors.Is(damage, archive.ErrCorrupt) {
		err = a.moveAside(damage)
	} else {
		err = a.removeFiles()
	}
	if err == nil {
		err = a.open(ctx)
	}
	if err != nil {
		return fmt.Errorf("reset archive: %w", err)
	}
	a.damaged.Store(false)
	return nil
}

// check looks for damage in the file.
func (a *Archive) check(ctx context.Context) error {
	var first string
	if err := a.write.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&first); err != nil {
		return classify(err)
	}
	if first != "ok" {
		return fmt.Errorf("%w: %s", archive.ErrCorrupt, first)
	}
	return nil
}

// files are the database and what SQLite keeps beside it.
func (a *Archive) files() []string { return []string{a.path + "-wal", a.path + "-shm", a.path} }

func (a *Archive) removeFiles() error {
	for _, f := range a.files() {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (a *Archive) moveAside(why error) error {
	suffix := ".damaged-" + time.Now().UTC().Format("20060102T150405.000000Z")
	for _, f := range a.files() {
		if err := os.Rename(f, f+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	a.log.Error("the archive was damaged: it is moved aside and filled anew from the book", "moved_to", a.path+suffix, "error", why)
	return nil
}

// classify marks errors that mean damage.
func classify(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", archive.ErrCorrupt, err)
		}
	}
	return err
}

// errClosed is returned after Close.
var errClosed = errors.New("the archive is closed")

// pools returns the two pools and holds Reset and Close back until done is called.
func (a *Archive) pools() (write, read *sql.DB, done func(), err error) {
	a.mu.RLock()
	if a.write != nil {
		return a.write, a.read, a.mu.RUnlock, nil
	}
	closed := a.closed
	a.mu.RUnlock()
	if closed {
		return nil, nil, nil, errClosed
	}
	return nil, nil, nil, fmt.Errorf("%w: it could not be opened again after a reset", archive.ErrCorrupt)
}

// met notes damage that a reader met, and marks its error.
func (a *Archive) met(err error) error {
	if err = classify(err); errors.Is(err, archive.ErrCorrupt) {
		a.damaged.Store(true)
	}
	return err
}
