package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Key returns the key of an agent of this user: the one that is kept in the data
// directory, while works says that it does, or the one that newKey makes. Any number
// of processes may call it at once: a new agent gets one key.
func Key(ctx context.Context, data, agent string, works func(key string) (bool, error), newKey func() (string, error)) (string, error) {
	dir := filepath.Join(data, "agent-keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep the agent's key: %w", err)
	}
	turn := flock.New(filepath.Join(data, "agent-keys.lock"))
	if _, err := turn.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for another process that makes an agent's key: %w", err)
	}
	defer func() { _ = turn.Unlock() }() // the lock ends with the process in any case
	file := filepath.Join(dir, agent)
	if b, err := os.ReadFile(file); err == nil {
		key := strings.TrimSpace(string(b))
		if ok, err := works(key); ok || err != nil {
			return key, err
		}
	}
	key, err := newKey()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file+".new", []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the agent's key: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return "", fmt.Errorf("keep the agent's key: %w", err)
	}
	return key, nil
}
