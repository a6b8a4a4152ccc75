package openai

import (
	"strings"
	"sync"

	"github.com/guardbook/guardbook/gateway/document"
)

// A provider that keeps a conversation waits for the result of every call that it
// made, and refuses to go on without. The client never saw a call that was blocked, so
// it cannot give one: when it goes on from such an answer, the results are added here.

// owedResults remembers answers with calls that were blocked, the last keptAnswers of
// them. It is safe for concurrent use.
type owedResults struct {
	mu      sync.Mutex
	results map[string]string // by the answer's id: items, each with a comma behind it
	order   []string
	next    int
}

const keptAnswers = 8192

// put remembers the results that are owed for an answer.
func (o *owedResults) put(response document.Value, results string) {
	id := response.Get("id").Text()
	if o == nil || results == "" || id == "" || len(id) > 256 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.results == nil {
		o.results, o.order = map[string]string{}, make([]string, keptAnswers)
	}
	if _, known := o.results[id]; !known {
		delete(o.results, o.order[o.next])
		o.order[o.next] = id
		o.next = (o.next + 1) % keptAnswers
	}
	o.results[id] = strings.Clone(results)
}

// get returns what is owed for an answer.
func (o *owedResults) get(id string) string {
	if o == nil {
		return ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.results[id]
}

// owed is the result of a call that was blocked, for the provider; "" for a call that
// no text can be the result of.
func owed(call document.Value, text string) string {
	kind := call.Get("type").Text() + "_output"
	form := itemForms[kind]
	id := call.Get("call_id").Text()
	if form.instead == nil || id == "" {
		return ""
	}
	status := ""
	if kind == "apply_patch_call_output" {
		status = `"status":"failed",`
	}
	return `{"type":` + document.Quote(kind) + `,"call_id":` + document.Quote(id) + `,` + status + `"output":` + form.instead(text) + `},`
}

// pay adds results to a request's input, in front of what the client sends.
func pay(root document.Value, results string) {
	input := root.Get("input")
	items := ""
	switch {
	case input.IsString():
		items = `{"role":"user","content":` + input.Edited() + `}`
	case input.Kind() == '[':
		items = strings.TrimSuffix(strings.TrimPrefix(input.Edited(), "["), "]")
	}
	if strings.TrimSpace(items) == "" {
		results = strings.TrimSuffix(results, ",")
	}
	setMember(root, "input", "["+results+items+"]")
}
