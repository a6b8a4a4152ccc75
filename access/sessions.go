package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// How long a session lasts without use, and at most.
const (
	SessionIdle = 12 * time.Hour
	SessionLife = 7 * 24 * time.Hour
)

// seenEvery bounds how often a session's use is written to disk.
const seenEvery = time.Minute

// Session is one operator's login.
type Session struct {
	Account string // an account's name, or ByLoginLink
	Created time.Time
	Seen    time.Time
}

func (x Session) over(now time.Time) bool {
	return now.Sub(x.Seen) >= SessionIdle || now.Sub(x.Created) >= SessionLife
}

type sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]Session
}

func (s *Store) loadSessions(ctx context.Context) error {
	now := s.now()
	if _, err := s.db.ExecContext(ctx, "DELETE FROM sessions WHERE created <= ? OR seen <= ?",
		now.Add(-SessionLife).UnixMicro(), now.Add(-SessionIdle).UnixMicro()); err != nil {
		return err
	}
	rows, err := s.db.QueryContext(ctx, "SELECT hash, account, created, seen FROM sessions")
	if err != nil {
		return err
	}
	defer rows.Close()
	open := map[[sha256.Size]byte]Session{}
	for rows.Next() {
		var hash []byte
		var x Session
		var created, seen int64
		if err := rows.Scan(&hash, &x.Account, &created, &seen); err != nil {
			return err
		}
		if len(hash) == sha256.Size {
			x.Created, x.Seen = time.UnixMicro(created), time.UnixMicro(seen)
			open[[sha256.Size]byte(hash)] = x
		}
	}
	s.sessions.open = open
	return rows.Err()
}

// newSession opens a session and returns the cookie's value, of which only the
// hash is kept.
func (s *Store) newSession(ctx context.Context, account string) (string, error) {
	text, hash := token()
	now := s.now()
	if _, err := s.db.ExecContext(ctx, "INSERT INTO sessions (hash, account, created, seen) VALUES (?, ?, ?, ?)",
		hash[:], account, now.UnixMicro(), now.UnixMicro()); err != nil {
		return "", fmt.Errorf("open a session: %w", err)
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.sessions.open[hash] = Session{Account: account, Created: now, Seen: now}
	return text, nil
}

// Session finds an open session by its cookie's value and marks it as used.
func (s *Store) Session(ctx context.Context, value string) (Session, bool) {
	hash := sha256.Sum256([]byte(value))
	now := s.now()
	x, ok, write := s.sessions.use(hash, now)
	switch {
	case ok && write:
		// Only the time of last use is at stake: a failure shortens the session.
		if _, err := s.db.ExecContext(ctx, "UPDATE sessions SET seen = ? WHERE hash = ?", now.UnixMicro(), hash[:]); err != nil {
			s.log.Warn("note the use of a session", "error", err)
		}
	case write: // it is over
		if _, err := s.db.ExecContext(ctx, "DELETE FROM sessions WHERE hash = ?", hash[:]); err != nil {
			s.log.Warn("forget a session that is over", "error", err)
		}
	}
	return x, ok
}

func (x *sessions) use(hash [sha256.Size]byte, now time.Time) (_ Session, ok, write bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	found, ok := x.open[hash]
	if !ok {
		return Session{}, false, false
	}
	if found.over(now) {
		delete(x.open, hash)
		return Session{}, false, true
	}
	if now.Sub(found.Seen) >= seenEvery {
		found.Seen, write = now, true
		x.open[hash] = found
	}
	return found, true, write
}

// Logout ends a session. One that is not open is no error.
func (s *Store) Logout(ctx context.Context, value string) error {
	hash := sha256.Sum256([]byte(value))
	s.sessions.mu.Lock()
	x, ok := s.sessions.open[hash]
	delete(s.sessions.open, hash)
	s.sessions.mu.Unlock()
	if !ok {
		return nil
	}
	if _, err := s.db.ExecContext(ctx, "DELETE FROM sessions WHERE hash = ?", hash[:]); err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	return s.record(ctx, "logout", x.Account, nil)
}

// endSessions ends every session of an account.
func (s *Store) endSessions(ctx context.Context, account string) error {
	s.sessions.mu.Lock()
	for hash, x := range s.sessions.open {
		if x.Account == account {
			delete(s.sessions.open, hash)
		}
	}
	s.sessions.mu.Unlock()
	if _, err := s.db.ExecContext(ctx, "DELETE FROM sessions WHERE account = ?", account); err != nil {
		return fmt.Errorf("end the sessions of %s: %w", account, err)
	}
	return nil
}
