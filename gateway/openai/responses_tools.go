package openai

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// offered is a list of tools of the Responses API. server is the MCP server that the
// list is of, if it is one's.
func (r *reading) offered(list document.Value, server string) {
	if list.Kind() != '[' {
		r.rest.AddStrings(list)
		return
	}
	for t := list.First(); t.Exists(); t = t.Next() {
		if t.Kind() != '{' {
			r.rest.AddStrings(t)
			continue
		}
		r.offer(t, server)
	}
}

func (r *reading) offer(t document.Value, server string) {
	kind, name := t.Get("type").Text(), t.Get("name").Text()
	key := name
	if key == "" {
		key = kind
	}
	inner := t.Get("tools")
	switch {
	case server != "":
	case kind == "mcp":
		server, name = t.Get("server_label").Text(), "mcp"
		key = "mcp:" + server
		r.hosted("mcp", key, remote(t), t)
	case kind == "namespace":
		if inner.Kind() == '[' {
			r.namespaces = append(r.namespaces, t)
			r.offered(inner, "")
		}
	case runsAtProvider(kind, t):
		r.hosted(family(kind), key, "{}", t)
	}
	it := gateway.NewItem(guardbook.KindToolDefinition, "")
	if name == "" {
		name = family(kind)
	}
	it.In.Tool = &guardbook.Tool{Server: server, Name: name}
	for m := t.First(); m.Exists(); m = m.Next() {
		switch {
		case m.Name() == "tools" && kind == "namespace" && inner.Kind() == '[':
		case kind == "mcp" && m.Name() == "authorization" && m.IsString():
		case kind == "mcp" && m.Name() == "headers" && m.Kind() == '{': // for the server, as its token
			for h := m.First(); h.Exists(); h = h.Next() {
				if !h.IsString() {
					it.AddIdentifiers(h)
				} else if name := h.Name(); !document.Plain(name) {
					it.Add(h.NamePlace(), name)
				}
			}
		default:
			it.AddIdentifiers(m)
		}
	}
	it.Block = func(guardbook.Decision) { r.drop(key, t) }
	r.Items = append(r.Items, it)
}

// runsAtProvider reports whether a tool runs where its calls are not seen before they
// run.
func runsAtProvider(kind string, t document.Value) bool {
	switch family(kind) {
	case "", "function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use":
		return false
	case "shell":
		env := t.Get("environment")
		return !env.IsNull() && env.Get("type").Text() != "local"
	case "tool_search":
		return t.Get("execution").Text() != "client"
	}
	return true
}

// family is a type of tool without the date of its version and without "preview":
// web_search_preview_2025_03_11 is web_search.
func family(kind string) string {
	const date = "_2006_01_02"
	if at := len(kind) - len(date); at > 0 && shaped(kind[at:], date) {
		kind = kind[:at]
	}
	return strings.TrimSuffix(kind, "_preview")
}

// shaped reports whether s has digits where shape has them, and is the same elsewhere.
func shaped(s, shape string) bool {
	for i := range len(s) {
		digit := '0' <= s[i] && s[i] <= '9'
		if wanted := '0' <= shape[i] && shape[i] <= '9'; digit != wanted || !digit && s[i] != shape[i] {
			return false
		}
	}
	return true
}

// remote are the arguments under which policy decides on an MCP server that the
// provider talks to: where it is, and whether its tools wait for an approval.
func remote(t document.Value) string {
	args := pick(t, "server_label", "server_url", "connector_id", "tunnel_id", "require_approval", "allowed_tools")
	if t.Get("require_approval").IsNull() { // the provider's own default
		args = strings.TrimSuffix(args, "}")
		if len(args) > 1 {
			args += ","
		}
		args += `"require_approval":"always"}`
	}
	return args
}

// pick is an object of some of v's members that are not null.
func pick(v document.Value, names ...string) string {
	out := ""
	for _, name := range names {
		if m := v.Get(name); !m.IsNull() {
			if out != "" {
				out += ","
			}
			out += document.Quote(name) + ":" + m.Raw()
		}
	}
	return "{" + out + "}"
}

// put puts the members of an object that was picked back into v.
func put(v document.Value, raw jsontext.Value, names ...string) {
	var members map[string]jsontext.Value
	if json.Unmarshal(raw, &members) != nil {
		return // a decision's arguments are an object
	}
	for _, name := range names {
		if m, ok := members[name]; ok {
			v.Get(name).SetRaw(string(m))
		}
	}
}

// settleOffered takes out what has lost its meaning with the tools that were dropped.
func (r *reading) settleOffered() {
	if r.dropped == nil {
		return
	}
	for _, n := range r.namespaces {
		if n.Get("tools").Left() == 0 {
			n.Remove()
		}
	}
	list, choice := r.root.Get("tools"), r.root.Get("tool_choice")
	if list.Exists() && list.Left() == 0 {
		list.Remove()
		choice.Remove()
		r.root.Get("parallel_tool_calls").Remove()
		return
	}
	if r.chosen(choice) {
		choice.Remove()
	}
	if allowed := choice.Get("tools"); allowed.Kind() == '[' {
		for t := allowed.First(); t.Exists(); t = t.Next() {
			if r.chosen(t) {
				t.Remove()
			}
		}
		if allowed.Left() == 0 {
			choice.Remove()
		}
	}
}

// chosen reports whether a choice is of a tool that was dropped.
func (r *reading) chosen(choice document.Value) bool {
	kind := choice.Get("type").Text()
	switch kind {
	case "function", "custom":
		return r.dropped[choice.Get("name").Text()]
	case "mcp":
		return r.dropped["mcp:"+choice.Get("server_label").Text()]
	}
	return r.dropped[kind]
}
