package mcp

import (
	"context"
	"net/http"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// maxTools bounds the tools of one list, over all its pages.
const maxTools = 10_000

// listing is a list of tools that comes in pages.
type listing struct{ names []string }

// toolMembers are the members of a tool's entry that are told apart by their names.
var toolMembers = []string{"name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons", "execution", "_meta"}

// toolList is one page of a server's tools: one definition each. A tool that is
// blocked, and one that is not what it was when it was pinned, is left out.
func (s *Session) toolList(ctx context.Context, q *request, v document.Value) (items []*item, err error) {
	list, whole := s.resume(q.cursor)
	seen := map[string]bool{}
	for _, name := range list.names {
		seen[name] = true
	}
	var page pin.Page
	var entries []document.Value
	for c := v.Get("tools").First(); c.Exists(); c = c.Next() {
		reason := ""
		def, err := pin.Define(c)
		switch {
		case err != nil:
			reason = err.Error()
		case strange(c, toolMembers) != "":
			reason = "it has a member " + strange(c, toolMembers) + " in other capitals"
		case seen[def.Name]:
			reason = "the same name stands in the list twice"
		case len(list.names) >= maxTools:
			reason = "the list is too long"
		}
		if reason != "" {
			c.Remove()
			s.leftOut(ctx, q, def.Name, reason)
			continue
		}
		seen[def.Name] = true
		list.names = append(list.names, def.Name)
		page.Tools, entries = append(page.Tools, def), append(entries, c)
	}
	next := v.Get("nextCursor").Text()
	if page.Complete = next == ""; page.Complete && whole {
		page.All = list.names
		if page.All == nil {
			page.All = []string{}
		}
	}
	if !page.Complete && whole {
		s.suspend(next, list)
	}
	verdicts, err := s.o.Keeper.Tools(ctx, s.o.Caller.Agent, s.o.Server, page)
	if err != nil {
		return nil, err
	}
	for i, c := range entries {
		if i >= len(verdicts) || !verdicts[i].Passes() {
			c.Remove()
			continue
		}
		it := s.item(guardbook.KindToolDefinition, q.method, page.Tools[i].Name, q.id)
		it.addContent(c)
		it.block = func(guardbook.Decision) { c.Remove() }
		items = append(items, it)
		s.offer(page.Tools[i].Name, c)
	}
	rest := s.item(guardbook.KindToolDefinition, q.method, "", q.id)
	s.members(rest, v, []string{"tools", "nextCursor", "resultType", "ttlMs", "cacheScope", "requestState"})
	return append(items, rest), nil
}

// leftOut records that a tool is not offered, for a reason that is not policy's.
func (s *Session) leftOut(ctx context.Context, q *request, name, reason string) {
	s.o.Keeper.Refused(ctx, guardbook.RefusalEntry{
		Agent: s.caller(ctx).Agent, Session: s.caller(ctx).Session, Path: s.path(q.method), Status: http.StatusOK, Code: "tool_malformed",
		Message: "A tool of server " + s.o.Server.Name + " is left out of the list: " + strings.ToValidUTF8(clip(reason, 300), "") + " (" + clip(name, 100) + ").",
	})
}

// resume returns the list that a page goes on with. whole is false when the pages
// before it were not seen.
func (s *Session) resume(cursor string) (*listing, bool) {
	if cursor == "" {
		return &listing{}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.listings[cursor]; l != nil {
		delete(s.listings, cursor)
		return &listing{names: append([]string(nil), l.names...)}, true
	}
	return &listing{}, false
}

func (s *Session) suspend(cursor string, l *listing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listings) >= 64 { // more lists at once than any client asks for
		clear(s.listings)
	}
	s.listings[cursor] = l
}

// offer remembers what a tool's output schema demands.
func (s *Session) offer(name string, entry document.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tools) >= maxTools {
		clear(s.tools)
	}
	s.tools[name] = tool{constrained: constrained(entry.Get("outputSchema"), 0)}
}

// constrained reports whether a schema demands of a string anything but to be one.
func constrained(v document.Value, depth int) bool {
	for c := v.First(); c.Exists(); c = c.Next() {
		switch c.Name() {
		case "enum", "const", "pattern", "format", "maxLength", "minLength", "$ref", "allOf", "oneOf", "not", "if":
			return true
		case "description", "title", "default", "examples":
			continue
		}
		if depth < 64 && constrained(c, depth+1) {
			return true
		}
	}
	return false
}
