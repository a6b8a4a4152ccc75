package derive

import (
	"bytes"
	"cmp"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/guardbook/guardbook"
)

// maxText bounds a policy text that is read for its grants.
const maxText = 4 << 20

// grants follows what each agent may do: agent x tool x constraint, with the
// time for which it held.
type grants struct {
	open  map[grant]*held
	done  []*held
	texts map[string][]policyText // by file hash
}

// grant is one thing that an agent may do, or may not.
type grant struct {
	agent, policy, pattern, owner, mode, file string
	tool, effect, argument, constraint        string
	approval                                  string
}

type held struct {
	grant
	from, to time.Time
	bundle   string
	fileHash string
}

// policyText is what the register of grants reads from a policy's text. Only
// names are read here; what a constraint means is the policy engine's matter.
type policyText struct {
	Policy string     `yaml:"policy"`
	Owner  string     `yaml:"owner"`
	Mode   string     `yaml:"mode"`
	Agents []string   `yaml:"agents"`
	Tools  []toolText `yaml:"tools"`
}

type toolText struct {
	Name     string `yaml:"name"`
	Server   string `yaml:"server"`
	Allow    any    `yaml:"allow"`
	Deny     any    `yaml:"deny"`
	Approval any    `yaml:"approval"`
	When     any    `yaml:"when"`
}

func (g *grants) init() { g.open, g.texts = map[grant]*held{}, map[string][]policyText{} }

// read returns the policies in a file, or nothing when it cannot be read.
func (s *state) readPolicies(hash string) []policyText {
	if t, ok := s.policies.grants.texts[hash]; ok {
		return t
	}
	var out []policyText
	if src, err := s.in.Text(hash); err == nil && len(src) <= maxText {
		out = parsePolicies(src)
	}
	s.policies.grants.texts[hash] = out
	return out
}

func parsePolicies(src []byte) []policyText {
	var out []policyText
	for dec := yaml.NewDecoder(bytes.NewReader(src)); ; {
		var p policyText
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return out
		}
		if p.Policy != "" {
			out = append(out, p)
		}
	}
}

// matchLength says whether a pattern with * covers a name and how specific it
// is: an exact name beats a pattern, and of patterns the one with more characters
// that are not *.
func matchLength(pattern, name string) (int, bool) {
	if pattern == name {
		return 1 << 20, true
	}
	if !strings.Contains(pattern, "*") {
		return 0, false
	}
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return 0, false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return 0, false
		}
		rest = rest[i+len(part):]
	}
	return len(pattern) - strings.Count(pattern, "*"), strings.HasSuffix(rest, last)
}

// covering returns the policy of a list that covers an agent, and by which pattern.
func covering(refs []guardbook.PolicyRef, name string) (guardbook.PolicyRef, string, bool) {
	best, pattern, found := guardbook.PolicyRef{}, "", false
	longest := -1
	for _, r := range refs {
		for _, p := range r.Agents {
			if n, ok := matchLength(p, name); ok && n > longest {
				best, pattern, longest, found = r, p, n, true
			}
		}
	}
	return best, pattern, found
}

// regrant works out what holds from at on: the bundle in force and the register
// have just changed.
func (s *state) regrant(at time.Time) {
	g := &s.policies.grants
	now := map[grant]*held{}
	if c := s.policies.current; c != nil {
		sums := map[string]string{}
		for _, f := range c.Files {
			sums[f.Name] = Hex(f.SHA256)
		}
		for name, a := range s.agents.m {
			if !a.registered() {
				continue
			}
			ref, pattern, ok := covering(c.Policies, name)
			if !ok {
				continue
			}
			for _, text := range s.readPolicies(sums[ref.File]) {
				if text.Policy != ref.Policy {
					continue
				}
				for _, one := range grantsOf(text) {
					one.agent, one.policy, one.pattern, one.owner = name, ref.Policy, pattern, ref.Owner
					one.mode, one.file = string(ref.Mode), ref.File
					now[one] = &held{grant: one, from: at, bundle: c.Bundle, fileHash: sums[ref.File]}
				}
			}
		}
	}
	for k, h := range g.open {
		if _, still := now[k]; !still {
			h.to = at
			g.done = append(g.done, h)
			delete(g.open, k)
		}
	}
	for k, h := range now {
		if g.open[k] == nil {
			g.open[k] = h
		}
	}
}

// grantsOf lists what a policy's text allows and denies, a line for each
// constrained argument.
func grantsOf(p policyText) []grant {
	var out []grant
	for _, t := range p.Tools {
		tool := t.Name
		if t.Server != "" {
			tool = t.Server + "/" + t.Name
		}
		base := grant{tool: tool, effect: "allow", approval: canonical(t.Approval)}
		if t.When != nil {
			base.constraint = "when: " + canonical(t.When)
		}
		if t.Deny != nil {
			base.effect, base.constraint = "deny", canonical(t.Deny)
			out = append(out, base)
			continue
		}
		args, ok := t.Allow.(map[string]any)
		if !ok || len(args) == 0 || base.constraint != "" {
			all := base
			if !ok && t.Allow != nil {
				all.constraint = strings.TrimPrefix(all.constraint+"; allow: "+canonical(t.Allow), "; ")
			}
			out = append(out, all)
		}
		for _, name := range sorted(args) {
			one := base
			one.argument, one.constraint = name, canonical(args[name])
			out = append(out, one)
		}
	}
	return out
}

// canonical writes a YAML value as JSON with sorted names.
func canonical(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func (s *state) settleGrants() {
	g := &s.policies.grants
	for _, h := range g.open {
		g.done = append(g.done, h)
	}
	g.done = slices.DeleteFunc(g.done, func(h *held) bool {
		return !h.from.Before(s.p.To) || !h.to.IsZero() && !h.to.After(s.p.From) || !h.to.IsZero() && !h.from.Before(h.to)
	})
	slices.SortFunc(g.done, func(a, b *held) int {
		return cmp.Or(cmp.Compare(a.agent, b.agent), cmp.Compare(a.tool, b.tool), a.from.Compare(b.from), cmp.Compare(a.effect, b.effect),
			cmp.Compare(a.argument, b.argument), cmp.Compare(a.constraint, b.constraint), cmp.Compare(a.policy, b.policy), cmp.Compare(a.approval, b.approval),
			cmp.Compare(a.pattern, b.pattern), cmp.Compare(a.mode, b.mode), cmp.Compare(a.owner, b.owner), cmp.Compare(a.file, b.file))
	})
}

var grantColumns = []column{
	{"agent", "registered agent", "text", "agent entries", false},
	{"tool", "name or pattern of the tool; what is not listed is denied", "text", "policy text: tools.name", false},
	{"effect", "allow or deny; a deny wins", "text", "policy text: tools.allow, tools.deny", false},
	{"argument", "argument that is constrained; empty: the line is about the whole call", "text", "policy text: tools.allow", true},
	{"constraint", "the constraint as JSON, or the reason of a deny", "text", "policy text", true},
	{"approval", "whose approval a call waits for", "text", "policy text: tools.approval", true},
	{"wildcard", "whether the tool's name holds a *", "true or false", "tool", false},
	{"policy", "name of the policy", "text", "policy.policies.policy", false},
	{"policy_owner", "who answers for the policy", "text", "policy.policies.owner", true},
	{"agent_pattern", "how the policy names the agent", "text", "policy.policies.agents", false},
	{"mode", "enforce, or monitor: the grant is not enforced", "text", "policy.policies.mode", false},
	{"valid_from", "since when it held", "time", "ts of the policy or agent entry", false},
	{"valid_to", "until when; empty: it holds at the end of the book in the package", "time", "ts of the policy or agent entry", true},
	{"bundle", "the first bundle that had it", "text", "policy.bundle", false},
	{"file", "file of the policy", "text", "policy.policies.file", false},
	{"file_sha256", "hash of that text: policies/blobs/HASH.yaml", "text", "policy.files.sha256", false},
}

func (s *state) writeGrants(sink Sink) error {
	t, err := newTable(sink, "registry/grants", grantColumns, 0)
	if err != nil {
		return err
	}
	for _, h := range s.policies.grants.done {
		if err := t.row(h.agent, h.tool, h.effect, h.argument, h.constraint, h.approval, strings.Contains(h.tool, "*"), h.policy, h.owner,
			h.pattern, h.mode, stamp(h.from), stamp(h.to), h.bundle, h.file, h.fileHash); err != nil {
			return err
		}
	}
	return t.close()
}
