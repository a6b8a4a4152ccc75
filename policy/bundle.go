package policy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy/argument"
)

// File is a policy file before it is parsed.
type File struct {
	Name   string // within its directory, with / as separator
	Source []byte
}

// Bundle is all policies at one content hash. It does not change.
type Bundle struct {
	Hash     string // "sha256:" + hex, over the names and hashes of the files
	Files    []guardbook.PolicyFile
	Policies []*Policy // in the order of the files
}

// NewBundle parses files and checks them against each other. The error tells of
// every problem of every file, as *Errors.
func NewBundle(files []File) (*Bundle, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	b := &Bundle{Hash: hashOf(files)}
	var all Errors
	for _, f := range files {
		b.Files = append(b.Files, guardbook.PolicyFile{Name: f.Name, SHA256: sum(f.Source)})
		p, r := read(f.Name, f.Source)
		all.List = append(all.List, r.sorted()...)
		all.List = append(all.List, clashes(b.Policies, p)...)
		b.Policies = append(b.Policies, p)
	}
	if len(files) == 0 {
		return nil, errors.New("there is no policy file (*.yaml, *.yml)")
	}
	if len(all.List) > 0 {
		return nil, &all
	}
	return b, nil
}

// clashes returns what p may not share with the policies before it: its name and
// a pattern of agents, for both could be the policy of one agent.
func clashes(before []*Policy, p *Policy) []*Error {
	var out []*Error
	for _, o := range before {
		if o.Name == p.Name && p.Name != "" {
			out = append(out, p.errorAt("policy", 0, fmt.Sprintf("policy %q is already defined in %s: names are unique over all files", p.Name, o.File)))
		}
		for i, a := range p.Agents {
			if slices.Contains(o.Agents, a) {
				out = append(out, p.errorAt("agents", i, fmt.Sprintf("agents %q already belong to policy %q in %s: which one applies would be undecided", a, o.Name, o.File)))
			}
		}
	}
	return out
}

// For returns the policy of an agent: one that names it exactly, else the one
// with the longest matching glob. It returns nil if there is none.
func (b *Bundle) For(agent string) *Policy {
	var best *Policy
	var pattern string
	for _, p := range b.Policies {
		for _, a := range p.Agents {
			if !Match(a, agent) {
				continue
			}
			// Equally long globs are told apart by their text, so that the answer
			// does not depend on the order of the files.
			if s, t := specificity(a), specificity(pattern); best == nil || s > t || s == t && a < pattern {
				best, pattern = p, a
			}
		}
	}
	return best
}

// Refs describes the bundle's policies for a PolicyEntry.
func (b *Bundle) Refs() []guardbook.PolicyRef {
	refs := make([]guardbook.PolicyRef, len(b.Policies))
	for i, p := range b.Policies {
		refs[i] = guardbook.PolicyRef{Policy: p.Name, File: p.File, Owner: p.Owner, Mode: p.Mode, Agents: p.Agents}
	}
	return refs
}

// hashOf is a bundle's hash: SHA-256 over one line a file, "<sha256 hex>  <name>\n",
// sorted by name, as sha256sum prints them.
func hashOf(files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s  %s\n", sum(f.Source), f.Name)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// warm starts the SQL parser, if some policy needs it, so that no decision has to
// wait for that. Once begun it is not broken off: the parser cannot be, and would
// outlive whoever waits for it.
func (b *Bundle) warm(ctx context.Context) error {
	if !b.usesSQL() {
		return nil
	}
	return argument.WarmSQL(context.WithoutCancel(ctx))
}

func (b *Bundle) usesSQL() bool {
	return slices.ContainsFunc(b.Policies, func(p *Policy) bool { return p.sql })
}
