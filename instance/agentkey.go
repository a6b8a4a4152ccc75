package instance

import (
	"context"
	"errors"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/local"
)

// AgentKey returns the key of an agent of the program that holds this instance: the
// one that was kept in the data directory, while it works, or a new one.
func (i *Instance) AgentKey(ctx context.Context, name string) (string, error) {
	if err := access.CheckAgentName(name); err != nil {
		return "", err
	}
	works := func(key string) (bool, error) {
		agent, _, ok := i.access.Authenticate(key)
		return ok && agent == name, nil
	}
	return local.Key(ctx, i.cfg.Data, name, works, func() (string, error) {
		_, key, err := i.access.Create(ctx, access.NewAgent{Name: name, Purpose: "made by the program that holds this instance"}, "embedded")
		if errors.Is(err, access.ErrExists) {
			_, key, err = i.access.Rotate(ctx, name, 0, "embedded")
		}
		return key, err
	})
}
