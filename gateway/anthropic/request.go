package anthropic

import (
	"errors"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// messages is POST /v1/messages.
type messages struct{}

// Path is the entry path.
func (messages) Path() string { return "anthropic/messages" }

// reading walks one request.
type reading struct {
	*gateway.Request
	root document.Value
	rest *gateway.Item // what belongs to no message and no tool
	// callNames gives the tool's name for the id of a call that the conversation holds.
	callNames      map[string]string
	dropped        map[string]bool // names of tools that were taken out
	droppedServers map[string]bool // names of MCP servers that were taken out
}

// Request finds every text of a request to be counted.
func (countTokens) Request(doc *document.Document) (*gateway.Request, error) {
	r, err := messages{}.Request(doc)
	if err == nil {
		r.Unanswerable, r.Calls = true, map[string]int64{}
	}
	return r, err
}

// Request finds every text of a request. Nothing goes up unread: what is not known
// here is read as input.
func (messages) Request(doc *document.Document) (*gateway.Request, error) {
	root := doc.Root()
	if root.Kind() != '{' {
		return nil, errors.New("the request's body must be a JSON object")
	}
	return readRequest(root), nil
}

// readRequest reads a Messages request, which may stand within a batch.
func readRequest(root document.Value) *gateway.Request {
	r := &reading{
		Request: &gateway.Request{Items: make([]*gateway.Item, 0, 8)}, root: root,
		rest: gateway.NewItem(guardbook.KindInput, ""),
	}
	for v := root.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "system":
			it := gateway.NewItem(guardbook.KindInput, "system")
			r.blocks(it, v)
			r.System = textOf(it)
			r.add(it)
		case "messages":
			r.messages(v)
		case "tools":
			r.tools(v)
		case "mcp_servers":
			r.servers(v)
		case "model":
			r.Model = v.Text()
			r.rest.AddIdentifiers(v)
		case "stream":
			r.Stream = v.True()
			r.rest.AddStrings(v)
		case "container":
			r.container(v)
		case "tool_choice", "thinking", "service_tier":
			r.rest.AddIdentifiers(v)
		default:
			r.rest.AddStrings(v)
		}
	}
	r.add(r.rest)
	r.Settled = r.settle
	return r.Request
}

func (r *reading) add(it *gateway.Item) {
	if !it.Empty() {
		r.Items = append(r.Items, it)
	}
}

func textOf(it *gateway.Item) string {
	if len(it.In.Content) == 1 {
		return it.In.Content[0].Text
	}
	var b strings.Builder
	for _, p := range it.In.Content {
		if b.Len() > 0 && p.Text != "" {
			b.WriteByte('\n')
		}
		b.WriteString(p.Text)
	}
	return b.String()
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
		role := m.Get("role").Text()
		known := role
		switch role {
		case "user", "assistant", "system":
		default:
			known = ""
		}
		it := gateway.NewItem(guardbook.KindInput, known)
		at := len(r.Items)
		for v := m.First(); v.Exists(); v = v.Next() {
			switch v.Name() {
			case "role":
				it.AddIdentifiers(v)
			case "content":
				r.blocks(it, v)
			default:
				it.AddStrings(v)
			}
		}
		if it.Empty() {
			continue
		}
		// The message's own text comes before the tool results that it carries.
		r.Items = append(r.Items, nil)
		copy(r.Items[at+1:], r.Items[at:])
		r.Items[at] = it
		if text := textOf(it); role == "user" && text != "" {
			if r.FirstUser == "" {
				r.FirstUser = text
			}
			r.LastUser = text
		}
	}
}

// blocks is a string or a list of content blocks. Texts go to it; results of tools
// and thinking become items of their own.
func (r *reading) blocks(it *gateway.Item, v document.Value) {
	if v.Kind() != '[' {
		it.AddStrings(v)
		return
	}
	for b := v.First(); b.Exists(); b = b.Next() {
		switch kind := b.Get("type").Text(); {
		case b.Kind() != '{':
			it.AddStrings(b)
		case kind == "thinking" || kind == "redacted_thinking":
			r.thinking(b)
		case kind == "tool_result":
			r.toolResult(b, func(text string) string { return document.Quote(text) })
		case kind == "mcp_tool_result":
			r.toolResult(b, func(text string) string { return `[{"type":"text","text":` + document.Quote(text) + `}]` })
		case strings.HasSuffix(kind, "_tool_result"):
			// The provider takes only its own shapes here: its shape of an error.
			r.toolResult(b, func(string) string {
				return `{"type":` + document.Quote(kind+"_error") + `,"error_code":"unavailable"}`
			})
		case kind == "tool_use" || kind == "server_tool_use" || kind == "mcp_tool_use":
			r.pastCall(it, b)
		case kind == "tool_addition":
			r.addition(it, b)
		case kind == "mcp_tool_listing":
			r.listing(it, b)
		default:
			r.block(it, b)
		}
	}
}

// block is a block that holds texts or media: text, image, document, search_result,
// container_upload, compaction, tool_reference, and whatever is not known.
func (r *reading) block(it *gateway.Item, b document.Value) {
	kind := b.Get("type").Text()
	for v := b.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "type", "cache_control", "caller":
			it.AddIdentifiers(v)
		case "signature", "encrypted_content":
			if kind != "compaction" || !v.IsString() { // there they are the provider's own
				it.AddStrings(v)
			}
		case "tool_changes":
			r.toolChanges(it, v)
		case "file_id":
			it.AddIdentifiers(v)
			it.AddUnread(kind) // what is in the file is not read
		case "source":
			r.source(it, v, kind)
		case "content":
			r.blocks(it, v)
		default:
			it.AddStrings(v)
		}
	}
}

// toolChanges are what a compaction keeps of the tools that were added before it.
// They cannot be left out, so a definition that is blocked blocks the request.
func (r *reading) toolChanges(it *gateway.Item, list document.Value) {
	if list.Kind() != '[' {
		it.AddStrings(list)
		return
	}
	for c := list.First(); c.Exists(); c = c.Next() {
		if c.Kind() != '{' {
			it.AddStrings(c)
			continue
		}
		for v := c.First(); v.Exists(); v = v.Next() {
			if v.Name() == "tool" {
				r.change(it, v, nil)
			} else {
				it.AddIdentifiers(v)
			}
		}
	}
}

// source is where an image or a document comes from.
func (r *reading) source(it *gateway.Item, v document.Value, kind string) {
	if v.Kind() != '{' {
		it.AddStrings(v) // of a search_result: an address
		return
	}
	form := v.Get("type").Text()
	for m := v.First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case "type", "media_type":
			it.AddIdentifiers(m)
		case "file_id":
			it.AddIdentifiers(m)
			it.AddUnread(kind) // what is in the file is not read
		case "data":
			if form == "base64" && m.IsString() && !strings.HasPrefix(v.Get("media_type").Text(), "text/") {
				it.AddUnread(kind)
				continue
			}
			it.AddStrings(m)
		case "url":
			it.AddURL(m, kind)
		case "content":
			r.blocks(it, m)
		default:
			it.AddStrings(m)
		}
	}
}

// thinking is decided on, but never changed: its signature would not fit any more.
// The signature and encrypted thinking are the provider's own and mean nothing to
// anybody else.
func (r *reading) thinking(b document.Value) {
	it := gateway.NewItem(guardbook.KindInput, "assistant")
	it.Redact = func(guardbook.Decision) {}
	for v := b.First(); v.Exists(); v = v.Next() {
		switch name := v.Name(); {
		case v.IsString() && (name == "signature" || name == "data"):
		case name == "type" || name == "cache_control":
			it.AddIdentifiers(v)
		default:
			it.AddStrings(v)
		}
	}
	r.add(it)
}

// toolResult is what a tool gave back. It stands in a user's message, but no user
// wrote it. replace makes the content that takes its place.
func (r *reading) toolResult(b document.Value, replace func(text string) string) {
	id := b.Get("tool_use_id").Text()
	it := gateway.NewItem(guardbook.KindToolResult, "")
	it.In.Tool = &guardbook.Tool{Name: r.callNames[id], CallID: id}
	it.Block = func(d guardbook.Decision) {
		raw := replace(gateway.BlockText(d))
		if c := b.Get("content"); c.Exists() {
			c.SetRaw(raw)
			return
		}
		b.Add("content", raw)
	}
	r.Items = append(r.Items, it)
	for v := b.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "type", "tool_use_id", "cache_control", "caller", "toolset_name":
			it.AddIdentifiers(v)
		case "content":
			if b.Get("type").Text() == "tool_result" || b.Get("type").Text() == "mcp_tool_result" {
				r.blocks(it, v)
				continue
			}
			readable(it, v)
		default:
			it.AddStrings(v)
		}
	}
}

// readable adds strings that are more than identifiers, without what only the
// provider can read.
func readable(it *gateway.Item, v document.Value) {
	if v.IsString() {
		if n := v.Name(); n != "encrypted_content" && n != "encrypted_index" && n != "encrypted_stdout" {
			it.AddIdentifiers(v)
		}
		return
	}
	for c := v.First(); c.Exists(); c = c.Next() {
		readable(it, c)
	}
}

// pastCall is a call of an earlier turn: it was decided when it was made, and is
// text of the conversation now.
func (r *reading) pastCall(it *gateway.Item, b document.Value) {
	if id, name := b.Get("id").Text(), b.Get("name").Text(); id != "" && name != "" {
		if r.callNames == nil {
			r.callNames = map[string]string{}
		}
		r.callNames[id] = name
	}
	for v := b.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "type", "id", "name", "server_name", "toolset_name", "cache_control", "caller":
			it.AddIdentifiers(v)
		default:
			it.AddStrings(v)
		}
	}
}
