package mcp

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// maxTTL is how long a client may keep a list, in milliseconds: a kill, a change of
// policy and a quarantine must reach it.
const maxTTL = 60_000

// serverAnswer takes the answer to a request of the client.
func (s *Session) serverAnswer(ctx context.Context, q *request, m *message, r Result) Result {
	var items []*item
	result := m.root.Get("result")
	switch {
	case m.root.Get("error").Exists():
		items = s.errorAnswer(q, m)
	case len(result.Get("requestState").Raw()) > maxState:
		return s.badAnswer(ctx, q, fmt.Sprintf("requestState is larger than %d bytes", maxState), r)
	default:
		if name := strange(result, resultMembers(q.method)); name != "" {
			return s.badAnswer(ctx, q, "the member "+name+" of the result is written in other capitals", r)
		}
		var err error
		if items, err = s.result(ctx, q, result); err != nil {
			r.Forward, r.Edited = s.unavailable(ctx, q, err), true
			return r
		}
		// Whatever else is in the message.
		rest := s.item(guardbook.KindToolResult, q.method, q.tool, q.id)
		s.members(rest, m.root, envelope)
		items = append(items, rest)
	}
	stop, err := s.decide(ctx, &r, items)
	switch {
	case err != nil:
		r.Forward, r.Edited = s.unavailable(ctx, q, err), true
	case stop != nil:
		r.Decision, r.Edited = *stop, true
		r.Forward = blocked(q, blockText(*stop))
	default:
		caching(result, m.doc.Changed())
		s.out(&r, m)
	}
	return r
}

// badAnswer tells the client that the server's answer cannot be passed on.
func (s *Session) badAnswer(ctx context.Context, q *request, reason string, r Result) Result {
	bad := s.refuse(ctx, FromServer, &faultError{code: "malformed_request", reason: reason}, 0)
	r.Refusal, r.Edited = bad.Refusal, true
	r.Forward = errorMessage(q.id, CodeInternal, bad.Refusal.Message)
	return r
}

// resultMembers are the members of a result that are told apart by their names.
func resultMembers(method string) []string {
	names := []string{"_meta", "resultType", "inputRequests", "requestState"}
	switch method {
	case "tools/list":
		return append(names, "tools", "nextCursor", "ttlMs", "cacheScope")
	case "tools/call", "tasks/result":
		return append(names, "content", "structuredContent", "isError")
	case "resources/read":
		return append(names, "contents")
	case "prompts/get":
		return append(names, "messages", "description")
	case "initialize", "server/discover":
		return append(names, "instructions", "serverInfo", "capabilities", "protocolVersion", "supportedVersions")
	}
	return names
}

// errorAnswer finds what an error says. When it is blocked, its words are replaced: it
// stays an error.
func (s *Session) errorAnswer(q *request, m *message) []*item {
	it := s.item(guardbook.KindToolResult, q.method, q.tool, q.id)
	fault := m.root.Get("error")
	it.addStringOnly(fault.Get("message"))
	s.members(it, fault, []string{"code", "message"})
	s.members(it, m.root, []string{"jsonrpc", "id", "error"})
	it.block = func(d guardbook.Decision) {
		raw := fault.Get("code").Raw()
		if raw == "" {
			raw = fmt.Sprint(CodeInternal)
		}
		for c := m.root.First(); c.Exists(); c = c.Next() {
			if !slices.Contains(envelope, c.Name()) {
				c.Remove()
			}
		}
		fault.SetRaw(`{"code":` + raw + `,"message":` + document.Quote(blockText(d)) + `}`)
	}
	return []*item{it}
}

// result finds the interactions in the result of a request.
func (s *Session) result(ctx context.Context, q *request, v document.Value) (items []*item, err error) {
	switch q.method {
	case "initialize", "server/discover":
		return s.greeting(q, v), nil
	case "tools/list":
		return s.toolList(ctx, q, v)
	case "prompts/list":
		items = s.list(q, v, "prompts")
	case "resources/list":
		items = s.list(q, v, "resources")
	case "resources/templates/list":
		items = s.list(q, v, "resourceTemplates")
	case "tools/call":
		s.becameTask(v.Get("task").Get("taskId").Text(), q.tool)
		items = []*item{s.toolResult(q, v)}
	case "tasks/result":
		items = []*item{s.toolResult(q, v)}
	default: // resources/read, prompts/get, completion/complete, and whatever comes
		it := s.item(guardbook.KindToolResult, q.method, q.tool, q.id)
		s.members(it, v, []string{"resultType", "requestState", "ttlMs", "cacheScope"})
		items = []*item{it}
	}
	return items, nil
}

// toolResult is what a tool gave back, also when it asks for more input instead.
func (s *Session) toolResult(q *request, v document.Value) *item {
	it := s.item(guardbook.KindToolResult, q.method, q.tool, q.id)
	it.addContent(v.Get("content"))
	s.mu.Lock()
	t, seen := s.tools[q.tool]
	s.mu.Unlock()
	it.addStrict(v.Get("structuredContent"), t.constrained || !seen && v.Get("structuredContent").Exists() && q.tool == "")
	s.members(it, v, []string{"content", "structuredContent", "resultType", "requestState"})
	return it
}

// maxTasks bounds the tasks whose tool is remembered.
const maxTasks = 10_000

// becameTask remembers the tool of a call whose result will be asked for later.
func (s *Session) becameTask(id, tool string) {
	if id == "" || len(id) > maxID {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tasks) >= maxTasks {
		clear(s.tasks)
	}
	s.tasks[id] = tool
}

func (s *Session) taskTool(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[id]
}

// greeting is what a server says of itself. Instructions that are blocked are left
// out: a model reads them, and a client can do without.
func (s *Session) greeting(q *request, v document.Value) []*item {
	if version := v.Get("protocolVersion").Text(); q.method == "initialize" && version != "" {
		s.mu.Lock()
		s.version = version
		s.mu.Unlock()
	}
	words := s.item(guardbook.KindToolDefinition, q.method, "", q.id)
	instructions := v.Get("instructions")
	words.addStringOnly(instructions)
	words.block = func(guardbook.Decision) { instructions.Remove() }
	rest := s.item(guardbook.KindToolDefinition, q.method, "", q.id)
	for c := v.First(); c.Exists(); c = c.Next() {
		switch c.Name() {
		case "instructions", "resultType", "protocolVersion", "supportedVersions":
		case "_meta":
			rest.addStrings(c) // serverInfo of the stateless era is in it
		default:
			s.wordy(rest, c)
		}
	}
	return []*item{words, rest}
}

// list is a list of prompts or resources: one definition each, left out when blocked.
func (s *Session) list(q *request, v document.Value, member string) (items []*item) {
	for c := v.Get(member).First(); c.Exists(); c = c.Next() {
		it := s.item(guardbook.KindToolDefinition, q.method, "", q.id)
		it.addContent(c)
		it.block = func(guardbook.Decision) { c.Remove() }
		items = append(items, it)
	}
	rest := s.item(guardbook.KindToolDefinition, q.method, "", q.id)
	s.members(rest, v, []string{member, "nextCursor", "resultType", "ttlMs", "cacheScope", "requestState"})
	return append(items, rest)
}

// caching keeps a result that was filtered or redacted for one agent from being kept
// for others, and any from being kept for long.
func caching(v document.Value, edited bool) {
	if scope := v.Get("cacheScope"); edited && scope.Exists() && scope.Text() != "private" {
		scope.SetText("private")
	}
	if ttl := v.Get("ttlMs"); ttl.Kind() == '0' && (ttl.Int(maxTTL+1) > maxTTL || strings.ContainsAny(ttl.Raw(), ".eE")) {
		ttl.SetRaw(fmt.Sprint(maxTTL))
	}
}
