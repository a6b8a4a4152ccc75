// Package inspect serves POST /v1/inspect and /v1/inspect/batch: an interaction in,
// a decision out. It is the door for SDKs, hooks, and everything that is not a
// provider's API.
package inspect

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// BatchLimit is how many interactions one batch may hold.
const BatchLimit = 256

const (
	entryPath = "inspect"
	bodyLimit = 32 << 20
	bodyTime  = time.Minute
)

// errorShape is how this API tells an error.
type errorShape struct{}

// ErrorBody is an error as {"error": {"code", "message"}}.
func (errorShape) ErrorBody(_ int, code, message string) []byte {
	b, _ := json.Marshal(map[string]map[string]string{"error": {"code": code, "message": message}}, json.Deterministic(true), jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

// handler serves both endpoints.
type handler struct{ gw *gateway.Gateway }

// Handler returns the handler of /v1/inspect and /v1/inspect/batch.
func Handler(gw *gateway.Gateway) http.Handler { return &handler{gw} }

// answer is a decision as the API tells it.
type answer struct {
	Decision guardbook.Action    `json:"decision"`
	Entry    string              `json:"entry"`
	Rule     string              `json:"rule"`
	Severity guardbook.Severity  `json:"severity"`
	Message  string              `json:"message"`
	Findings []guardbook.Finding `json:"findings"`
	Policy   string              `json:"policy,omitzero"`
	Mode     guardbook.Mode      `json:"mode,omitzero"`
	Would    guardbook.Action    `json:"would,omitzero"`
	// Content and Arguments take the place of what was sent, when the decision is
	// redact; content in the form in which it came.
	Content   jsontext.Value `json:"content,omitzero"`
	Arguments jsontext.Value `json:"arguments,omitzero"`
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(c gateway.Caller, f *gateway.Refusal) {
		f.Agent, f.Session, f.Tenant, f.Client, f.ClientSeq = c.Agent, c.Session, c.Tenant, c.Client, c.ClientSeq
		h.gw.Refuse(r.Context(), w, errorShape{}, entryPath, f)
	}
	caller, refusal := gateway.Identify(r, "", h.gw.Keys())
	if refusal != nil {
		h.gw.Refuse(r.Context(), w, errorShape{}, entryPath, refusal)
		return
	}
	batch := r.URL.Path == "/v1/inspect/batch"
	switch {
	case !batch && r.URL.Path != "/v1/inspect":
		refuse(caller, &gateway.Refusal{Status: http.StatusNotFound, Code: "not_found", Message: "There are /v1/inspect and /v1/inspect/batch."})
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(caller, &gateway.Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "Use POST."})
		return
	}
	body, refusal := gateway.ReadBody(w, r, bodyLimit, bodyTime)
	if refusal != nil {
		refuse(caller, refusal)
		return
	}
	doc, err := document.Parse(body)
	if err != nil {
		refuse(caller, gateway.SyntaxRefusal(err))
		return
	}
	requests, err := read(doc.Root(), batch, caller)
	if err != nil {
		refuse(caller, &gateway.Refusal{Status: http.StatusBadRequest, Code: "malformed_request", Message: err.Error(), Bytes: int64(len(body))})
		return
	}
	ins := make([]*guardbook.Interaction, len(requests))
	for i := range requests {
		ins[i] = &requests[i].in
	}
	ds, err := h.gw.Guard().Decide(r.Context(), ins...)
	if err != nil {
		refuse(caller, gateway.NotDurable())
		return
	}
	answers := make([]answer, len(ds))
	strictest := 0
	for i, d := range ds {
		answers[i] = tell(d, requests[i])
		if s := ds[strictest].Action; s != d.Action && guardbook.Stricter(s, d.Action) == d.Action {
			strictest = i
		}
	}
	var out any = answers[0]
	if batch {
		out = map[string][]answer{"decisions": answers}
	}
	b, err := json.Marshal(out, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		refuse(caller, &gateway.Refusal{Status: http.StatusInternalServerError, Code: "internal", Message: "The decision could not be written: it stands in the book."})
		return
	}
	hd := w.Header()
	action := ds[strictest].Action
	if action == guardbook.ActionLog {
		action = guardbook.ActionAllow
	}
	hd.Set(gateway.HeaderDecision, string(action))
	hd.Set(gateway.HeaderEntry, ds[strictest].Entry)
	hd.Set("Content-Type", "application/json")
	hd.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the decision is made; whether it arrives is the client's affair
}

// tell writes a decision as the API does.
func tell(d guardbook.Decision, r request) answer {
	a := answer{Decision: d.Action, Entry: d.Entry, Rule: d.Rule, Severity: d.Severity, Message: d.Message,
		Findings: d.Findings, Policy: d.Policy, Mode: d.Mode, Would: d.Would}
	if a.Findings == nil {
		a.Findings = []guardbook.Finding{}
	}
	if d.Action != guardbook.ActionRedact {
		return a
	}
	a.Arguments = d.Arguments
	switch {
	case len(d.Content) == 0:
	case r.plain:
		a.Content = jsontext.Value(document.Quote(d.Content[0].Text))
	default:
		if b, err := json.Marshal(d.Content, jsontext.AllowInvalidUTF8(true)); err == nil { // parts marshal
			a.Content = b
		}
	}
	return a
}

// at names a place in an error: the interaction of a batch, the member.
func at(prefix, member string) string {
	if prefix == "" {
		return member
	}
	if member == "" {
		return prefix
	}
	return fmt.Sprintf("%s.%s", prefix, member)
}
