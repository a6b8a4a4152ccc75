package gateway

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"net/http"

	"github.com/guardbook/guardbook"
)

// A client that asks for it with "X-Guardbook-Block: raise" gets a block as an
// error that holds the decision, for an SDK to raise: an HTTP error instead of an
// answer, or, within a stream, a comment in front of the protocol's own error event.

const raise = "raise"

// raised is a decision as an SDK reads it in an error.
type raised struct {
	Decision guardbook.Action   `json:"decision"`
	Entry    string             `json:"entry"`
	Rule     string             `json:"rule"`
	Severity guardbook.Severity `json:"severity"`
	Message  string             `json:"message"`
}

func raisedJSON(d guardbook.Decision) []byte {
	message := d.Message
	if message == "" {
		message = BlockText(d)
	}
	b, _ := json.Marshal(raised{d.Action, d.Entry, d.Rule, d.Severity, message}, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

// withDecision adds the decision to an error body as the member "guardbook" of its
// error object, which is the last member of every provider's error shape.
func withDecision(body []byte, d guardbook.Decision) []byte {
	end := []byte("}}")
	if !bytes.HasSuffix(body, end) {
		return body
	}
	out := append(bytes.Clone(body[:len(body)-len(end)]), `,"guardbook":`...)
	return append(append(out, raisedJSON(d)...), end...)
}

// containedDecision is a kill in the form of a decision.
func containedDecision(k Containment) guardbook.Decision {
	return guardbook.Decision{Action: guardbook.ActionBlock, Entry: k.ID, Rule: "containment/" + k.Scope, Severity: guardbook.High, Message: StopText(k)}
}

// firstBlocked returns the most severe decision that blocks, or nil.
func firstBlocked(ds []guardbook.Decision) (stop *guardbook.Decision) {
	for i := range ds {
		if d := &ds[i]; !d.Action.Releases() && (stop == nil || d.Severity > stop.Severity) {
			stop = d
		}
	}
	return stop
}

// raise ends the stream with a decision as an error. Whatever the protocol still
// sends does not go out.
func (o *Out) raise(d guardbook.Decision, p Protocol, text string) {
	eventType, data := p.ErrorEvent("content_filter", text)
	o.mu.Lock()
	if o.raised != nil {
		o.mu.Unlock()
		return
	}
	o.raised = &d
	o.deadline()
	n, err := o.w.Write(append(append([]byte(": guardbook "), raisedJSON(d)...), "\n\n"...))
	o.released += int64(n)
	if err != nil && o.err == nil {
		o.err = err
	}
	o.mu.Unlock()
	o.send(eventType, data)
	o.flush()
}

// errorAnswer answers with a block as an HTTP error that holds the decision.
func (x *exchange) errorAnswer(text string) {
	body := withDecision(x.p.ErrorBody(http.StatusForbidden, "content_filter", text), x.call.decision)
	(&Refusal{Status: http.StatusForbidden}).WriteHeader(x.w, len(body))
	_, _ = x.w.Write(body) // a client that has gone is no news here
}
