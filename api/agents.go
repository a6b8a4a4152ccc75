package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/policy"
)

// agentJSON is an agent as answers show it.
type agentJSON struct {
	Agent   string `json:"agent"`
	Tenant  string `json:"tenant"`
	Owner   string `json:"owner,omitzero"`
	Purpose string `json:"purpose,omitzero"`
	Key     string `json:"key,omitzero"` // public id
	Keyless bool   `json:"keyless,omitzero"`
	Created string `json:"created"`
	Rotated string `json:"rotated,omitzero"`
	// PreviousUntil is when the key before stops, while it still works.
	PreviousUntil string           `json:"previous_until,omitzero"`
	Policy        string           `json:"policy,omitzero"`
	Mode          guardbook.Mode   `json:"mode,omitzero"`
	LastSeen      string           `json:"last_seen,omitzero"`
	Decisions     map[string]int64 `json:"decisions,omitzero"` // of the last 24 hours, by action
}

func (a *api) agent(x access.Agent) agentJSON {
	out := agentJSON{
		Agent: x.Name, Tenant: x.Tenant, Owner: x.Owner, Purpose: x.Purpose, Keyless: x.Keyless, Created: stamp(x.Created), Rotated: stamp(x.Rotated),
	}
	if len(x.Keys) > 0 {
		out.Key = x.Keys[0].ID
	}
	if len(x.Keys) > 1 && x.Keys[1].Until.After(a.now()) {
		out.PreviousUntil = stamp(x.Keys[1].Until)
	}
	return out
}

// maxCounted is how many agents a list tells the latest doings of.
const maxCounted = 200

func (a *api) listAgents(w http.ResponseWriter, r *http.Request, by string) error {
	p := query(r, "at")
	at := p.time("at")
	if p.err != nil {
		return p.err
	}
	agents := []agentJSON{}
	if !at.IsZero() {
		if err := a.read(r.Context(), "register_read", by, stamp(at), map[string]string{"at": stamp(at)}); err != nil {
			return err
		}
		list, err := a.o.Access.AgentsAt(r.Context(), at)
		if err != nil {
			return err
		}
		for _, x := range list {
			agents = append(agents, a.agent(x))
		}
		return writeJSON(w, http.StatusOK, map[string]any{"agents": agents})
	}
	list, err := a.o.Access.Agents(r.Context())
	if err != nil {
		return err
	}
	bundle := a.o.Policies.Current()
	for i, x := range list {
		out := a.agent(x)
		if pol := policyFor(bundle, x.Name); pol != nil {
			out.Policy, out.Mode = pol.Name, pol.Mode
		}
		if i < maxCounted {
			if err := a.doings(r.Context(), &out); err != nil {
				return err
			}
		}
		agents = append(agents, out)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"agents": agents})
}

// doings adds what an agent did lately.
func (a *api) doings(ctx context.Context, out *agentJSON) error {
	q := archive.Query{Types: []guardbook.EntryType{guardbook.TypeDecision}, Agent: out.Agent, Limit: 1, Desc: true}
	last, err := a.o.Archive.Events(ctx, q)
	if err != nil {
		return fmt.Errorf("agent %s: last decision: %w", out.Agent, err)
	}
	if len(last) == 0 {
		return nil
	}
	out.LastSeen = last[0].TS
	q.Since = a.now().Add(-24 * time.Hour)
	if out.Decisions, err = a.o.Archive.Counts(ctx, q, archive.ByAction); err != nil {
		return fmt.Errorf("agent %s: count decisions: %w", out.Agent, err)
	}
	return nil
}

func policyFor(b *policy.Bundle, agent string) *policy.Policy {
	if b == nil {
		return nil
	}
	return b.For(agent)
}

// agentKey is the one answer that holds a key.
type agentKey struct {
	Agent string `json:"agent"`
	Key   string `json:"key"`
}

func (a *api) createAgent(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Name    string `json:"name"`
		Owner   string `json:"owner"`
		Purpose string `json:"purpose"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	x, key, err := a.o.Access.Create(r.Context(), access.NewAgent{Name: in.Name, Owner: in.Owner, Purpose: in.Purpose}, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, agentKey{x.Name, key})
}

func (a *api) rotateAgent(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Overlap string `json:"overlap"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	overlap, err := readDuration("overlap", in.Overlap)
	if err != nil {
		return err
	}
	x, key, err := a.o.Access.Rotate(r.Context(), r.PathValue("name"), overlap, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, agentKey{x.Name, key})
}

func (a *api) removeAgent(w http.ResponseWriter, r *http.Request, by string) error {
	if err := a.o.Access.Remove(r.Context(), r.PathValue("name"), by); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readDuration reads a duration, with days; empty: none.
func readDuration(name, v string) (time.Duration, error) {
	if v == "" {
		return 0, nil
	}
	text, unit := v, time.Duration(1)
	if days, ok := strings.CutSuffix(v, "d"); ok {
		text, unit = days+"h", 24
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > 10*365*24*time.Hour/unit {
		return 0, invalid("%s: %.80q is no duration: use 30m, 2h or 7d", name, v)
	}
	return d * unit, nil
}
