package api

import (
	"bytes"
	"encoding/json/v2"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
)

const ndjson = "application/x-ndjson"

// listEvents answers with raw entries, exactly as they are in the book.
func (a *api) listEvents(w http.ResponseWriter, r *http.Request, by string) error {
	q, err := eventQuery(r)
	if err != nil {
		return err
	}
	detail := filterText(q)
	lines := accepts(r, ndjson)
	op := "events_read"
	if lines {
		op = "events_exported"
	}
	if err := a.read(r.Context(), op, by, fmt.Sprint(detail), detail); err != nil {
		return err
	}
	entries, err := a.o.Archive.Events(r.Context(), q)
	if err != nil {
		return fmt.Errorf("list events: %w", err)
	}
	var b bytes.Buffer
	if lines {
		for _, e := range entries {
			b.Write(e.Raw)
			b.WriteByte('\n')
		}
		w.Header().Set("Content-Type", ndjson)
	} else {
		// Put together by hand: an encoder might write a number or an escape in
		// another way, and then the bytes would not be those that were hashed.
		b.WriteString(`{"events":[`)
		for i, e := range entries {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(e.Raw)
		}
		b.WriteString("]}\n")
		w.Header().Set("Content-Type", "application/json")
	}
	_, _ = w.Write(b.Bytes()) // the caller went away: nobody to tell
	return nil
}

// accepts reports whether a media type is named in the Accept header.
func accepts(r *http.Request, want string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && t == want {
			return true
		}
	}
	return false
}

// policyText is a policy's file as it was when an entry was made.
type policyText struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Bundle string `json:"bundle"`
	Text   string `json:"text"`
}

// showEvent answers with an entry and everything needed to understand and check
// it: its proof in the book, the policy that was in force, what its rules mean.
func (a *api) showEvent(w http.ResponseWriter, r *http.Request, by string) error {
	if p := query(r); p.err != nil {
		return p.err
	}
	e, err := a.o.Archive.Event(r.Context(), r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("event %.80q: %w", r.PathValue("id"), err)
	}
	if err := a.read(r.Context(), "event_read", by, e.ID, map[string]string{"event": e.ID}); err != nil {
		return err
	}
	rest := struct {
		Proof        string            `json:"proof"`
		ProofMissing string            `json:"proof_missing,omitzero"`
		Policy       *policyText       `json:"policy,omitzero"`
		Rules        map[string]string `json:"rules,omitzero"`
	}{}
	if e.Log == a.o.Book.Origin() {
		proof, err := a.prove(r, e.Seq)
		if err != nil {
			return err
		}
		rest.Proof = string(proof)
	} else {
		rest.ProofMissing = "the entry is in the log of an earlier epoch, " + e.Log + ": guardbook book proof makes its proof from the files"
	}
	if e.Type == guardbook.TypeDecision {
		d, err := guardbook.Body[guardbook.DecisionEntry](e)
		if err != nil {
			return err
		}
		rest.Policy = a.policyInForce(d)
		rest.Rules = a.meanings(d)
	}
	tail, err := json.Marshal(rest)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.ID, err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"entry":%s,%s`+"\n", e.Raw, tail[1:]) // the caller went away: nobody to tell
	return nil
}

// policyInForce finds the text of the policy that a decision names, in the
// bundle that it names; nil when there was none.
func (a *api) policyInForce(d guardbook.DecisionEntry) *policyText {
	if d.Policy == "" || d.Bundle == "" {
		return nil
	}
	b, err := a.bundle(d.Bundle)
	if err != nil {
		a.log.Warn("the bundle of a decision is not kept any more", "bundle", d.Bundle, "error", err)
		return nil
	}
	for _, p := range b.Policies {
		if p.Name == d.Policy {
			return &policyText{Name: p.Name, File: p.File, Bundle: b.Hash, Text: string(p.Source)}
		}
	}
	return nil
}

// bundle finds a bundle by hash, the one in force first.
func (a *api) bundle(hash string) (*policy.Bundle, error) {
	if b := a.o.Policies.Current(); b != nil && b.Hash == hash {
		return b, nil
	}
	return a.o.Policies.Bundle(hash)
}

func (a *api) meanings(d guardbook.DecisionEntry) map[string]string {
	if a.o.Rules == nil {
		return nil
	}
	out := map[string]string{}
	for _, f := range d.Findings {
		if m, ok := a.o.Rules.Meaning(f.Rule); ok {
			out[f.Rule] = m
		}
	}
	return out
}
