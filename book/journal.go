package book

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"
	"modernc.org/sqlite"

	"github.com/guardbook/guardbook/book/c2sp"
)

// The journal is one SQLite file. A row is an entry and the hashes of the tree
// that it completes: its own leaf hash, then one for each subtree that ends with
// it. So a hash is found by arithmetic: the subtree of level l and number n ends
// with row ((n+1)<<l)-1, and stands there in place l.
const schema = `
CREATE TABLE entries (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL, hashes BLOB NOT NULL) STRICT;
CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), writes INTEGER NOT NULL) STRICT;`

const journalFile = "journal.db"

// journal is the file with its one writing connection and a few that read.
type journal struct {
	path   string
	write  *connection
	insert driver.Stmt
	read   *sql.DB
	wal    *os.File // the -wal file, to be synced between commits
	// unsynced says that a sync failed. The kernel reports that once and forgets
	// it: what was lost must be written again before anything is called durable.
	unsynced atomic.Bool
}

// connection is a raw connection of the driver: the writer needs no pool.
type connection struct{ driver.Conn }

func connect(path, mode string, pragmas ...string) (*connection, error) {
	c, err := new(sqlite.Driver).Open(dsn(path, mode, pragmas...))
	if err != nil {
		return nil, err
	}
	return &connection{c}, nil
}

func dsn(path, mode string, pragmas ...string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	q := url.Values{"mode": {mode}, "_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}).String()
}

func (c *connection) exec(statement string) error {
	s, err := c.Prepare(statement)
	if err != nil {
		return err
	}
	defer s.Close()
	return run(s)
}

func run(s driver.Stmt, args ...driver.NamedValue) error {
	_, err := s.(driver.StmtExecContext).ExecContext(context.Background(), args)
	return err
}

// ints runs a statement that answers one row of integers.
func (c *connection) ints(statement string, into ...*int64) error {
	s, err := c.Prepare(statement)
	if err != nil {
		return err
	}
	defer s.Close()
	rows, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	row := make([]driver.Value, len(into))
	if err := rows.Next(row); err != nil {
		return err
	}
	for i, v := range row {
		n, ok := v.(int64)
		if !ok {
			return fmt.Errorf("%q answered a %T", statement, v)
		}
		*into[i] = n
	}
	return nil
}

// makeJournal makes the file if it isn't there. It gets its name when it is whole:
// a process that is killed in the first transactions would leave a file that must
// be rolled back, and nothing that only reads could open it.
func makeJournal(dir string) error {
	path := filepath.Join(dir, journalFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begun := path + ".new"
	for _, left := range []string{begun, begun + "-journal", begun + "-wal", begun + "-shm"} {
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	c, err := connect(begun, "rwc", "journal_mode(WAL)", "synchronous(FULL)")
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(strings.TrimSuffix(schema, ";"), ";") {
		if err := c.exec(statement); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	if err := c.Close(); err != nil { // copies the -wal file back and removes it
		return err
	}
	if err := os.Rename(begun, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// openJournal opens the file for writing, making it if it isn't there.
func openJournal(dir string, d Durability) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalFile)}
	level := "synchronous(FULL)"
	if d == Balanced {
		level = "synchronous(NORMAL)"
	}
	if err := makeJournal(dir); err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	var err error
	// The checkpointer decides when the -wal file is copied back, never a commit.
	if j.write, err = connect(j.path, "rw", "journal_mode(WAL)", level, "wal_autocheckpoint(0)"); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if j.insert, err = j.write.Prepare("INSERT INTO entries (seq, entry, hashes) VALUES (?, ?, ?)"); err != nil {
		j.close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.probe(); err != nil { // also makes the -wal file
		j.close()
		return nil, fmt.Errorf("open journal: write to it: %w", err)
	}
	if j.wal, err = os.OpenFile(j.path+"-wal", os.O_RDWR, 0); err != nil {
		j.close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := syncDir(dir); err != nil {
		j.close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if j.read, err = openRead(j.path); err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

// openRead opens connections that cannot write.
func openRead(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(path, "ro", "query_only(1)"))
	if err != nil {
		return nil, fmt.Errorf("open journal for reading: %w", err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return db, nil
}

func (j *journal) close() error {
	var errs []error
	if j.read != nil {
		errs = append(errs, j.read.Close())
	}
	if j.insert != nil {
		j.insert.Close()
	}
	if j.write != nil {
		errs = append(errs, j.write.Close())
	}
	if j.wal != nil {
		j.wal.Close()
	}
	return errors.Join(errs...)
}

// add puts a row into the transaction that is open.
func (j *journal) add(seq int64, raw, hashes []byte) error {
	return run(j.insert,
		driver.NamedValue{Ordinal: 1, Value: seq},
		driver.NamedValue{Ordinal: 2, Value: raw},
		driver.NamedValue{Ordinal: 3, Value: hashes})
}

// probe writes a few bytes, to learn whether the disk takes them.
func (j *journal) probe() error {
	return j.write.exec("INSERT INTO probe (id, writes) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET writes = writes + 1")
}

// sync makes every commit so far survive a loss of power.
func (j *journal) sync() error {
	if err := j.wal.Sync(); err != nil {
		j.unsynced.Store(true)
		return fmt.Errorf("sync journal: %w", err)
	}
	if j.unsynced.Load() {
		return errors.New("sync journal: an earlier sync failed and is not mended yet")
	}
	return nil
}

// mend writes again what a failed sync may have lost. It is still in the cache:
// copying it into the database file syncs it there.
func (j *journal) mend() error {
	if !j.unsynced.Load() {
		return nil
	}
	var busy, log, copied int64
	if err := j.write.ints("PRAGMA wal_checkpoint(FULL)", &busy, &log, &copied); err != nil {
		return fmt.Errorf("write again after a failed sync: %w", err)
	}
	if busy != 0 || copied < log {
		return fmt.Errorf("write again after a failed sync: %d of %d pages are written", copied, log)
	}
	j.unsynced.Store(false)
	return nil
}

// querier is what reading needs of a pool, a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// sizeOf is the number of entries in a journal.
func sizeOf(ctx context.Context, db querier) (int64, error) {
	var n int64
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(seq), -1) + 1 FROM entries").Scan(&n); err != nil {
		return 0, fmt.Errorf("read the size of the journal: %w", err)
	}
	return n, nil
}

// hashReader reads the tree's stored hashes from a journal.
func hashReader(ctx context.Context, db querier) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			level, n := tlog.SplitStoredHashIndex(x)
			seq := (n+1)<<level - 1
			h, err := hashAt(ctx, db, seq, level)
			if err != nil {
				return nil, err
			}
			out[i] = h
		}
		return out, nil
	})
}

func hashAt(ctx context.Context, db querier, seq int64, level int) (tlog.Hash, error) {
	var b sql.RawBytes
	rows, err := db.QueryContext(ctx, "SELECT hashes FROM entries WHERE seq = ?", seq)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("read the hashes of entry %d: %w", seq, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return tlog.Hash{}, fmt.Errorf("read the hashes of entry %d: %w", seq, err)
		}
		return tlog.Hash{}, fmt.Errorf("entry %d is missing from the journal: %w", seq, ErrDamaged)
	}
	if err := rows.Scan(&b); err != nil {
		return tlog.Hash{}, fmt.Errorf("read the hashes of entry %d: %w", seq, err)
	}
	if len(b) != c2sp.Completes(seq)*tlog.HashSize || level >= c2sp.Completes(seq) {
		return tlog.Hash{}, fmt.Errorf("entry %d has %d bytes of hashes instead of %d: %w", seq, len(b), c2sp.Completes(seq)*tlog.HashSize, ErrDamaged)
	}
	return tlog.Hash(b[level*tlog.HashSize:]), nil
}

// isCorrupt says whether SQLite found the file itself broken, as opposed to a
// disk that is full or a directory that cannot be written.
func isCorrupt(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return errors.Is(err, ErrDamaged)
	}
	const corrupt, notADatabase = 11, 26
	return e.Code()&0xff == corrupt || e.Code()&0xff == notADatabase
}
