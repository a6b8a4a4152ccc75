package pin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

// The operations of a ToolEntry.
const (
	OpPinned      = "pinned"      // seen for the first time, before a complete list was: trusted
	OpListed      = "listed"      // a complete list was seen: what comes later is not trusted
	OpQuarantined = "quarantined" // new or changed: not offered, not called
	OpApproved    = "approved"    // by an operator: from now on this definition is the pinned one
	OpRejected    = "rejected"    // by an operator
	OpRemoved     = "removed"     // no longer in the server's list; a note
	OpRestored    = "restored"    // as it was pinned again
)

const (
	byGuardbook = "guardbook"
	maxReason   = 4096
	// maxTools bounds the tools of one server that are remembered.
	maxTools = 10_000
	// firstList is how long a server's first list may take: pages that never end
	// would be trusted for ever.
	firstList = 24 * time.Hour
)

// What kind of error it is, for errors.Is.
var (
	ErrInvalid     = respond.ErrInvalid     // the request itself is wrong
	ErrNotFound    = respond.ErrNotFound    // there is no such tool
	ErrConflict    = respond.ErrConflict    // the state does not allow it
	ErrNotRecorded = respond.ErrNotRecorded // the book could not be written
	ErrCorrupt     = errors.New("corrupt")  // the pins could not be rebuilt from the book
)

type problem struct {
	kind error
	text string
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.kind }

// Recorder is the part of the book that the store writes to. AppendDurable returns once
// the entries are on the disk.
type Recorder interface {
	AppendDurable(ctx context.Context, drafts ...guardbook.Draft) error
}

// Options are what a Store is made of. Recorder and Texts are required.
type Options struct {
	Recorder Recorder
	Texts    *Texts // the definitions' texts
	// Mode is the mode of an agent's policy: one that only watches lets quarantined
	// tools pass. nil: enforce.
	Mode func(agent string) guardbook.Mode
	// Receiver is who is told when a tool is quarantined; nil, or "": nobody.
	Receiver func(agent string, s guardbook.Severity) string
	Log      *slog.Logger
	Now      func() time.Time
}

// Store says which tools of which servers may be offered and called. It is safe for
// concurrent use.
type Store struct {
	o Options

	mu      sync.Mutex // held while the book is written: one step after the other
	servers map[string]*server
	broken  error // an entry could not be read: nothing passes
}

// server is one server, by its scoped identity.
type server struct {
	name, identity string
	listed         bool
	first          time.Time // of its first entry
	tools          map[string]*Tool
}

// Tool is how one tool stands.
type Tool struct {
	Server   string `json:"server"`
	Identity string `json:"identity"`
	Tool     string `json:"tool"`
	State    State  `json:"state"`
	// Hash is of the definition that is pinned; empty if none ever was.
	Hash string `json:"hash,omitzero"`
	// Offered is of the definition that waits for an operator, or was rejected.
	Offered string `json:"offered,omitzero"`
	Since   string `json:"since"`           // time of the entry that made it so
	Entry   string `json:"entry"`           // id of that entry
	By      string `json:"by,omitzero"`     // who approved or rejected
	Reason  string `json:"reason,omitzero"` // what they said
	Agent   string `json:"agent,omitzero"`  // whose list showed it
	Removed bool   `json:"removed"`         // not in the server's list any more

	back time.Time // when it was seen again after it had been removed
}

// NewStore returns an empty store. Give it the book's entries with Apply.
func NewStore(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{o: o, servers: map[string]*server{}}
}

// Apply folds one entry of the book into the state. It takes entries in the order of
// the book and ignores those that are not about tools. When one cannot be read, the
// store is corrupt: it says so to everybody who asks, and nothing passes.
func (s *Store) Apply(e guardbook.Entry) error {
	if e.Type != guardbook.TypeTool {
		return nil
	}
	b, err := guardbook.Body[guardbook.ToolEntry](e)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && (b.Identity == "" || b.Op != OpListed && b.Tool.Name == "") {
		err = fmt.Errorf("tool entry %d names no server or no tool", e.Seq)
	}
	if err == nil {
		err = s.fold(e.ID, e.TS, b)
	}
	if err != nil && s.broken == nil {
		s.broken = &problem{ErrCorrupt, "the pins of MCP tools cannot be rebuilt from the book, so no tool of an MCP server is offered or called: " + err.Error() + ". Run `guardbook book verify`, and restore the book from a backup."}
		s.o.Log.Error("the pins of MCP tools are unusable", "error", err)
	}
	return nil
}

// fold applies one step; s.mu is held.
func (s *Store) fold(id, ts string, b guardbook.ToolEntry) error {
	v := s.servers[b.Identity]
	if v == nil {
		first, err := time.Parse(guardbook.TimeLayout, ts)
		if err != nil {
			return fmt.Errorf("tool entry %s has no time", id)
		}
		v = &server{identity: b.Identity, first: first, tools: map[string]*Tool{}}
		s.servers[b.Identity] = v
	}
	v.name = b.Tool.Server
	if b.Op == OpListed {
		v.listed = true
		return nil
	}
	t := v.tools[b.Tool.Name]
	if t == nil {
		t = &Tool{Tool: b.Tool.Name, Identity: b.Identity}
		v.tools[b.Tool.Name] = t
	}
	t.Server = b.Tool.Server
	switch b.Op {
	case OpPinned, OpApproved:
		t.State, t.Hash, t.Offered, t.Removed = Pinned, b.Hash, "", false
	case OpRestored:
		if t.Removed {
			t.back, _ = time.Parse(guardbook.TimeLayout, ts) // read before; zero would only note more
		}
		t.State, t.Offered, t.Removed = Pinned, "", false
	case OpQuarantined:
		t.State, t.Offered, t.Removed = Quarantined, b.Hash, false
	case OpRejected:
		t.State, t.Offered = Rejected, b.Hash
		if t.Hash == b.Hash { // what was trusted is so no more
			t.Hash = ""
		}
	case OpRemoved:
		t.Removed = true
		return nil
	default:
		return fmt.Errorf("tool entry %s has an operation %.40q that this build does not know", id, b.Op)
	}
	t.Since, t.Entry, t.Reason, t.By = ts, id, b.Reason, b.By
	if b.Agent != "" {
		t.Agent = b.Agent
	}
	return nil
}

// Page judges one page of a tools/list answer and writes down what is new about it.
func (s *Store) Page(ctx context.Context, agent, tenant string, of Server, p Page) ([]Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	identity := of.scoped(agent)
	v := s.servers[identity]
	open := v == nil || !v.listed && s.o.Now().Sub(v.first) < firstList && len(v.tools)+len(p.Tools) <= maxTools
	var steps []guardbook.ToolEntry
	step := func(op, tool, hash, previous, reason string) {
		steps = append(steps, guardbook.ToolEntry{Op: op, Tool: guardbook.ToolRef{Server: of.Name, Name: tool}, Identity: identity, Hash: hash,
			Previous: previous, By: byGuardbook, Reason: reason, Agent: agent})
	}
	for _, d := range p.Tools {
		var t *Tool
		if v != nil {
			t = v.tools[d.Name]
		}
		switch {
		case t == nil && open:
			step(OpPinned, d.Name, d.Hash, "", "")
		case t == nil && len(v.tools)+len(steps) >= maxTools: // not offered, and not remembered
		case t == nil:
			step(OpQuarantined, d.Name, d.Hash, "", "new")
		case t.Hash == d.Hash && (t.State != Pinned || t.Removed):
			step(OpRestored, d.Name, d.Hash, "", "")
		case t.Hash == d.Hash, t.State == Rejected && t.Offered == d.Hash,
			t.State == Quarantined && t.Offered == d.Hash && !t.Removed: // as it was
		default:
			step(OpQuarantined, d.Name, d.Hash, t.Hash, "changed")
		}
	}
	if p.Complete && (v == nil || !v.listed) {
		step(OpListed, "", "", "", "")
	}
	if p.Complete && p.All != nil && v != nil {
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range v.tools {
				if !yield(name) {
					return
				}
			}
		})
		for _, name := range names {
			// A server may show different tools to different users: what comes and goes is
			// noted once a day.
			if t := v.tools[name]; !t.Removed && !slices.Contains(p.All, name) && s.o.Now().Sub(t.back) > 24*time.Hour {
				step(OpRemoved, name, t.Hash, "", "")
			}
		}
	}
	if err := s.write(ctx, tenant, steps, p.Tools); err != nil {
		return nil, err
	}
	out := make([]Verdict, len(p.Tools))
	for i, d := range p.Tools {
		out[i] = s.verdict(agent, of.Name, s.servers[identity].tools[d.Name])
	}
	return out, nil
}

// write makes steps durable and then effective; s.mu is held.
func (s *Store) write(ctx context.Context, tenant string, steps []guardbook.ToolEntry, defs []Definition) error {
	if len(steps) == 0 {
		return nil
	}
	for _, d := range defs {
		if slices.ContainsFunc(steps, func(e guardbook.ToolEntry) bool { return e.Hash == d.Hash }) {
			s.o.Texts.keep(d)
		}
	}
	now := s.o.Now().UTC()
	drafts := make([]guardbook.Draft, len(steps))
	for i := range steps {
		if steps[i].Op == OpQuarantined && s.o.Receiver != nil {
			steps[i].Alert = s.o.Receiver(steps[i].Agent, guardbook.High)
		}
		drafts[i] = guardbook.Draft{ID: uuid.Must(uuid.NewV7()).String(), Type: guardbook.TypeTool, Time: now, Tenant: tenant, Body: steps[i]}
	}
	if err := s.o.Recorder.AppendDurable(context.WithoutCancel(ctx), drafts...); err != nil {
		return fmt.Errorf("%w: the book cannot be written, so no change of tools takes effect: %w", ErrNotRecorded, err)
	}
	for i, d := range drafts {
		if err := s.fold(d.ID, now.Format(guardbook.TimeLayout), steps[i]); err != nil {
			return err
		}
		if steps[i].Op == OpQuarantined {
			s.o.Log.Warn("a tool is quarantined", "server", steps[i].Tool.Server, "tool", steps[i].Tool.Name, "why", steps[i].Reason, "agent", steps[i].Agent)
		}
	}
	return nil
}

// Call judges a call of a tool.
func (s *Store) Call(agent string, of Server, tool string) (Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return Verdict{}, s.broken
	}
	v := s.servers[of.scoped(agent)]
	if v == nil {
		return Verdict{State: Unlisted, Enforced: s.enforced(agent)}, nil
	}
	t := v.tools[tool]
	if t == nil && !v.listed {
		return Verdict{State: Unlisted, Enforced: s.enforced(agent)}, nil
	}
	return s.verdict(agent, of.Name, t), nil
}

// verdict is what stands about a tool; s.mu is held.
func (s *Store) verdict(agent, server string, t *Tool) Verdict {
	v := Verdict{State: Pinned, Enforced: s.enforced(agent)}
	switch {
	case t == nil:
		v.State, v.Reason = Quarantined, "server "+server+" has never listed a tool of this name."
	case t.State == Quarantined && t.Hash == "":
		v.State, v.Reason, v.Entry = Quarantined, "this tool of server "+server+" appeared after its tools were pinned, and waits for an operator's approval.", t.Entry
	case t.State == Quarantined:
		v.State, v.Reason, v.Entry = Quarantined, "the definition of this tool of server "+server+" has changed since it was pinned, and waits for an operator's approval.", t.Entry
	case t.State == Rejected:
		v.State, v.Reason, v.Entry = Rejected, "an operator rejected this tool of server "+server+".", t.Entry
	}
	return v
}

func (s *Store) enforced(agent string) bool {
	return s.o.Mode == nil || s.o.Mode(agent) != guardbook.ModeMonitor
}

// List returns every tool, of one server (by its name) or of all, by server and name.
func (s *Store) List(name string) ([]Tool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	out := []Tool{}
	for _, v := range s.servers {
		for _, t := range v.tools {
			if name == "" || t.Server == name {
				out = append(out, *t)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Server != b.Server {
			return a.Server < b.Server
		}
		if a.Tool != b.Tool {
			return a.Tool < b.Tool
		}
		return a.Identity < b.Identity
	})
	return out, nil
}

// Waiting counts the tools that wait for an operator.
func (s *Store) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, v := range s.servers {
		for _, t := range v.tools {
			if t.State == Quarantined {
				n++
			}
		}
	}
	return n
}

// Judgement is an operator's word on a tool.
type Judgement struct {
	Server, Tool string
	// Identity tells servers of the same name apart; "" when there is only one.
	Identity string
	// Hash is of the definition that the operator has seen; "": the one that is there.
	Hash       string
	By, Reason string
}

// Approve makes the definition that waits the pinned one.
func (s *Store) Approve(ctx context.Context, j Judgement) (Tool, error) {
	return s.judge(ctx, j, OpApproved)
}

// Reject refuses the definition that waits, or takes the trust from the pinned one.
func (s *Store) Reject(ctx context.Context, j Judgement) (Tool, error) {
	return s.judge(ctx, j, OpRejected)
}

func (s *Store) judge(ctx context.Context, j Judgement, op string) (Tool, error) {
	j.Reason = strings.TrimSpace(j.Reason)
	if j.Reason == "" || len(j.Reason) > maxReason {
		return Tool{}, &problem{ErrInvalid, fmt.Sprintf("say why, in at most %d bytes: the reason goes into the book", maxReason)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return Tool{}, s.broken
	}
	var found []*Tool
	for _, v := range s.servers {
		if t := v.tools[j.Tool]; t != nil && t.Server == j.Server && (j.Identity == "" || t.Identity == j.Identity) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return Tool{}, &problem{ErrNotFound, fmt.Sprintf("server %.80q has no tool %.80q here: `guardbook mcp tools` lists what there is", j.Server, j.Tool)}
	case 1:
	default:
		ids := make([]string, len(found))
		for i, t := range found {
			ids[i] = t.Identity
		}
		slices.Sort(ids)
		return Tool{}, &problem{ErrConflict, fmt.Sprintf("more than one server goes by the name %.80q: say which with --identity, one of %s", j.Server, strings.Join(ids, ", "))}
	}
	t := found[0]
	hash := t.Offered
	if hash == "" {
		hash = t.Hash
	}
	switch {
	case j.Hash != "" && j.Hash != hash:
		return Tool{}, &problem{ErrConflict, fmt.Sprintf("the definition of tool %.80q has changed since you saw it: look at it again", j.Tool)}
	case op == OpApproved && t.State == Pinned:
		return Tool{}, &problem{ErrConflict, fmt.Sprintf("tool %.80q is pinned as it is: there is nothing to approve", j.Tool)}
	case op == OpRejected && t.State == Rejected:
		return Tool{}, &problem{ErrConflict, fmt.Sprintf("tool %.80q is rejected already", j.Tool)}
	}
	previous := t.Hash
	if previous == hash {
		previous = ""
	}
	e := guardbook.ToolEntry{Op: op, Tool: guardbook.ToolRef{Server: t.Server, Name: t.Tool}, Identity: t.Identity, Hash: hash, Previous: previous, By: j.By, Reason: j.Reason}
	if err := s.write(ctx, "", []guardbook.ToolEntry{e}, nil); err != nil {
		return Tool{}, err
	}
	return *t, nil
}

// Definitions returns the pinned definition of a tool and the one that waits; each is
// nil when there is none, or when its text was not kept.
func (s *Store) Definitions(t Tool) (pinned, offered []byte) {
	return s.o.Texts.read(t.Hash), s.o.Texts.read(t.Offered)
}
