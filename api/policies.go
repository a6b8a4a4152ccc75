package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/policy"
)

type policyJSON struct {
	Policy string         `json:"policy"`
	File   string         `json:"file"`
	Owner  string         `json:"owner,omitzero"`
	Mode   guardbook.Mode `json:"mode"`
	Agents []string       `json:"agents"`
	Text   string         `json:"text"`
}

type bundleJSON struct {
	Bundle   string       `json:"bundle"`
	Policies []policyJSON `json:"policies"`
}

func bundleOf(b *policy.Bundle) bundleJSON {
	out := bundleJSON{Policies: []policyJSON{}}
	if b == nil {
		return out
	}
	out.Bundle = b.Hash
	for _, p := range b.Policies {
		out.Policies = append(out.Policies, policyOf(p))
	}
	return out
}

func policyOf(p *policy.Policy) policyJSON {
	return policyJSON{p.Name, p.File, p.Owner, p.Mode, append([]string{}, p.Agents...), string(p.Source)}
}

func (a *api) listPolicies(w http.ResponseWriter, _ *http.Request, _ string) error {
	return writeJSON(w, http.StatusOK, bundleOf(a.o.Policies.Current()))
}

var bundleHash = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (a *api) showBundle(w http.ResponseWriter, r *http.Request, by string) error {
	hash := r.PathValue("hash")
	if !bundleHash.MatchString(hash) {
		return invalid("hash: %.80q is no bundle's hash: it reads sha256: and 64 hexadecimal digits", hash)
	}
	if err := a.read(r.Context(), "policy_read", by, hash, map[string]string{"bundle": hash}); err != nil {
		return err
	}
	b, err := a.keptBundle(hash)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, bundleOf(b))
}

func (a *api) keptBundle(hash string) (*policy.Bundle, error) {
	b, err := a.bundle(hash)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("no bundle with the hash %s was ever in force here", hash)
	}
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", hash, err)
	}
	return b, nil
}

// policiesAt tells which policies were in force at a point in time: those that
// the last attempt to load policy before it left in force.
func (a *api) policiesAt(w http.ResponseWriter, r *http.Request, by string) error {
	p := query(r, "time", "agent")
	at, agent := p.time("time"), p.text("agent")
	if p.err != nil {
		return p.err
	}
	if at.IsZero() {
		return invalid("time: say which point in time is meant")
	}
	if err := a.read(r.Context(), "policy_read", by, stamp(at), map[string]string{"at": stamp(at)}); err != nil {
		return err
	}
	found, err := a.o.Archive.Events(r.Context(), archive.Query{Types: []guardbook.EntryType{guardbook.TypePolicy},
		Until: at.Truncate(time.Microsecond).Add(time.Microsecond), Desc: true, Limit: 1})
	if err != nil {
		return fmt.Errorf("policies at %s: %w", stamp(at), err)
	}
	if len(found) == 0 {
		return notFound("the book tells of no policy at %s or before", stamp(at))
	}
	load, err := guardbook.Body[guardbook.PolicyEntry](found[0])
	if err != nil {
		return err
	}
	out := struct {
		Time  string `json:"time"`
		Entry string `json:"entry"` // of the load that left it in force
		bundleJSON
		Policy *policyJSON `json:"policy,omitzero"` // the agent's, when one is asked for
	}{Time: stamp(at), Entry: found[0].ID, bundleJSON: bundleOf(nil)}
	if load.Bundle != "" { // a first load that was rejected leaves none in force
		b, err := a.keptBundle(load.Bundle)
		if err != nil {
			return err
		}
		out.bundleJSON = bundleOf(b)
		if pol := policyFor(b, agent); agent != "" && pol != nil {
			x := policyOf(pol)
			out.Policy = &x
		}
	}
	return writeJSON(w, http.StatusOK, out)
}
