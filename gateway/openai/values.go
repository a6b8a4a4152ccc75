package openai

import (
	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// value reads everything within a value of the Responses API. Short identifiers in
// the places of identifiers are left out, data of images, audio and files is named
// only, and what is encrypted for the provider means nothing to anybody else.
func value(it *gateway.Item, v document.Value) {
	switch v.Name() {
	case "type", "id", "role", "status", "call_id", "item_id", "response_id", "container_id", "phase", "caller", "detail", "format", "execution", "outcome", "logprobs":
		it.AddIdentifiers(v)
	case "file_id":
		it.AddIdentifiers(v)
		if v.Text() != "" {
			it.AddUnread("file") // what is in the file is not read
		}
	case "encrypted_content":
		if !v.IsString() {
			members(it, v)
		}
	case "image_url":
		media(it, v, "url", "image")
	case "input_audio":
		media(it, v, "data", "audio")
	case "file_data", "file_url":
		it.AddURL(v, "file")
	case "arguments":
		if v.IsString() {
			it.AddNested(v)
		} else {
			members(it, v)
		}
	default:
		members(it, v)
	}
}

// members is value for what is within v, and for v itself when it is a string.
func members(it *gateway.Item, v document.Value) {
	if v.Kind() != '{' && v.Kind() != '[' {
		it.AddStrings(v)
		return
	}
	if name := v.Name(); !document.Plain(name) { // a model reads names, too
		it.Add(v.NamePlace(), name)
	}
	for m := v.First(); m.Exists(); m = m.Next() {
		value(it, m)
	}
}

// readItem is an item with everything within v.
func readItem(kind guardbook.Kind, role string, v document.Value) *gateway.Item {
	it := gateway.NewItem(kind, role)
	for m := v.First(); m.Exists(); m = m.Next() {
		value(it, m)
	}
	return it
}

// textOf is an item's texts, a line each.
func textOf(it *gateway.Item) string {
	text := ""
	for _, p := range it.In.Content {
		switch {
		case text == "":
			text = p.Text
		case p.Text != "":
			text += "\n" + p.Text
		}
	}
	return text
}

// echo knows the texts of a request. An answer of the Responses API repeats
// instructions and tools of its request; they were decided on there.
type echo struct {
	request *gateway.Request
	known   map[string]bool
}

func (e *echo) has(text string) bool {
	if document.Plain(text) {
		return true
	}
	if e.known == nil {
		e.known = map[string]bool{}
		for _, it := range e.request.Items {
			texts, _ := it.In.Texts() // what could not be read was never sent
			for _, t := range texts {
				e.known[t.Text] = true
			}
		}
	}
	return e.known[text]
}

// unknown calls fn with the values below v that say something new.
func (e *echo) unknown(v document.Value, fn func(document.Value)) {
	switch {
	case !e.has(v.Name()):
		fn(v)
	case v.IsString():
		if !e.has(v.Text()) {
			fn(v)
		}
	default:
		for m := v.First(); m.Exists(); m = m.Next() {
			e.unknown(m, fn)
		}
	}
}
