package derive

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// policies follows what policy was in force.
type policies struct {
	attempts []*attempt // every attempt to load, in the order of the book
	current  *attempt   // the last that was applied
	bundles  map[string]*bundleUse
	grants   grants
}

// attempt is one attempt to load policy.
type attempt struct {
	guardbook.PolicyEntry
	ref        Ref
	ts         time.Time
	instance   string
	in         bool
	superseded time.Time // when the next one was applied; zero: still in force
	decisions  int64     // decisions made under it, in the whole book
	firstUse   string
}

// bundleUse counts the decisions that name a bundle.
type bundleUse struct {
	applied bool // an activation of it stands before
	in      int64
}

func (p *policies) init() {
	p.bundles = map[string]*bundleUse{}
	p.grants.init()
}

func (a *attempt) applied() bool { return a.Outcome == "applied" }

func (s *state) policy(x event, b guardbook.PolicyEntry) {
	a := &attempt{PolicyEntry: b, ref: x.ref, ts: x.ts, instance: x.Instance, in: x.in}
	s.policies.attempts = append(s.policies.attempts, a)
	if !a.applied() {
		if a.in {
			s.walk.offer(walkRejected, x)
		}
		return
	}
	if c := s.policies.current; c != nil {
		c.superseded = x.ts
	}
	s.policies.current = a
	s.bundle(b.Bundle).applied = true
	if a.in {
		s.walk.offer(walkApplied, x)
	}
	s.regrant(x.ts)
}

func (s *state) bundle(hash string) *bundleUse {
	u := s.policies.bundles[hash]
	if u == nil {
		u = &bundleUse{}
		s.policies.bundles[hash] = u
	}
	return u
}

// live reports whether an applied attempt was in force at any time of the window.
func (s *state) live(a *attempt) bool {
	return a.applied() && a.ts.Before(s.p.To) && (a.superseded.IsZero() || a.superseded.After(s.p.From))
}

// settleTexts lists the policy files that were live in the window.
func (s *state) settleTexts() {
	for _, a := range s.policies.attempts {
		if !s.live(a) {
			continue
		}
		for _, f := range a.Files {
			if h := Hex(f.SHA256); !slices.Contains(s.facts.Texts, h) {
				s.facts.Texts = append(s.facts.Texts, h)
			}
		}
	}
	slices.Sort(s.facts.Texts)
	for _, h := range s.facts.Texts {
		if _, err := s.in.Text(h); err != nil {
			s.facts.Missing = append(s.facts.Missing, h)
		}
	}
}

// Hex is a hash without its "sha256:".
func Hex(hash string) string { return strings.TrimPrefix(hash, "sha256:") }

var changeColumns = []column{
	{"row_id", "id of the row: the id of its entry", "text", "policy.id", false},
	{"seq", "place in the log", "count", "policy.seq", false},
	{"log", "the log's origin", "text", "policy.log", false},
	{"occurred_at", "when the attempt was made", "time", "policy.ts", false},
	{"recorded_at", "when it was recorded; an applied bundle decides nothing before", "time", "policy.rec", false},
	{"instance", "the instance that loaded", "text", "policy.instance", false},
	{"trigger", "what caused the attempt", "start, file_change or api", "policy.trigger", false},
	{"outcome", "what came of it", "applied or rejected", "policy.outcome", false},
	{"bundle", "hash of the bundle in force after the attempt", "text", "policy.bundle", true},
	{"previous", "hash of the bundle in force before", "text", "policy.previous", true},
	{"changed", "whether the bundle in force is another than before", "true or false", "bundle differs from previous", false},
	{"superseded_at", "when the next bundle was applied", "time", "ts of the next applied policy entry", true},
	{"files_added", "files that the bundle before did not have", "text", "policy.files", true},
	{"files_removed", "files that only the bundle before had", "text", "policy.files", true},
	{"files_modified", "files whose content changed", "text", "policy.files", true},
	{"policies", "policies of the bundle with owner and mode", "text", "policy.policies", true},
	{"rejected", "hash of the bundle that was refused", "text", "policy.rejected", true},
	{"error", "why it was refused", "text", "policy.error", true},
	{"decisions", "decisions made under this activation, to the end of the book in the package", "count", "decision entries", false},
	{"first_decision", "the first of them", "text", "decision.id", true},
}

// changeRow writes one attempt.
func changeRow(t *table, a *attempt, before *attempt, rec, log string) error {
	var added, removed, modified, names []string
	old := map[string]string{}
	if before != nil {
		for _, f := range before.Files {
			old[f.Name] = f.SHA256
		}
	}
	now := map[string]bool{}
	for _, f := range a.Files {
		now[f.Name] = true
		switch was, had := old[f.Name]; {
		case !had:
			added = append(added, f.Name)
		case was != f.SHA256:
			modified = append(modified, f.Name)
		}
	}
	for _, name := range sorted(old) {
		if !now[name] {
			removed = append(removed, name)
		}
	}
	if !a.applied() { // the files of a refused bundle never took force
		added, removed, modified = nil, nil, nil
	}
	for _, p := range a.Policies {
		names = append(names, fmt.Sprintf("%s (owner %s, %s)", p.Policy, orNone(p.Owner), p.Mode))
	}
	return t.row(a.ref.ID, a.ref.Seq, log, stamp(a.ts), rec, a.instance, a.Trigger, a.Outcome, a.Bundle, a.Previous,
		a.applied() && a.Bundle != a.Previous, stamp(a.superseded), strings.Join(added, "; "), strings.Join(removed, "; "),
		strings.Join(modified, "; "), strings.Join(names, "; "), a.Rejected, a.Error, a.decisions, a.firstUse)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

var activationColumns = []column{
	{"entry", "id of the policy entry", "text", "policy.id", false},
	{"seq", "place in the log", "count", "policy.seq", false},
	{"instance", "the instance that loaded", "text", "policy.instance", false},
	{"agents", "agents that the policy covers", "text", "policy.policies.agents", false},
	{"policy", "name of the policy", "text", "policy.policies.policy", false},
	{"owner", "who answers for it", "text", "policy.policies.owner", true},
	{"mode", "enforce, or monitor: everything passes", "text", "policy.policies.mode", false},
	{"file", "its file", "text", "policy.policies.file", false},
	{"file_sha256", "hash of its text: policies/blobs/HASH.yaml", "text", "policy.files.sha256", true},
	{"bundle", "hash of the bundle", "text", "policy.bundle", false},
	{"activated_at", "when it took force", "time", "policy.ts", false},
	{"superseded_at", "when the next bundle took force", "time", "ts of the next applied policy entry", true},
	{"trigger", "what caused the load", "text", "policy.trigger", false},
	{"outcome", "applied or rejected", "text", "policy.outcome", false},
}

// writeActivations lists every policy of every bundle that was in force in the
// window, and the attempts that were rejected.
func (s *state) writeActivations(sink Sink) error {
	t, err := newTable(sink, "policies/activations", activationColumns, 0)
	if err != nil {
		return err
	}
	for _, a := range s.policies.attempts {
		rejected := a.in && !a.applied()
		if !s.live(a) && !rejected {
			continue
		}
		sums := map[string]string{}
		for _, f := range a.Files {
			sums[f.Name] = Hex(f.SHA256)
		}
		refs := a.Policies
		bundle := a.Bundle
		if !a.applied() {
			refs, bundle = []guardbook.PolicyRef{{}}, a.Rejected
		}
		for _, p := range refs {
			if err := t.row(a.ref.ID, a.ref.Seq, a.instance, strings.Join(p.Agents, " "), p.Policy, p.Owner, string(p.Mode), p.File, sums[p.File],
				bundle, stamp(a.ts), stamp(a.superseded), a.Trigger, a.Outcome); err != nil {
				return err
			}
		}
	}
	return t.close()
}
