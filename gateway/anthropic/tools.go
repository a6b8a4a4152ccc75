package anthropic

import (
	"encoding/json/jsontext"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// clientTools are the families of the provider's own tools that run at the client:
// their calls come back in the answer and are decided on there, like any other.
var clientTools = []string{"bash", "text_editor", "computer", "memory", "computer_toolset", "browser_toolset"}

// tools is the list of tools that are offered to the model.
func (r *reading) tools(list document.Value) {
	if list.Kind() != '[' {
		r.rest.AddStrings(list)
		return
	}
	for t := list.First(); t.Exists(); t = t.Next() {
		name := t.Get("name").Text()
		r.tool(t, func(guardbook.Decision) { r.drop(name, t) })
	}
}

// tool is one tool that is offered. take takes it away.
func (r *reading) tool(t document.Value, take func(guardbook.Decision)) {
	if kind := t.Get("type").Text(); runsAtProvider(kind) {
		r.hosted(family(kind), jsontext.Value("{}"), take)
	}
	it := gateway.NewItem(guardbook.KindToolDefinition, "")
	it.In.Tool = &guardbook.Tool{Name: t.Get("name").Text()}
	t.Strings(func(at document.Place, text string) {
		if !document.Plain(text) {
			it.Add(at, text)
		}
	})
	it.Block = take
	r.Items = append(r.Items, it)
}

// addition is a tool that is offered in the middle of a conversation: a block
// tool_addition. The block's text takes its place when it is not allowed.
func (r *reading) addition(it *gateway.Item, b document.Value) {
	take := func(d guardbook.Decision) {
		b.SetRaw(`{"type":"text","text":` + document.Quote(gateway.BlockText(d)) + `}`)
	}
	for v := b.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "type", "cache_control":
			it.AddIdentifiers(v)
		case "tool":
			r.change(it, v, take)
		default:
			it.AddStrings(v)
		}
	}
}

// change is what a block adds: a definition is a tool like those of the request's
// list; a reference names one that was read where it stands.
func (r *reading) change(it *gateway.Item, v document.Value, take func(guardbook.Decision)) {
	if v.Kind() != '{' {
		it.AddStrings(v)
		return
	}
	for m := v.First(); m.Exists(); m = m.Next() {
		switch {
		case m.Name() == "definition" && m.Kind() == '{':
			r.tool(m, take)
		case m.Name() == "type" || m.Name() == "name":
			it.AddIdentifiers(m)
		default:
			it.AddStrings(m)
		}
	}
}

// listing is what the provider was told by an MCP server that it talks to: each
// tool's definition is judged like one of the request's own. It cannot be left out
// of the conversation, so a definition that is blocked blocks the request.
func (r *reading) listing(it *gateway.Item, b document.Value) {
	for v := b.First(); v.Exists(); v = v.Next() {
		if v.Name() != "tools" || v.Kind() != '[' {
			it.AddIdentifiers(v)
			continue
		}
		for t := v.First(); t.Exists(); t = t.Next() {
			r.tool(t, nil)
		}
	}
}

// container is where code runs at the provider. The skills that are put into it are
// asked for like a tool that runs there: the tool "skills", with the skill's id.
func (r *reading) container(c document.Value) {
	if c.Kind() != '{' {
		r.rest.AddIdentifiers(c)
		return
	}
	for v := c.First(); v.Exists(); v = v.Next() {
		if v.Name() != "skills" || v.Kind() != '[' {
			r.rest.AddIdentifiers(v)
			continue
		}
		for s := v.First(); s.Exists(); s = s.Next() {
			r.rest.AddIdentifiers(s)
			r.hosted("skills", jsontext.Value(`{"type":`+document.Quote(s.Get("type").Text())+`,"skill_id":`+document.Quote(s.Get("skill_id").Text())+
				`,"version":`+document.Quote(s.Get("version").Text())+`}`), func(guardbook.Decision) { s.Remove() })
		}
	}
}

// runsAtProvider reports whether a type of tool runs where its calls are not seen
// before they run. A toolset stands and falls with its MCP server.
func runsAtProvider(kind string) bool {
	if kind == "" || kind == "custom" || kind == "mcp_toolset" {
		return false
	}
	for _, c := range clientTools {
		if family(kind) == c {
			return false
		}
	}
	return true
}

// family is a type of tool without the date of its version: web_search_20250305.
func family(kind string) string {
	name, date, ok := cutLast(kind, "_")
	if !ok || len(date) != 8 || strings.Trim(date, "0123456789") != "" {
		return kind
	}
	return name
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// hosted asks whether the agent may use a tool that runs at the provider: its calls
// are seen when they have run, so permission is asked for when it is offered. The
// call's arguments say what is known of it by then.
func (r *reading) hosted(tool string, arguments jsontext.Value, take func(guardbook.Decision)) {
	it := gateway.NewItem(guardbook.KindToolCall, "")
	it.In.Tool = &guardbook.Tool{Server: "anthropic", Name: tool, Arguments: arguments}
	it.Block = take
	it.Redact = func(guardbook.Decision) {}
	r.Items = append(r.Items, it)
}

// servers are MCP servers that the provider talks to on the agent's behalf. Each is
// a call of the tool "mcp_servers" with the server's name and URL, for policy to
// allow or not. A server's authorization token is for the server; it is not read.
func (r *reading) servers(list document.Value) {
	if list.Kind() != '[' {
		r.rest.AddStrings(list)
		return
	}
	for s := list.First(); s.Exists(); s = s.Next() {
		name := s.Get("name").Text()
		it := gateway.NewItem(guardbook.KindToolCall, "")
		it.In.Tool = &guardbook.Tool{Server: "anthropic", Name: "mcp_servers",
			Arguments: jsontext.Value(`{"name":` + document.Quote(name) + `,"url":` + document.Quote(s.Get("url").Text()) + `}`)}
		it.Block = func(guardbook.Decision) {
			if r.droppedServers == nil {
				r.droppedServers = map[string]bool{}
			}
			r.droppedServers[name] = true
			s.Remove()
		}
		it.Redact = it.Block // an address that must be redacted is none to connect to
		r.Items = append(r.Items, it)
		for v := s.First(); v.Exists(); v = v.Next() {
			switch name := v.Name(); {
			case v.IsString() && (name == "name" || name == "url" || name == "authorization_token"):
			case name == "type" || name == "tool_configuration":
				r.rest.AddIdentifiers(v)
			default:
				r.rest.AddStrings(v)
			}
		}
		if s.Kind() != '{' {
			r.rest.AddStrings(s)
		}
	}
}

func (r *reading) drop(name string, v document.Value) {
	if r.dropped == nil {
		r.dropped = map[string]bool{}
	}
	r.dropped[name] = true
	v.Remove()
}

// settle takes out what has lost its meaning with what was dropped: a toolset of a
// server that is not there, an empty list, a choice of a tool that is not there.
func (r *reading) settle() {
	if r.dropped == nil && r.droppedServers == nil {
		return
	}
	if list := r.root.Get("mcp_servers"); list.Exists() && list.Left() == 0 {
		list.Remove()
	}
	list, choice := r.root.Get("tools"), r.root.Get("tool_choice")
	for t := list.First(); t.Exists(); t = t.Next() {
		if t.Get("type").Text() == "mcp_toolset" && r.droppedServers[t.Get("mcp_server_name").Text()] {
			t.Remove()
		}
	}
	if list.Exists() && list.Left() == 0 {
		list.Remove()
		choice.Remove()
	}
	if choice.Get("type").Text() == "tool" && r.dropped[choice.Get("name").Text()] {
		choice.Remove()
	}
}
