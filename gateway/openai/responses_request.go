package openai

import (
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// responses is POST /v1/responses.
type responses struct{ api }

// Path is the entry path.
func (e responses) Path() string { return e.path("responses") }

// Request finds every text of a request.
func (e responses) Request(doc *document.Document) (*gateway.Request, error) {
	r, err := read(doc)
	if err != nil {
		return nil, err
	}
	r.Model = e.deployment
	results := "" // of calls that the client never saw
	for v := r.root.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "input":
			r.input(v)
		case "instructions":
			r.said(v, "system")
		case "tools":
			r.offered(v, "")
		case "prompt":
			r.prompt(v)
		case "model":
			r.Model = v.Text()
			r.rest.AddIdentifiers(v)
		case "stream":
			r.Stream = v.True()
			r.rest.AddStrings(v)
		case "background":
			if v.Kind() != 'f' && !v.IsNull() {
				r.Needs = append(r.Needs, gateway.Need{Method: "POST", Path: "/v1/responses:background",
					Why: "An answer that is made in the background is fetched later, past the guard. Ask for it without background, streamed if it takes long."})
			}
			r.rest.AddStrings(v)
		case "conversation":
			if id := v.Text() + v.Get("id").Text(); id != "" && r.FirstUser == "" {
				r.FirstUser = id // the turns of one conversation have this in common
			}
			r.rest.AddIdentifiers(v)
		case "previous_response_id":
			r.rest.AddIdentifiers(v)
			results = e.owed.get(v.Text())
		case "tool_choice", "text", "reasoning", "include", "truncation", "service_tier", "context_management",
			"stream_options", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options":
			r.rest.AddIdentifiers(v)
		default:
			r.rest.AddStrings(v)
		}
	}
	r.add(r.rest)
	r.Settled = func() {
		r.settleOffered()
		if results != "" {
			pay(r.root, results)
		}
	}
	return r.Request, nil
}

// input is what the model is asked: a text, or a list of items.
func (r *reading) input(v document.Value) {
	if v.Kind() != '[' {
		r.said(v, "user")
		return
	}
	for it := v.First(); it.Exists(); it = it.Next() {
		if it.Kind() != '{' {
			r.rest.AddStrings(it)
			continue
		}
		r.inputItem(it)
	}
}

// said is a text, or whatever stands in its place, of somebody in the conversation.
func (r *reading) said(v document.Value, role string) {
	it := gateway.NewItem(guardbook.KindInput, role)
	members(it, v)
	r.remember(role, it)
	r.add(it)
}

// prompt is a template that is kept at the provider, with instructions and tools that
// are not seen here. Policy decides on it as on a call of the tool "prompt" with its
// id and version. Nothing is left of the request without it, so a block ends it.
func (r *reading) prompt(v document.Value) {
	if v.IsNull() {
		return
	}
	call := gateway.NewItem(guardbook.KindToolCall, "")
	call.In.Tool = &guardbook.Tool{Server: "openai", Name: "prompt"}
	call.SetArguments(pick(v, "id", "version"))
	call.Redact = func(d guardbook.Decision) { put(v, d.Arguments, "id", "version") }
	r.Items = append(r.Items, call)
	it := gateway.NewItem(guardbook.KindInput, "user")
	for m := v.First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case "id", "version":
			it.AddIdentifiers(m)
		default:
			members(it, m)
		}
	}
	if v.Kind() != '{' {
		it.AddStrings(v)
	}
	r.add(it)
}

// itemForm is what is known of a type of item.
type itemForm struct {
	tool   string // the tool that the type stands for
	result string // the member that holds what a tool gave back
	// instead makes what takes a blocked result's place; nil: nothing can, and the
	// exchange stops.
	instead func(text string) string
}

var itemForms = map[string]itemForm{
	"function_call_output":    {result: "output", instead: document.Quote},
	"custom_tool_call_output": {result: "output", instead: document.Quote},
	"local_shell_call":        {tool: "local_shell"},
	"local_shell_call_output": {tool: "local_shell", result: "output", instead: document.Quote},
	"shell_call":              {tool: "shell"},
	"shell_call_output": {tool: "shell", result: "output", instead: func(text string) string {
		return `[{"stdout":"","stderr":` + document.Quote(text) + `,"outcome":{"type":"exit","exit_code":1}}]`
	}},
	"apply_patch_call":        {tool: "apply_patch"},
	"apply_patch_call_output": {tool: "apply_patch", result: "output", instead: document.Quote},
	"computer_call":           {tool: "computer"},
	"computer_call_output":    {tool: "computer", result: "output"}, // only a picture can stand here
	"mcp_call":                {result: "output", instead: document.Quote},
	"mcp_approval_request":    {},
	"web_search_call":         {tool: "web_search"},
	"file_search_call":        {tool: "file_search", result: "results", instead: null},
	"code_interpreter_call":   {tool: "code_interpreter", result: "outputs", instead: null},
	"image_generation_call":   {tool: "image_generation"},
	"tool_search_call":        {tool: "tool_search"},
	"program":                 {tool: "program"},
	"program_output":          {tool: "program", result: "result", instead: document.Quote},
}

func null(string) string { return "null" }

// inputItem is one item of the conversation.
func (r *reading) inputItem(v document.Value) {
	kind := v.Get("type").Text()
	form := itemForms[kind]
	switch {
	case kind == "message" || kind == "" && v.Get("role").Exists():
		r.messageItem(v)
	case kind == "reasoning":
		// It must come back as it was, so it is decided on and never changed.
		it := readItem(guardbook.KindInput, "assistant", v)
		it.Redact = func(guardbook.Decision) {}
		r.add(it)
	case v.Get("tools").Kind() == '[':
		r.toolsItem(v)
	case strings.HasSuffix(kind, "_output"):
		r.resultItem(v, form)
	default:
		r.madeItem(v, kind, form)
	}
}

func (r *reading) messageItem(v document.Value) {
	role := v.Get("role").Text()
	known := role
	switch role {
	case "system", "developer":
		known = "system"
	case "user", "assistant":
	default:
		known = ""
	}
	it := readItem(guardbook.KindInput, known, v)
	r.remember(role, it)
	r.add(it)
}

// madeItem is something that the model made in an earlier turn, or that is not
// known. What a tool at the provider gave back is a result of its own.
func (r *reading) madeItem(v document.Value, kind string, form itemForm) {
	role := ""
	if strings.HasSuffix(kind, "_call") || kind == "program" || kind == "mcp_approval_request" {
		role = "assistant"
	}
	name := v.Get("name").Text()
	if name == "" {
		name = form.tool
	}
	r.called(v.Get("call_id").Text(), name)
	r.called(v.Get("id").Text(), name)
	it := gateway.NewItem(guardbook.KindInput, role)
	result := toolResult(name, v)
	for m := v.First(); m.Exists(); m = m.Next() {
		switch {
		case form.result != "" && (m.Name() == form.result || m.Name() == "error"):
			members(result, m)
		case kind == "image_generation_call" && m.Name() == "result" && m.IsString():
			it.AddUnread("image")
		default:
			value(it, m)
		}
	}
	result.Block = replaceResult(v, form)
	r.add(it)
	if len(result.In.Content) > 0 {
		r.Items = append(r.Items, result)
	}
}

// resultItem is what a tool at the client gave back.
func (r *reading) resultItem(v document.Value, form itemForm) {
	name := ""
	for _, n := range []string{r.callNames[v.Get("call_id").Text()], r.callNames[v.Get("id").Text()], v.Get("name").Text(), form.tool} {
		if n != "" && name == "" {
			name = n
		}
	}
	it := toolResult(name, v)
	for m := v.First(); m.Exists(); m = m.Next() {
		value(it, m)
	}
	it.Block = replaceResult(v, form)
	r.Items = append(r.Items, it)
}

// toolResult is a tool's result as an interaction, without its texts.
func toolResult(name string, v document.Value) *gateway.Item {
	it := gateway.NewItem(guardbook.KindToolResult, "")
	id := v.Get("call_id").Text()
	if id == "" {
		id = v.Get("id").Text()
	}
	it.In.Tool = &guardbook.Tool{Server: v.Get("server_label").Text(), Name: name, CallID: id}
	return it
}

// replaceResult puts a text in the place of a result that is blocked.
func replaceResult(v document.Value, form itemForm) func(guardbook.Decision) {
	if form.instead == nil {
		return nil
	}
	return func(d guardbook.Decision) {
		if e := v.Get("error"); !e.IsNull() {
			e.SetRaw("null")
		}
		raw := form.instead(gateway.BlockText(d))
		if m := v.Get(form.result); m.Exists() {
			m.SetRaw(raw)
			return
		}
		v.Add(form.result, raw)
	}
}

// toolsItem is an item that brings tools along: more of them in the middle of a
// conversation, what a search for tools found, the list of an MCP server.
func (r *reading) toolsItem(v document.Value) {
	if v.Get("type").Text() == "additional_tools" {
		r.namespaces = append(r.namespaces, v)
	}
	it := gateway.NewItem(guardbook.KindInput, "")
	for m := v.First(); m.Exists(); m = m.Next() {
		if m.Name() == "tools" {
			r.offered(m, v.Get("server_label").Text())
			continue
		}
		value(it, m)
	}
	r.add(it)
}
