package openai

import (
	"encoding/json/jsontext"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// toolCall is a call that a model makes, whole or still in pieces.
type toolCall struct {
	id, name string
	custom   bool            // a custom tool: the text is free, not JSON
	text     strings.Builder // arguments or input, so far
	blocked  *guardbook.Decision
	changed  *guardbook.Decision // its arguments were redacted
}

// item is the call as an interaction. A custom tool's text is its argument "input".
func (c *toolCall) item() *gateway.Item {
	it := gateway.NewItem(guardbook.KindToolCall, "")
	it.Client = true
	it.In.Tool = &guardbook.Tool{Name: c.name, CallID: c.id}
	if c.custom {
		it.In.Tool.Arguments = jsontext.Value(`{"input":` + document.Quote(c.text.String()) + `}`)
	} else {
		it.SetArguments(c.text.String())
	}
	it.Block = func(d guardbook.Decision) { c.blocked = &d }
	it.Redact = func(d guardbook.Decision) { c.changed = &d }
	return it
}

// redacted is the call's text after redaction.
func (c *toolCall) redacted(d guardbook.Decision) string {
	if !c.custom {
		return string(d.Arguments)
	}
	doc, err := document.Parse(d.Arguments)
	if err != nil {
		return ""
	}
	return doc.Root().Get("input").Text()
}
