package anthropic

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// batches is POST /v1/messages/batches: many Messages requests that the provider
// answers later. Each is judged as it would be alone. What must not be sent blocks
// the whole batch, since nobody waits for an answer in which it could be said.
type batches struct{ messages }

// Path is the entry path.
func (batches) Path() string { return "anthropic/batches" }

// Request finds every text of every request of a batch.
func (batches) Request(doc *document.Document) (*gateway.Request, error) {
	root := doc.Root()
	if root.Kind() != '{' {
		return nil, errors.New("the request's body must be a JSON object")
	}
	all := &gateway.Request{Unanswerable: true, Calls: map[string]int64{}}
	rest := gateway.NewItem(guardbook.KindInput, "")
	var settle []func()
	for v := root.First(); v.Exists(); v = v.Next() {
		if v.Name() != "requests" || v.Kind() != '[' {
			rest.AddStrings(v)
			continue
		}
		n := 0
		for q := v.First(); q.Exists(); q = q.Next() {
			n++
			one := oneOf(rest, q)
			if one == nil {
				continue
			}
			whose := fmt.Sprintf("request %d of the batch", n)
			if id := q.Get("custom_id").Text(); id != "" && document.Plain(id) {
				whose = fmt.Sprintf("request %q of the batch", id)
			}
			about := gateway.ContextOf(one)
			for _, it := range one.Items {
				it.Whose, it.In.Context = whose, about
			}
			all.Items = append(all.Items, one.Items...)
			all.Calls[one.Model]++
			settle = append(settle, one.Settled)
			if all.FirstUser == "" {
				all.System, all.FirstUser = one.System, one.FirstUser
			}
		}
	}
	if !rest.Empty() {
		all.Items = append(all.Items, rest)
	}
	all.Settled = func() {
		for _, f := range settle {
			f()
		}
	}
	return all, nil
}

// oneOf reads one request of a batch: its params are a Messages request, and the
// rest goes to rest. nil: it has none.
func oneOf(rest *gateway.Item, q document.Value) (one *gateway.Request) {
	if q.Kind() != '{' {
		rest.AddStrings(q)
		return nil
	}
	for v := q.First(); v.Exists(); v = v.Next() {
		switch {
		case v.Name() == "params" && v.Kind() == '{':
			one = readRequest(v)
		case v.Name() == "custom_id":
			rest.AddIdentifiers(v)
		default:
			rest.AddStrings(v)
		}
	}
	return one
}

// Unguarded says what is behind an endpoint that is not read.
func (Protocol) Unguarded(method, path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
	switch {
	case strings.HasPrefix(path, "/v1/messages/batches/") && strings.HasSuffix(path, "/results") && method == http.MethodGet:
		return "It returns what the model wrote for a batch, and an agent that reads it there gets texts and tool calls that nobody decided on. Send the requests to /v1/messages, where answers are guarded."
	case strings.HasPrefix(path, "/v1/messages/batches"):
		return "It tells about batches, or cancels and deletes them, and holds no text of a conversation."
	}
	switch first {
	case "complete":
		return "It is the legacy Text Completions API. Use /v1/messages, which is guarded."
	case "files":
		return "A file's content is not read, and a model can be pointed at it later by its id."
	case "skills":
		return "A skill is code and instructions that run at the provider."
	case "agents", "sessions", "environments", "deployments", "deployment_runs", "vaults", "memory_stores", "dreams":
		return "Managed agents run at the provider: their tool calls and answers are made where nobody can decide on them before they happen. Use /v1/messages with tools of your own."
	case "organizations", "user_profiles":
		return "It administers the organization, which is no work for an agent."
	}
	return ""
}
