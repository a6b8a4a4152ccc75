package openai

import (
	"encoding/json/jsontext"
	"errors"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// chat is POST /v1/chat/completions.
type chat struct{ api }

// Path is the entry path.
func (e chat) Path() string { return e.path("chat") }

// asked is what an answer must know of its request.
type asked struct {
	model   string
	choices int  // n, at least 1
	usage   bool // stream_options.include_usage
}

// reading walks one request.
type reading struct {
	*gateway.Request
	root document.Value
	rest *gateway.Item // what belongs to no message and no tool
	// callNames gives the tool's name for the id of a call that the conversation holds.
	callNames  map[string]string
	dropped    map[string]bool  // names of tools that were taken out
	namespaces []document.Value // what holds tools, and goes when none is left
}

// Request finds every text of a request. Nothing goes up unread: what is not known
// here is read as input.
func (e chat) Request(doc *document.Document) (*gateway.Request, error) {
	r, err := read(doc)
	if err != nil {
		return nil, err
	}
	root := r.root
	a := &asked{model: e.deployment, choices: 1}
	for v := root.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "messages":
			r.messages(v)
		case "tools", "functions":
			r.tools(v)
		case "web_search_options":
			r.hosted("web_search", "web_search", "{}", v)
			r.rest.AddStrings(v)
		case "model":
			a.model = v.Text()
			r.rest.AddIdentifiers(v)
		case "stream":
			r.Stream = v.True()
			r.rest.AddStrings(v)
		case "n":
			a.choices = min(max(1, v.Int(1)), 128)
			r.rest.AddStrings(v)
		case "stream_options":
			a.usage = v.Get("include_usage").True()
			r.rest.AddStrings(v)
		case "tool_choice", "function_call", "reasoning_effort", "verbosity", "service_tier", "modalities", "prompt_cache_retention":
			r.rest.AddIdentifiers(v)
		default:
			r.rest.AddStrings(v)
		}
	}
	r.add(r.rest)
	r.Model, r.Protocol, r.Settled = a.model, a, r.settle
	return r.Request, nil
}

// read begins to walk a request.
func read(doc *document.Document) (*reading, error) {
	if doc.Root().Kind() != '{' {
		return nil, errors.New("the request's body must be a JSON object")
	}
	return &reading{
		Request: &gateway.Request{Items: make([]*gateway.Item, 0, 8)}, root: doc.Root(),
		rest: gateway.NewItem(guardbook.KindInput, ""),
	}, nil
}

// add adds an item, if there is anything in it.
func (r *reading) add(it *gateway.Item) {
	if !it.Empty() {
		r.Items = append(r.Items, it)
	}
}

func (r *reading) messages(list document.Value) {
	if list.Kind() != '[' {
		r.rest.AddStrings(list)
		return
	}
	for m := list.First(); m.Exists(); m = m.Next() {
		if m.Kind() != '{' {
			r.rest.AddStrings(m)
			continue
		}
		r.message(m)
	}
}

func (r *reading) message(m document.Value) {
	var it *gateway.Item
	role := m.Get("role").Text()
	switch role {
	case "system", "developer":
		it = gateway.NewItem(guardbook.KindInput, "system")
	case "user", "assistant":
		it = gateway.NewItem(guardbook.KindInput, role)
	case "tool":
		id := m.Get("tool_call_id").Text()
		it = r.toolResult(m, r.callNames[id], id)
	case "function":
		it = r.toolResult(m, m.Get("name").Text(), "")
	default:
		it = gateway.NewItem(guardbook.KindInput, "")
	}
	for v := m.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "role", "tool_call_id":
			it.AddIdentifiers(v)
		case "content":
			members(it, v)
		case "tool_calls":
			for c := v.First(); c.Exists(); c = c.Next() {
				r.pastCall(it, c)
			}
			if v.Kind() != '[' {
				it.AddStrings(v)
			}
		case "function_call":
			callMember(it, v)
		default:
			it.AddStrings(v)
		}
	}
	r.remember(role, it)
	r.add(it)
}

// remember keeps the texts by which a conversation is known.
func (r *reading) remember(role string, it *gateway.Item) {
	if role != "user" && it.In.Role != "system" {
		return
	}
	text := textOf(it)
	switch {
	case role == "user":
		if r.FirstUser == "" {
			r.FirstUser = text
		}
		r.LastUser = text
	case r.System == "":
		r.System = text
	default:
		r.System += "\n" + text
	}
}

func (r *reading) toolResult(m document.Value, name, id string) *gateway.Item {
	it := gateway.NewItem(guardbook.KindToolResult, "")
	it.In.Tool = &guardbook.Tool{Name: name, CallID: id}
	it.Block = func(d guardbook.Decision) {
		content := m.Get("content")
		if !content.Exists() {
			m.Add("content", document.Quote(gateway.BlockText(d)))
			return
		}
		content.SetText(gateway.BlockText(d))
	}
	return it
}

// media is a part that holds data, by value or by address, in one of its members.
func media(it *gateway.Item, v document.Value, data, partType string) {
	if v.Kind() != '{' {
		it.AddURL(v, partType)
		return
	}
	for m := v.First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case data:
			if data == "data" && m.IsString() {
				it.AddUnread(partType)
				continue
			}
			it.AddURL(m, partType)
		case "detail", "format", "file_id":
			it.AddIdentifiers(m)
		default:
			it.AddStrings(m)
		}
	}
}

// pastCall is a call of an earlier turn: it was decided when it was made, and is
// text of the conversation now.
func (r *reading) pastCall(it *gateway.Item, c document.Value) {
	if c.Kind() != '{' {
		it.AddStrings(c)
		return
	}
	id, name := "", ""
	for v := c.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "id":
			id = v.Text()
			it.AddIdentifiers(v)
		case "type":
			it.AddIdentifiers(v)
		case "function", "custom":
			if n := callMember(it, v); n != "" {
				name = n
			}
		default:
			it.AddStrings(v)
		}
	}
	r.called(id, name)
}

// called remembers which tool a call is of.
func (r *reading) called(id, name string) {
	if id == "" || name == "" {
		return
	}
	if r.callNames == nil {
		r.callNames = map[string]string{}
	}
	r.callNames[id] = name
}

// callMember adds the strings of {"name", "arguments"} or {"name", "input"}.
func callMember(it *gateway.Item, v document.Value) (name string) {
	for m := v.First(); m.Exists(); m = m.Next() {
		switch {
		case m.Name() == "name":
			name = m.Text()
			it.AddIdentifiers(m)
		case m.Name() == "arguments" && m.IsString():
			it.AddNested(m)
		default:
			it.AddStrings(m)
		}
	}
	if v.Kind() != '{' {
		it.AddStrings(v)
	}
	return name
}

// tools is a list of tools, or of functions in the older form.
func (r *reading) tools(list document.Value) {
	if list.Kind() != '[' {
		r.rest.AddStrings(list)
		return
	}
	for t := list.First(); t.Exists(); t = t.Next() {
		kind := t.Get("type").Text()
		if list.Name() == "functions" {
			kind = ""
		}
		name := t.Get("name").Text()
		switch kind {
		case "function", "custom":
			if n := t.Get(kind).Get("name").Text(); n != "" {
				name = n
			}
		case "":
		default:
			r.hosted(kind, kind, "{}", t)
			if name == "" {
				name = kind
			}
		}
		it := gateway.NewItem(guardbook.KindToolDefinition, "")
		it.In.Tool = &guardbook.Tool{Name: name}
		t.Strings(func(at document.Place, text string) {
			if !document.Plain(text) {
				it.Add(at, text)
			}
		})
		it.Block = func(guardbook.Decision) { r.drop(name, t) }
		r.Items = append(r.Items, it)
	}
}

// hosted asks whether the agent may use a tool that runs at the provider: its calls
// are seen when they have run, or never, so permission is asked for when it is
// offered. A tool that is not allowed is taken out; key is the name by which a choice
// may ask for it.
func (r *reading) hosted(tool, key, arguments string, v document.Value) {
	it := gateway.NewItem(guardbook.KindToolCall, "")
	it.In.Tool = &guardbook.Tool{Server: "openai", Name: tool, Arguments: jsontext.Value(arguments)}
	it.Block = func(guardbook.Decision) { r.drop(key, v) }
	it.Redact = it.Block // an address that must be redacted is none to connect to
	r.Items = append(r.Items, it)
}

func (r *reading) drop(name string, v document.Value) {
	if r.dropped == nil {
		r.dropped = map[string]bool{}
	}
	r.dropped[name] = true
	v.Remove()
}

// settle takes out what has lost its meaning with the tools that were dropped: an
// empty list, a choice of a tool that is not there.
func (r *reading) settle() {
	if r.dropped == nil {
		return
	}
	for _, names := range [][3]string{{"tools", "tool_choice", "parallel_tool_calls"}, {"functions", "function_call", ""}} {
		list, choice := r.root.Get(names[0]), r.root.Get(names[1])
		if list.Exists() && list.Left() == 0 {
			list.Remove()
			choice.Remove()
			r.root.Get(names[2]).Remove()
		}
		for _, chosen := range []string{choice.Get("function").Get("name").Text(), choice.Get("custom").Get("name").Text(), choice.Get("name").Text(), choice.Get("type").Text()} {
			if r.dropped[chosen] {
				choice.Remove()
			}
		}
		for t := choice.Get("allowed_tools").Get("tools").First(); t.Exists(); t = t.Next() {
			if r.dropped[t.Get("function").Get("name").Text()] || r.dropped[t.Get("custom").Get("name").Text()] {
				choice.Remove()
			}
		}
	}
}

// joinLines joins texts that are not empty.
func joinLines(texts ...string) string {
	var kept []string
	for _, t := range texts {
		if t != "" {
			kept = append(kept, t)
		}
	}
	return strings.Join(kept, "\n\n")
}
