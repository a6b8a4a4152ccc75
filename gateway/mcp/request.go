package mcp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

type verdict = pin.Verdict

// clientRequest finds the interactions in a request of the client.
func (s *Session) clientRequest(q *request, m *message, r *Result) ([]*item, *faultError) {
	params := m.root.Get("params")
	bad := func(reason string) ([]*item, *faultError) {
		return nil, &faultError{code: "malformed_request", rpc: CodeInvalidParams, reason: reason}
	}
	if name := strange(params, known(m.method)); name != "" {
		return bad("the parameter " + name + " is written in other capitals: some would take it for the one of the protocol, and others would not")
	}
	if state := params.Get("requestState"); state.Exists() && len(state.Raw()) > maxState {
		return bad(fmt.Sprintf("requestState is larger than %d bytes", maxState))
	}
	read := []string{"requestState"} // opaque: it comes from the server and goes back to it
	var items []*item
	switch m.method {
	case "tools/call":
		name := params.Get("name")
		if !name.IsString() || name.Text() == "" || len(name.Text()) > 1024 {
			return bad("a call must name its tool in at most 1024 bytes")
		}
		q.tool, r.Tool = name.Text(), name.Text()
		it := s.item(guardbook.KindToolCall, m.method, q.tool, m.id)
		args := params.Get("arguments")
		it.setArguments(args)
		redact := it.redact
		it.redact = func(d guardbook.Decision) {
			redact(d)
			r.Arguments = d.Arguments
		}
		items, read = append(items, it), append(read, "name", "arguments")
	case "tools/list":
		q.cursor = params.Get("cursor").Text()
		read = append(read, "cursor")
	case "resources/list", "resources/templates/list", "prompts/list", "tasks/list":
		read = append(read, "cursor")
	case "tasks/result", "tasks/get", "tasks/cancel", "tasks/update":
		q.task = params.Get("taskId").Text()
		if m.method == "tasks/result" {
			q.tool = s.taskTool(q.task)
			r.Tool = q.tool
		}
		read = append(read, "taskId")
	case "initialize", "server/discover":
		read = append(read, "clientInfo", "capabilities", "protocolVersion")
	}
	// Whatever else is in the request goes out, too: a prompt's arguments, a URI, answers
	// to what the server asked (inputResponses), members that this program does not know.
	rest := s.item(guardbook.KindOutput, m.method, q.tool, m.id)
	s.members(rest, params, read)
	s.members(rest, m.root, envelope)
	return append(items, rest), nil
}

// known are the parameters of a method that are told apart by their names.
func known(method string) []string {
	names := []string{"_meta", "name", "arguments", "cursor", "uri", "requestState", "inputResponses", "task", "taskId"}
	if method == "initialize" {
		names = append(names, "protocolVersion", "capabilities", "clientInfo")
	}
	return names
}

// serverRequest finds the interactions in a request of the server: a prompt for the
// client's model (sampling/createMessage), a question for the user (elicitation/create,
// also one that sends the user to a URL). They come from whoever runs the server, and
// reach a model or a person as a tool's result does; so that is what they are.
func (s *Session) serverRequest(m *message) []*item {
	it := s.item(guardbook.KindToolResult, m.method, "", m.id)
	s.loose(it, m.root)
	return []*item{it}
}

// loose adds what is in a message, beside what every message has.
func (s *Session) loose(it *item, root document.Value) {
	s.members(it, root, []string{"jsonrpc", "id", "method", "params", "result"})
	s.members(it, root.Get("params"), nil)
	s.members(it, root.Get("result"), nil)
}

// members adds the members of v that were not read otherwise, and are more than
// words.
func (s *Session) members(it *item, v document.Value, read []string) {
	for c := v.First(); c.Exists(); c = c.Next() {
		name := c.Name()
		switch {
		case name != "" && slices.Contains(read, name):
			continue
		case name == "_meta":
			s.meta(it, c)
			continue
		case !document.Plain(name):
			it.add(c.NamePlace(), name)
		}
		s.wordy(it, c)
	}
}

// wordy adds the content of v, unless it is words only: flags, levels, cursors.
func (s *Session) wordy(it *item, v document.Value) {
	before := len(it.places)
	it.addContent(v)
	// It is read whole when any of it is more than a word: a text may be cut into words.
	for i, p := range it.in.Content[before:] {
		if p.Type != "text" || !word(p.Text) || i > 8 {
			return
		}
	}
	it.in.Content, it.places = it.in.Content[:before], it.places[:before]
}

// meta adds the metadata of a message that the protocol does not define itself.
func (s *Session) meta(it *item, v document.Value) {
	for c := v.First(); c.Exists(); c = c.Next() {
		name := c.Name()
		own := strings.HasPrefix(name, "io.modelcontextprotocol/") || name == "progressToken" || name == "traceparent" || name == "tracestate"
		if own && len(c.Raw()) <= 4<<10 {
			continue
		}
		if !document.Plain(name) {
			it.add(c.NamePlace(), name)
		}
		s.wordy(it, c)
	}
}
