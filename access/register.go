package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// Agent is one agent of the register.
type Agent struct {
	Name    string
	Tenant  string
	Owner   string // whom to ask; often an e-mail address
	Purpose string
	Created time.Time
	Rotated time.Time // when its newest key was made; zero: the first key is in force
	Keys    []Key     // newest first; all but the first end at their Until
	// Keyless says that the hash of the newest key is not in access.db (the file
	// was lost or put back from an older copy), so that no key opens anything
	// for this agent until it is rotated.
	Keyless bool
}

// Key is what may be told about a key: its public id, and until when it works.
type Key struct {
	ID    string
	Until time.Time // zero: until it is rotated or its agent removed
}

// Register is the list of agents as the book tells it: a fold of agent entries.
// The zero Register is empty and ready.
type Register struct {
	agents map[string]Agent
}

// Apply folds one entry in. Entries of other types are passed over.
func (r *Register) Apply(e guardbook.Entry) error {
	if e.Type != guardbook.TypeAgent {
		return nil
	}
	body, err := guardbook.Body[guardbook.AgentEntry](e)
	if err != nil {
		return err
	}
	at, err := time.Parse(guardbook.TimeLayout, e.TS)
	if err != nil {
		return fmt.Errorf("agent entry %d: time: %w", e.Seq, err)
	}
	if err := r.apply(at, e.Tenant, body); err != nil {
		return fmt.Errorf("agent entry %d: %w", e.Seq, err)
	}
	return nil
}

func (r *Register) apply(at time.Time, tenant string, b guardbook.AgentEntry) error {
	if r.agents == nil {
		r.agents = map[string]Agent{}
	}
	switch b.Op {
	case "created":
		r.agents[b.Agent] = Agent{
			Name: b.Agent, Tenant: tenant, Owner: b.Owner, Purpose: b.Purpose, Created: at, Keys: []Key{{ID: b.Key}},
		}
	case "rotated":
		a, ok := r.agents[b.Agent]
		if !ok { // its creation was lost with an epoch of the book: what is known stands
			a = Agent{Name: b.Agent, Tenant: tenant, Owner: b.Owner, Purpose: b.Purpose, Created: at}
		}
		keys := []Key{{ID: b.Key}}
		if b.PreviousUntil != "" {
			until, err := time.Parse(guardbook.TimeLayout, b.PreviousUntil)
			if err != nil {
				return fmt.Errorf("previous_until: %w", err)
			}
			keys = append(keys, Key{ID: b.Previous, Until: until})
		}
		a.Keys, a.Rotated = keys, at
		r.agents[b.Agent] = a
	case "removed":
		delete(r.agents, b.Agent)
	default:
		return fmt.Errorf("unknown op %q (written by a newer version?)", b.Op)
	}
	return nil
}

// Agents lists the register by name.
func (r *Register) Agents() []Agent {
	return slices.SortedFunc(maps.Values(r.agents), func(a, b Agent) int { return strings.Compare(a.Name, b.Name) })
}

// Agent looks one up.
func (r *Register) Agent(name string) (Agent, bool) {
	a, ok := r.agents[name]
	return a, ok
}
