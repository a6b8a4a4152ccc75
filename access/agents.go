package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
)

// Errors that a caller may want to tell apart.
var (
	ErrExists   = errors.New("already exists")
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
)

// MaxOverlap is the longest time that a rotated key may go on working.
const MaxOverlap = 7 * 24 * time.Hour

const maxFieldBytes = 500

var agentName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// CheckAgentName says what is wrong with an agent's name; nil: nothing.
func CheckAgentName(name string) error {
	if name == guardbook.CanaryAgent {
		return fmt.Errorf("%w agent name %q: it is the name of the instance's own test interactions", ErrInvalid, name)
	}
	if agentName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%w agent name %q: use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit", ErrInvalid, clip(name))
}

// NewAgent is what a new agent is created from.
type NewAgent struct {
	Name    string
	Tenant  string // empty: guardbook.DefaultTenant
	Owner   string
	Purpose string
}

// Create adds an agent and returns its key, which is kept nowhere and cannot be
// shown again. Errors: ErrInvalid, ErrExists, or the book's.
func (s *Store) Create(ctx context.Context, n NewAgent, by string) (Agent, string, error) {
	if err := CheckAgentName(n.Name); err != nil {
		return Agent{}, "", err
	}
	if err := errors.Join(checkField("owner", n.Owner), checkField("purpose", n.Purpose)); err != nil {
		return Agent{}, "", err
	}
	if n.Tenant == "" {
		n.Tenant = guardbook.DefaultTenant
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settle(ctx); err != nil {
		return Agent{}, "", err
	}
	if _, ok := s.register.Agent(n.Name); ok {
		return Agent{}, "", fmt.Errorf("agent %s %w: rotate its key, or remove it first", n.Name, ErrExists)
	}
	key, id, err := s.keepKey(ctx)
	if err != nil {
		return Agent{}, "", fmt.Errorf("create agent %s: %w", n.Name, err)
	}
	body := guardbook.AgentEntry{Op: "created", Agent: n.Name, Owner: n.Owner, Purpose: n.Purpose, Key: id, By: by}
	if err := s.change(ctx, n.Tenant, body); err != nil {
		return Agent{}, "", fmt.Errorf("create agent %s: %w", n.Name, err)
	}
	a, _ := s.register.Agent(n.Name)
	return a, key, nil
}

// Rotate gives an agent a new key. The old one stops at once, or after overlap.
// Errors: ErrInvalid, ErrNotFound, or the book's.
func (s *Store) Rotate(ctx context.Context, name string, overlap time.Duration, by string) (Agent, string, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return Agent{}, "", fmt.Errorf("%w overlap %s: use 0 to %s", ErrInvalid, overlap, MaxOverlap)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.lookUp(ctx, name)
	if err != nil {
		return Agent{}, "", err
	}
	key, id, err := s.keepKey(ctx)
	if err != nil {
		return Agent{}, "", fmt.Errorf("rotate agent %s: %w", name, err)
	}
	body := guardbook.AgentEntry{Op: "rotated", Agent: name, Owner: a.Owner, Purpose: a.Purpose, Key: id, By: by}
	if len(a.Keys) > 0 {
		body.Previous = a.Keys[0].ID
		if overlap > 0 {
			body.PreviousUntil = s.now().Add(overlap).UTC().Format(guardbook.TimeLayout)
		}
	}
	if err := s.change(ctx, a.Tenant, body); err != nil {
		return Agent{}, "", fmt.Errorf("rotate agent %s: %w", name, err)
	}
	a, _ = s.register.Agent(name)
	return a, key, nil
}

// Remove takes an agent out of the register; its keys stop at once. What it did
// stays in the book. Errors: ErrNotFound, or the book's.
func (s *Store) Remove(ctx context.Context, name, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.lookUp(ctx, name)
	if err != nil {
		return err
	}
	body := guardbook.AgentEntry{Op: "removed", Agent: name, Owner: a.Owner, Purpose: a.Purpose, By: by}
	if len(a.Keys) > 0 {
		body.Key = a.Keys[0].ID
	}
	if err := s.change(ctx, a.Tenant, body); err != nil {
		return fmt.Errorf("remove agent %s: %w", name, err)
	}
	return nil
}

// Agents lists the register as it is now, by name.
func (s *Store) Agents(ctx context.Context) ([]Agent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	return s.register.Agents(), nil
}

// AgentsAt lists the register as the book told it at a point in time.
func (s *Store) AgentsAt(ctx context.Context, at time.Time) ([]Agent, error) {
	var r Register
	err := s.history(ctx, func(e guardbook.Entry) error {
		rec, err := time.Parse(guardbook.TimeLayout, e.Rec)
		if err != nil {
			return fmt.Errorf("entry %d: recorded time: %w", e.Seq, err)
		}
		if rec.After(at) {
			return nil
		}
		return r.Apply(e)
	})
	if err != nil {
		return nil, fmt.Errorf("list agents at %s: %w", at.UTC().Format(time.RFC3339), err)
	}
	return r.Agents(), nil
}

// Authenticate finds the agent that a key belongs to. It takes no lock and makes
// no garbage. An operator's token, a removed agent's key and a rotated key are
// all simply not ok.
func (s *Store) Authenticate(key string) (agent, tenant string, ok bool) {
	id, secret, ok := splitKey(AgentPrefix, key)
	if !ok {
		return "", "", false
	}
	k, found := s.index.Load().keys[id]
	// An unknown id is hashed all the same: the answer takes as long.
	if !sameHash(hashSecret(secret), k.hash) || !found {
		return "", "", false
	}
	if !k.until.IsZero() && !s.now().Before(k.until) {
		return "", "", false
	}
	return k.agent, k.tenant, true
}

// index is what Authenticate reads: a fresh one is put in place with each change.
type index struct {
	keys map[string]inForce
}

type inForce struct {
	agent, tenant string
	hash          [sha256.Size]byte
	until         time.Time
}

// lookUp settles what is in doubt and looks an agent up. s.mu is held.
func (s *Store) lookUp(ctx context.Context, name string) (Agent, error) {
	if err := s.settle(ctx); err != nil {
		return Agent{}, err
	}
	a, ok := s.register.Agent(name)
	if !ok {
		return a, fmt.Errorf("agent %q %w", clip(name), ErrNotFound)
	}
	return a, nil
}

// keepKey makes a key and puts its hash into access.db, where it opens nothing
// until an entry names it. s.mu is held.
func (s *Store) keepKey(ctx context.Context) (key, id string, err error) {
	key, id, hash := newKey(AgentPrefix)
	if _, err := s.db.ExecContext(ctx, "INSERT INTO keys (id, hash) VALUES (?, ?)", id, hash[:]); err != nil {
		return "", "", fmt.Errorf("keep its key: %w", err)
	}
	s.hashes[id] = hash
	return key, id, nil
}

// change is one change of the register.
type change struct {
	id     string // of its entry
	at     time.Time
	tenant string
	body   guardbook.AgentEntry
}

// change writes a change into the book and then, when it is there, puts it in
// force. s.mu is held.
func (s *Store) change(ctx context.Context, tenant string, body guardbook.AgentEntry) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("name its entry: %w", err)
	}
	c := change{id.String(), s.now().UTC().Truncate(time.Microsecond), tenant, body} // as precise as the entry tells it
	err = s.rec.AppendDurable(ctx, guardbook.Draft{ID: c.id, Type: guardbook.TypeAgent, Time: c.at, Tenant: tenant, Body: body})
	if err != nil {
		s.doubt = &c
		return fmt.Errorf("record it: %w", err)
	}
	return s.apply(ctx, c)
}

// apply puts a change that is in the book in force. s.mu is held.
func (s *Store) apply(ctx context.Context, c change) error {
	if err := s.register.apply(c.at, c.tenant, c.body); err != nil {
		return err
	}
	s.publish(ctx)
	return nil
}

// settle finds out what became of a change whose append failed, and puts it in
// force when it is in the book. s.mu is held.
func (s *Store) settle(ctx context.Context) error {
	if s.doubt == nil {
		return nil
	}
	found, err := s.find(ctx, s.doubt.id)
	if err != nil {
		return fmt.Errorf("see whether the last change of the register is in the book: %w", err)
	}
	c := *s.doubt
	s.doubt = nil
	if !found {
		return nil
	}
	return s.apply(ctx, c)
}

// findInHistory looks for an entry the long way.
func (s *Store) findInHistory(ctx context.Context, id string) (found bool, err error) {
	err = s.history(ctx, func(e guardbook.Entry) error {
		found = found || e.ID == id
		return nil
	})
	return found, err
}

// fold rebuilds the register from the book and the hashes from access.db. s.mu
// is held.
func (s *Store) fold(ctx context.Context) error {
	var r Register
	if err := s.history(ctx, r.Apply); err != nil {
		return fmt.Errorf("fold the register of agents: %w", err)
	}
	hashes, err := keyHashes(ctx, s.db)
	if err != nil {
		return err
	}
	s.register, s.hashes = r, hashes
	s.publish(ctx)
	return nil
}

// publish puts a fresh index in place and forgets the hashes of keys that ended.
// s.mu is held.
func (s *Store) publish(ctx context.Context) {
	before := s.index.Load()
	next := &index{keys: map[string]inForce{}}
	for _, a := range s.register.Agents() {
		for i, k := range a.Keys {
			hash, ok := s.hashes[k.ID]
			if i == 0 {
				a.Keyless = !ok
				s.register.agents[a.Name] = a
			}
			if ok {
				next.keys[k.ID] = inForce{agent: a.Name, tenant: a.Tenant, hash: hash, until: k.Until}
			}
		}
	}
	s.index.Store(next)
	if before == nil {
		return
	}
	for id := range before.keys {
		if _, ok := next.keys[id]; ok {
			continue
		}
		delete(s.hashes, id)
		// A hash that stays behind opens nothing, so that a failure is only noted.
		if _, err := s.db.ExecContext(ctx, "DELETE FROM keys WHERE id = ?", id); err != nil {
			s.log.Warn("forget the hash of a key that ended", "key", id, "error", err)
		}
	}
}

// checkField refuses what does not belong in one line of text.
func checkField(name, v string) error {
	if len(v) > maxFieldBytes {
		return fmt.Errorf("%w %s: %d bytes, at most %d", ErrInvalid, name, len(v), maxFieldBytes)
	}
	if !utf8.ValidString(v) {
		return fmt.Errorf("%w %s: not UTF-8", ErrInvalid, name)
	}
	for _, r := range v {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return fmt.Errorf("%w %s: control characters are not allowed", ErrInvalid, name)
		}
	}
	return nil
}

// clip shortens what a caller sent before it goes into an error.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
