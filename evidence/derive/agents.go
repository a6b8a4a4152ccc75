package derive

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// registry follows the register of agents.
type registry struct {
	m map[string]*agent
}

type agent struct {
	name, owner, purpose string
	keys                 []string
	created, removed     time.Time
	createdBy, removedBy string
	rotated              int64
	rotatedAt            time.Time
	createdRef           Ref
	removedRef           Ref
	again                int64 // times that it was created
	decisions            int64 // in the window
	firstSeen, lastSeen  time.Time
	spans                []span // when it was registered
}

// span is a stretch of time; a zero end is open.
type span struct{ start, end time.Time }

func (r *registry) init() { r.m = map[string]*agent{} }

// get returns an agent, registered or not.
func (r *registry) get(name string) *agent {
	a := r.m[name]
	if a == nil {
		a = &agent{name: name}
		r.m[name] = a
	}
	return a
}

// registered reports whether the register has the agent now.
func (a *agent) registered() bool { return !a.created.IsZero() && a.removed.IsZero() }

func (s *state) agent(x event, b guardbook.AgentEntry) {
	a := s.agents.get(b.Agent)
	switch b.Op {
	case "created":
		a.created, a.createdBy, a.createdRef, a.removed, a.removedBy = x.ts, b.By, x.ref, time.Time{}, ""
		a.again++
		a.spans = append(a.spans, span{start: x.ts})
	case "rotated":
		a.rotated++
		a.rotatedAt = x.ts
	case "removed":
		a.removed, a.removedBy, a.removedRef = x.ts, b.By, x.ref
		if n := len(a.spans); n > 0 {
			a.spans[n-1].end = x.ts
		}
	}
	if b.Owner != "" {
		a.owner = b.Owner
	}
	if b.Purpose != "" {
		a.purpose = b.Purpose
	}
	if b.Key != "" && !slices.Contains(a.keys, b.Key) {
		a.keys = append(a.keys, b.Key)
	}
	s.regrant(x.ts)
}

// during reports whether the register had the agent at any time of the window.
func (a *agent) during(from, to time.Time) bool {
	return slices.ContainsFunc(a.spans, func(p span) bool {
		return p.start.Before(to) && (p.end.IsZero() || p.end.After(from))
	})
}

var agentColumns = []column{
	{"agent", "the agent's registered name", "text", "agent.agent", false},
	{"registered", "whether the register had the agent at any time of the window", "true or false", "agent entries", false},
	{"owner", "who answers for the agent", "text", "agent.owner", true},
	{"purpose", "what it is for", "text", "agent.purpose", true},
	{"created_at", "when it was last registered", "time", "agent.ts where op is created", true},
	{"created_by", "who registered it", "text", "agent.by", true},
	{"removed_at", "when it was removed", "time", "agent.ts where op is removed", true},
	{"removed_by", "who removed it", "text", "agent.by", true},
	{"keys", "public ids of its keys, oldest first", "text", "agent.key", true},
	{"rotations", "how often its key was changed", "count", "agent entries where op is rotated", false},
	{"last_rotation_at", "when its key was last changed", "time", "agent.ts", true},
	{"decisions", "decisions about it in the window", "count", "decision entries", false},
	{"first_decision_at", "its first decision in the window", "time", "decision.ts", true},
	{"last_decision_at", "its last decision in the window", "time", "decision.ts", true},
}

func (s *state) writeAgents(sink Sink) error {
	t, err := newTable(sink, "registry/agents", agentColumns, 0)
	if err != nil {
		return err
	}
	for _, name := range sorted(s.agents.m) {
		a := s.agents.m[name]
		if !a.during(s.p.From, s.p.To) && a.decisions == 0 {
			continue
		}
		if err := t.row(a.name, a.during(s.p.From, s.p.To), a.owner, a.purpose, stamp(a.created), a.createdBy, stamp(a.removed), a.removedBy,
			strings.Join(a.keys, " "), a.rotated, stamp(a.rotatedAt), a.decisions, stamp(a.firstSeen), stamp(a.lastSeen)); err != nil {
			return err
		}
	}
	return t.close()
}

// sorted lists a map's keys in order: nothing that is written may depend on the
// order of a map.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
