package access

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the "sqlite" driver
)

// schemaVersion is kept in SQLite's user_version.
const schemaVersion = 1

const schema = `
CREATE TABLE keys     (id TEXT PRIMARY KEY, hash BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE accounts (name TEXT PRIMARY KEY, password TEXT NOT NULL, created INTEGER NOT NULL, by TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE links    (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (hash BLOB PRIMARY KEY, account TEXT NOT NULL, created INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`

// openDB opens or creates access.db with mode 0600. One connection: writes are
// rare, and everything that is read often is kept in memory.
func openDB(ctx context.Context, path string) (*sql.DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(tighten(f), f.Close()); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(),
		RawQuery: "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_pragma=secure_delete(1)&_txlock=immediate"}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	var v int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		return err
	}
	switch v {
	case schemaVersion:
		return nil
	case 0:
		if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
			return err
		}
		return tx.Commit()
	default:
		return fmt.Errorf("its format %d is not known to this version of guardbook (%d)", v, schemaVersion)
	}
}

// tighten takes away everybody else's permissions on a file of secrets.
func tighten(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&^fs.FileMode(0o600) != 0 {
		return f.Chmod(0o600)
	}
	return nil
}

// keyHashes reads every hash at rest, by the key's id. A row whose id is not the
// checksum of its hash was not written by this program and is an error.
func keyHashes(ctx context.Context, db *sql.DB) (map[string][sha256.Size]byte, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, hash FROM keys")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string][sha256.Size]byte{}
	for rows.Next() {
		var id string
		var b []byte
		if err := rows.Scan(&id, &b); err != nil {
			return nil, err
		}
		if len(b) != sha256.Size || keyID([sha256.Size]byte(b)) != id {
			return nil, fmt.Errorf("key %s: its hash does not belong to its id; the file was edited: remove that row and rotate the agent's key", id)
		}
		out[id] = [sha256.Size]byte(b)
	}
	return out, rows.Err()
}
