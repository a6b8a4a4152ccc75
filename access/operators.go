package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// AdminTokenFile is the name, in the data directory, of the file that holds the
// admin token.
const AdminTokenFile = "admin-token"

// Names that operators have on entries when no account is behind them. No
// account can have them.
const (
	ByAdminToken = "admin-token" // whoever can read the admin token's file
	ByLoginLink  = "login-link"  // whoever had the one-time login link
)

// ErrDenied says no without saying why: the reason is in the book.
var ErrDenied = errors.New("access denied")

// LinkLife is how long a one-time login token can be used.
const LinkLife = time.Hour

var accountName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,62}$`)

// CheckAccountName says what is wrong with an account's name; nil: nothing.
func CheckAccountName(name string) error {
	if !accountName.MatchString(name) {
		return fmt.Errorf("%w account name %q: use 1 to 63 of a-z, 0-9, '.', '_', '-', '+' and '@', beginning with a letter or digit", ErrInvalid, clip(name))
	}
	if slices.Contains([]string{ByAdminToken, ByLoginLink, "guardbook", "unknown"}, name) {
		return fmt.Errorf("%w account name %q: it has a meaning of its own; choose another", ErrInvalid, name)
	}
	return nil
}

// openAdminToken reads the admin token's file, or makes it when there is none.
func (s *Store) openAdminToken(path string) error {
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, _, _ = newKey(OperatorPrefix)
		err = writeSecret(path, text+"\n")
	}
	if err != nil {
		return fmt.Errorf("open the admin token: %w", err)
	}
	if !CheckKey(OperatorPrefix, text) {
		return fmt.Errorf("open the admin token: %s holds no operator's token (%s...): remove the file and start again to have a new one", path, OperatorPrefix)
	}
	id, secret, _ := splitKey(OperatorPrefix, text)
	s.adminID, s.admin = id, hashSecret(secret)
	return nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := tighten(f); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(b)), err
}

// writeSecret puts a new file of mode 0600 in place, whole or not at all.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600 by its contract
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// AuthenticateToken reports whether this is the admin token. An agent's key
// never is.
func (s *Store) AuthenticateToken(token string) bool {
	id, secret, ok := splitKey(OperatorPrefix, token)
	return ok && sameHash(hashSecret(secret), s.admin) && id == s.adminID
}

// Account is one operator's account, without its password.
type Account struct {
	Name    string
	Created time.Time
	By      string // who created it
}

// CreateAccount adds an operator's account. Errors: ErrInvalid, ErrExists, or
// the book's.
func (s *Store) CreateAccount(ctx context.Context, name, password, by string) error {
	if err := errors.Join(CheckAccountName(name), checkPassword(password)); err != nil {
		return err
	}
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return fmt.Errorf("create account %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM accounts WHERE name = ?", name).Scan(&n); err != nil {
		return fmt.Errorf("create account %s: %w", name, err)
	}
	if n > 0 {
		return fmt.Errorf("account %s %w", name, ErrExists)
	}
	// The entry first: an account that the book does not know of must not be.
	if err := s.record(ctx, "account_created", by, map[string]string{"account": name}); err != nil {
		return fmt.Errorf("create account %s: %w", name, err)
	}
	if _, err := s.db.ExecContext(ctx, "INSERT INTO accounts (name, password, created, by) VALUES (?, ?, ?, ?)",
		name, hash, s.now().UnixMicro(), by); err != nil {
		return fmt.Errorf("create account %s: %w", name, err)
	}
	return nil
}

// RemoveAccount takes an account away and ends its sessions. Errors:
// ErrNotFound, or the book's.
func (s *Store) RemoveAccount(ctx context.Context, name, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found, err := s.password(ctx, name); err != nil {
		return fmt.Errorf("remove account %q: %w", clip(name), err)
	} else if !found {
		return fmt.Errorf("account %q %w", clip(name), ErrNotFound)
	}
	if err := s.record(ctx, "account_removed", by, map[string]string{"account": name}); err != nil {
		return fmt.Errorf("remove account %s: %w", name, err)
	}
	if _, err := s.db.ExecContext(ctx, "DELETE FROM accounts WHERE name = ?", name); err != nil {
		return fmt.Errorf("remove account %s: %w", name, err)
	}
	return s.endSessions(ctx, name)
}

// Accounts lists the accounts by name.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT name, created, by FROM accounts ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	defer rows.Close()
	var out []Account
	for rows.Next() {
		var a Account
		var created int64
		if err := rows.Scan(&a.Name, &created, &a.By); err != nil {
			return nil, fmt.Errorf("list accounts: %w", err)
		}
		a.Created = time.UnixMicro(created).UTC()
		out = append(out, a)
	}
	return out, rows.Err()
}

// NewOnce makes a one-time login token, good for LinkLife.
func (s *Store) NewOnce(ctx context.Context, by string) (text string, expires time.Time, err error) {
	text, hash := token()
	expires = s.now().Add(LinkLife).UTC()
	err = s.record(ctx, "login_link_created", by, map[string]string{"expires": expires.Format(time.RFC3339)})
	if err == nil {
		_, err = s.db.ExecContext(ctx, "INSERT INTO links (hash, expires) VALUES (?, ?)", hash[:], expires.UnixMicro())
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("make a login link: %w", err)
	}
	return text, expires, nil
}

// LoginOnce uses a one-time login token up and opens a session. Errors:
// ErrDenied, *LimitedError, or the book's.
func (s *Store) LoginOnce(ctx context.Context, text, address string) (session string, err error) {
	giveBack, err := s.limits.allow(s.now(), address, "")
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	now := s.now().UnixMicro()
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM links WHERE hash = ? AND expires > ?", hash[:], now).Scan(&n); err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	if n == 0 {
		return "", s.refuseLogin(ctx, "unknown", address, "login link unknown, used or expired")
	}
	if err := s.record(ctx, "login", ByLoginLink, map[string]string{"address": address}); err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, "DELETE FROM links WHERE hash = ? OR expires <= ?", hash[:], now); err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	giveBack()
	return s.newSession(ctx, ByLoginLink)
}

// Login checks an account's password and opens a session. The address is the
// caller's, without a port. Errors: ErrDenied, *LimitedError, or the book's.
func (s *Store) Login(ctx context.Context, name, password, address string) (session string, err error) {
	giveBack, err := s.limits.allow(s.now(), address, name)
	if err != nil {
		return "", err
	}
	hash, found, err := s.password(ctx, name)
	if err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	if !found {
		// The same work as for a wrong password: time does not tell who exists.
		if _, err := s.hashPassword(ctx, password); err != nil {
			return "", fmt.Errorf("login: %w", err)
		}
		// What was typed is not written down: it may be a password.
		return "", s.refuseLogin(ctx, "unknown", address, "no such account")
	}
	if len(password) > MaxPassword {
		return "", s.refuseLogin(ctx, name, address, "wrong password")
	}
	right, err := s.checkHash(ctx, hash, password)
	if err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	if !right {
		return "", s.refuseLogin(ctx, name, address, "wrong password")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Hashing took a while: a session must not outlive an account removed meanwhile.
	if now, found, err := s.password(ctx, name); err != nil {
		return "", fmt.Errorf("login: %w", err)
	} else if !found || now != hash {
		return "", s.refuseLogin(ctx, name, address, "the account was changed meanwhile")
	}
	giveBack()
	if err := s.record(ctx, "login", name, map[string]string{"address": address}); err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	return s.newSession(ctx, name)
}

func (s *Store) password(ctx context.Context, name string) (hash string, found bool, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT password FROM accounts WHERE name = ?", name)
	if err != nil {
		return "", false, err
	}
	defer rows.Close()
	if rows.Next() {
		found, err = true, rows.Scan(&hash)
	}
	return hash, found, errors.Join(err, rows.Err())
}

func (s *Store) refuseLogin(ctx context.Context, by, address, why string) error {
	if err := s.record(ctx, "login_failed", by, map[string]string{"address": address, "reason": why}); err != nil {
		s.log.Error("a failed login is not in the book", "error", err)
	}
	return ErrDenied
}
