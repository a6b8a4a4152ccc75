package api

import (
	"errors"
	"net/http"

	"github.com/guardbook/guardbook/respond"
)

type containmentJSON struct {
	Containment string `json:"containment"`
	Scope       string `json:"scope"`
	By          string `json:"by"`
	Reason      string `json:"reason"`
	EffectiveAt string `json:"effective_at"`
	Until       string `json:"until,omitzero"`
	Refused     int64  `json:"refused"`
	Cut         int64  `json:"cut"`
	Recorded    bool   `json:"recorded"`
}

func (a *api) listContainments(w http.ResponseWriter, _ *http.Request, _ string) error {
	out := []containmentJSON{}
	for _, c := range a.o.Containments.List() {
		out = append(out, containmentJSON{c.ID, c.Scope, c.By, c.Reason, stamp(c.EffectiveAt), stamp(c.Until), c.Refused, c.Cut, c.Recorded})
	}
	return writeJSON(w, http.StatusOK, map[string]any{"containments": out})
}

func (a *api) kill(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Scope  string `json:"scope"`
		Reason string `json:"reason"`
		For    string `json:"for"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	d, err := readDuration("for", in.For)
	if err != nil {
		return err
	}
	c, err := a.o.Containments.Kill(r.Context(), in.Scope, by, in.Reason, d)
	if errors.Is(err, respond.ErrNotRecorded) {
		// Unlike everything else, a kill does not wait for the book.
		a.log.ErrorContext(r.Context(), "a kill is in force without its entry", "error", err)
		return &problem{http.StatusServiceUnavailable, codeNotDurable,
			"the kill is in force, but the book cannot be written: its entry is tried again until it is there; guardbook doctor tells why"}
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Entry       string `json:"entry"`
		Scope       string `json:"scope"`
		EffectiveAt string `json:"effective_at"`
		Until       string `json:"until,omitzero"`
	}{c.Entry, c.Scope, stamp(c.EffectiveAt), stamp(c.Until)})
}

func (a *api) lift(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Scope  string `json:"scope"`
		Reason string `json:"reason"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	c, err := a.o.Containments.Lift(r.Context(), in.Scope, by, in.Reason)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Entry   string `json:"entry"`
		Scope   string `json:"scope"`
		Refused int64  `json:"refused"`
		Cut     int64  `json:"cut"`
	}{c.Entry, c.Scope, c.Refused, c.Cut})
}
