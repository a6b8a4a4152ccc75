package anthropic

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

const (
	stopTool = "tool_use"
	stopEnd  = "end_turn"
)

// roleThinking is the role of outputs that are a model's thinking.
const roleThinking = "thinking"

// answer is one answer that is not streamed.
type answer struct {
	root, content document.Value
	blocked       []string // the texts that take the place of the whole content
	calls, taken  int
	names         map[string]string // of the calls that ran at the provider, by id
}

// Answer finds the texts and calls of an answer. Each block is an interaction of its
// own, as in a stream.
func (messages) Answer(doc *document.Document, _ *gateway.Call) (*gateway.Answer, error) {
	root := doc.Root()
	if root.Kind() != '{' {
		return nil, errors.New("is not a JSON object")
	}
	a := &answer{root: root, content: root.Get("content")}
	ans := &gateway.Answer{Settled: a.settle}
	extra := gateway.NewItem(guardbook.KindOutput, "")
	for v := root.First(); v.Exists(); v = v.Next() {
		if v.Name() != "content" || v.Kind() != '[' {
			extra.AddIdentifiers(v)
			continue
		}
		for b := v.First(); b.Exists(); b = b.Next() {
			a.block(ans, extra, b)
		}
	}
	a.output(ans, extra)
	return ans, nil
}

func (a *answer) block(ans *gateway.Answer, extra *gateway.Item, b document.Value) {
	kind := b.Get("type").Text()
	switch kind {
	case "text":
		it := gateway.NewItem(guardbook.KindOutput, "")
		it.AddValue(b.Get("text"))
		a.output(ans, it)
		for v := b.First(); v.Exists(); v = v.Next() {
			if v.Name() != "text" {
				readable(extra, v)
			}
		}
	case "thinking", "redacted_thinking":
		it := gateway.NewItem(guardbook.KindOutput, roleThinking)
		it.AddValue(b.Get("thinking"))
		it.Redact = func(guardbook.Decision) {}
		a.output(ans, it)
	case stopTool:
		input := b.Get("input")
		it := callItem(b.Get("name").Text(), b.Get("id").Text(), input.Raw())
		a.calls++
		it.Block = func(d guardbook.Decision) {
			a.taken++
			b.SetRaw(`{"type":"text","text":` + document.Quote(gateway.BlockText(d)) + `}`)
		}
		it.Redact = func(d guardbook.Decision) { input.SetRaw(string(d.Arguments)) }
		ans.Items = append(ans.Items, it)
		beside(b, extra.AddIdentifiers)
	default:
		it := foreign(b, &a.names)
		a.output(ans, it)
	}
}

// beside calls read with the members of a call's block that its decision does not
// see: who made it, and whatever is not known.
func beside(b document.Value, read func(document.Value)) {
	for v := b.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "id", "name", "input":
		default:
			read(v)
		}
	}
}

// foreign is a block of an answer that is neither the model's text nor a call for
// the client. What a tool at the provider gave back is a tool's result here, too:
// the model has read it, and the conversation will carry it on.
func foreign(b document.Value, names *map[string]string) *gateway.Item {
	kind := b.Get("type").Text()
	it := gateway.NewItem(guardbook.KindOutput, "")
	switch {
	case strings.HasSuffix(kind, "_tool_use"):
		if *names == nil {
			*names = map[string]string{}
		}
		(*names)[b.Get("id").Text()] = b.Get("name").Text()
		it.Redact = func(guardbook.Decision) {}
	case strings.HasSuffix(kind, "_tool_result"):
		id := b.Get("tool_use_id").Text()
		it.In.Kind = guardbook.KindToolResult
		it.In.Tool = &guardbook.Tool{Server: "anthropic", Name: (*names)[id], CallID: id}
	default:
		it.Redact = func(guardbook.Decision) {}
	}
	readable(it, b)
	return it
}

// output adds an output; a block of it takes the place of the whole answer.
func (a *answer) output(ans *gateway.Answer, it *gateway.Item) {
	if it.Empty() {
		return
	}
	it.Block = func(d guardbook.Decision) { a.blocked = append(a.blocked, gateway.BlockText(d)) }
	ans.Items = append(ans.Items, it)
}

// callItem is a tool call as an interaction.
func callItem(name, id, input string) *gateway.Item {
	it := gateway.NewItem(guardbook.KindToolCall, "")
	it.Client = true
	it.In.Tool = &guardbook.Tool{Name: name, CallID: id}
	it.SetArguments(input)
	return it
}

// settle makes the answer whole again after the decisions.
func (a *answer) settle() {
	stop := a.root.Get("stop_reason")
	switch {
	case len(a.blocked) > 0 && a.content.Exists():
		a.content.SetRaw(`[{"type":"text","text":` + document.Quote(strings.Join(a.blocked, "\n\n")) + `}]`)
		stop.SetText(stopEnd)
	case a.taken > 0 && a.taken == a.calls && stop.Text() == stopTool:
		stop.SetText(stopEnd)
	}
}

// made is an answer that the gateway makes itself.
type made struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Role         string         `json:"role"`
	Model        string         `json:"model"`
	Content      []madeText     `json:"content"`
	StopReason   *string        `json:"stop_reason"`
	StopSequence *string        `json:"stop_sequence"`
	Usage        jsontext.Value `json:"usage"`
}

type madeText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// makeMessage is a message of the gateway's own; without a text it has only begun.
func makeMessage(model, text string) []byte {
	m := made{ID: "msg_guardbook_" + uuid.NewString(), Type: "message", Role: "assistant", Model: model, Content: []madeText{},
		Usage: jsontext.Value(`{"input_tokens":0,"output_tokens":0}`)}
	if text != "" {
		stop := stopEnd
		m.Content, m.StopReason = []madeText{{"text", text}}, &stop
	}
	b, _ := json.Marshal(m, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

// Blocked is a complete answer that says only text.
func (messages) Blocked(call *gateway.Call, text string) []byte {
	return makeMessage(call.Request.Model, text)
}
