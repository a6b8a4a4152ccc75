package openai

import (
	"encoding/json/jsontext"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// responseCall is a call among the items of an answer, or another item that waits
// until it is complete.
type responseCall struct {
	v     document.Value
	items []*gateway.Item // the call, or what else the item is
	call  bool            // it runs at the client, or asks it for approval
	// blocked is the decision that takes the item out of the answer; stop one that
	// ends the answer.
	blocked *guardbook.Decision
	// changes are the texts that were redacted, and what they are now.
	changes map[string]string
}

// waits reports whether a type of item must be complete before any of it is released:
// everything except for what is text, and what the provider ran itself.
func waits(kind string) bool {
	switch kind {
	case "message", "reasoning", "compaction", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call", "mcp_list_tools":
		return false
	}
	return true
}

// runsAtClient reports whether an item is a call that has not run yet.
func runsAtClient(v document.Value) bool {
	kind := v.Get("type").Text()
	switch kind {
	case "mcp_approval_request":
		return true
	case "tool_search_call":
		return false // it finds definitions, which are decided on when they come
	case "shell_call":
		return !strings.HasPrefix(v.Get("environment").Get("type").Text(), "container")
	}
	return waits(kind) && strings.HasSuffix(kind, "_call")
}

// readCall reads an item that is neither a message nor reasoning.
func readCall(v document.Value) *responseCall {
	c := &responseCall{v: v, call: runsAtClient(v)}
	if !c.call {
		c.items = foreign(v)
		for _, it := range c.items {
			if it.Redact == nil || waits(v.Get("type").Text()) {
				it.Redact = func(d guardbook.Decision) { c.change(it.In.Content, d.Content) }
			}
		}
		return c
	}
	kind := v.Get("type").Text()
	it := gateway.NewItem(guardbook.KindToolCall, "")
	it.In.Tool = &guardbook.Tool{Server: v.Get("namespace").Text(), Name: v.Get("name").Text(), CallID: v.Get("call_id").Text()}
	it.Client = kind == "function_call" || kind == "custom_tool_call"
	it.Block = func(d guardbook.Decision) { c.blocked = &d }
	it.Redact = func(d guardbook.Decision) { c.changeArguments(it.In.Tool.Arguments, d) }
	switch kind {
	case "function_call":
		args := v.Get("arguments")
		it.SetArguments(textOrRaw(args))
		it.Redact = func(d guardbook.Decision) { c.changes = map[string]string{textOrRaw(args): string(d.Arguments)} }
	case "mcp_approval_request":
		args := v.Get("arguments")
		it.In.Tool.Server, it.In.Tool.CallID = v.Get("server_label").Text(), v.Get("id").Text()
		it.SetArguments(textOrRaw(args))
		it.Redact = func(d guardbook.Decision) { c.changes = map[string]string{textOrRaw(args): string(d.Arguments)} }
	case "custom_tool_call":
		input := v.Get("input")
		if !input.IsString() {
			it.Unreadable = "the input of this call is not a text"
		}
		t := toolCall{custom: true}
		t.text.WriteString(textOrRaw(input))
		it.In.Tool.Arguments = jsontext.Value(`{"input":` + document.Quote(t.text.String()) + `}`)
		it.Redact = func(d guardbook.Decision) { c.changes = map[string]string{textOrRaw(input): t.redacted(d)} }
	case "shell_call", "local_shell_call", "computer_call":
		it.In.Tool.Name = itemForms[kind].tool
		if many := v.Get("actions"); kind == "computer_call" && !many.IsNull() {
			it.SetArguments(pick(v, "action", "actions"))
		} else {
			it.SetArguments(v.Get("action").Raw())
		}
	case "apply_patch_call":
		it.In.Tool.Name = "apply_patch"
		it.SetArguments(v.Get("operation").Raw())
	default: // a call of a kind that is not known: all of it
		it.In.Tool.Name = strings.TrimSuffix(kind, "_call")
		it.In.Tool.Arguments = jsontext.Value(`{"item":` + v.Raw() + `}`)
	}
	c.items = []*gateway.Item{it}
	return c
}

func textOrRaw(v document.Value) string {
	if v.IsString() {
		return v.Text()
	}
	return v.Raw()
}

// beside calls read with what a call's decision does not see.
func (c *responseCall) beside(read func(document.Value)) {
	if !c.call {
		return
	}
	decided, known := callMembers[c.v.Get("type").Text()]
	if !known {
		return // all of it is in the arguments
	}
	for m := c.v.First(); m.Exists(); m = m.Next() {
		switch name := m.Name(); {
		case slices.Contains(decided, name), m.IsString() && slices.Contains(decided, "the "+name):
		default:
			read(m)
		}
	}
}

// callMembers are the members that a call's decision sees, by the type of the item;
// behind "the " those that it sees when they are strings.
var callMembers = map[string][]string{
	"function_call":        {"arguments", "the name", "the namespace"},
	"custom_tool_call":     {"input", "the name", "the namespace"},
	"mcp_approval_request": {"arguments", "the name", "the server_label"},
	"shell_call":           {"action"}, "local_shell_call": {"action"}, "computer_call": {"action", "actions"}, "apply_patch_call": {"operation"},
}

// besides has a text decided on that the item said on its way, and does not hold when
// it is complete.
func (c *responseCall) besides(text string) {
	it := gateway.NewItem(guardbook.KindOutput, "")
	it.Add(document.Place{}, text)
	it.Redact = func(d guardbook.Decision) { c.change(it.In.Content, d.Content) }
	c.items = append(c.items, it)
}

// change notes what a decision made of texts.
func (c *responseCall) change(before, after []guardbook.Part) {
	for i := range min(len(before), len(after)) {
		c.replaced(before[i].Text, after[i].Text)
	}
}

func (c *responseCall) replaced(before, after string) {
	if before == after {
		return
	}
	if c.changes == nil {
		c.changes = map[string]string{}
	}
	c.changes[before] = after
}

// changeArguments notes what a decision made of arguments: they have the same texts
// in the same order.
func (c *responseCall) changeArguments(before jsontext.Value, d guardbook.Decision) {
	old, err := guardbook.StringsIn(before)
	now, err2 := guardbook.StringsIn(d.Arguments)
	if err != nil || err2 != nil || len(old) != len(now) {
		d.Action, d.Message = guardbook.ActionBlock, "it cannot be redacted."
		c.blocked = &d
		return
	}
	for i := range old {
		c.replaced(old[i].Text, now[i].Text)
	}
}

// apply puts the changes into a value: the item, or an event that repeats it.
func (c *responseCall) apply(v document.Value) {
	if len(c.changes) == 0 {
		return
	}
	v.Strings(func(at document.Place, text string) {
		if now, ok := c.changes[text]; ok {
			at.SetText(now)
		}
	})
}

// foreign is an item of an answer that is neither the model's text nor a call for the
// client. What a tool at the provider gave back is a tool's result here, too: the
// model has read it, and the conversation will carry it on. The rest passes before it
// is decided on when it is streamed, so it is never changed.
func foreign(v document.Value) []*gateway.Item {
	kind := v.Get("type").Text()
	form := itemForms[kind]
	name := v.Get("name").Text()
	if name == "" {
		name = form.tool
	}
	own, result := gateway.NewItem(guardbook.KindOutput, ""), toolResult(name, v)
	if result.In.Tool.Server == "" {
		result.In.Tool.Server = "openai"
	}
	own.Redact = func(guardbook.Decision) {}
	for m := v.First(); m.Exists(); m = m.Next() {
		switch {
		case kind == "image_generation_call" && m.Name() == "result" && m.IsString():
			own.AddUnread("image")
		case form.result != "" && (m.Name() == form.result || m.Name() == "error"), waits(kind) && strings.HasSuffix(kind, "_output"):
			value(result, m)
		default:
			value(own, m)
		}
	}
	var items []*gateway.Item
	for _, it := range []*gateway.Item{own, result} {
		if len(it.In.Content) > 0 {
			items = append(items, it)
		}
	}
	return items
}
