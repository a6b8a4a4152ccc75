package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/guardbook/guardbook/access"
)

// AgentKey returns the key of an agent of the program that holds this instance: the
// one that was kept in the data directory, while it works, or a new one.
func (i *Instance) AgentKey(ctx context.Context, name string) (string, error) {
	if err := access.CheckAgentName(name); err != nil {
		return "", err
	}
	dir := filepath.Join(i.cfg.Data, "agent-keys")
	file := filepath.Join(dir, name)
	if b, err := os.ReadFile(file); err == nil {
		key := strings.TrimSpace(string(b))
		if agent, _, ok := i.access.Authenticate(key); ok && agent == name {
			return key, nil
		}
	}
	_, key, err := i.access.Create(ctx, access.NewAgent{Name: name, Purpose: "made by the program that holds this instance"}, "embedded")
	if errors.Is(err, access.ErrExists) {
		_, key, err = i.access.Rotate(ctx, name, 0, "embedded")
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep the agent's key: %w", err)
	}
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the agent's key: %w", err)
	}
	return key, nil
}
