package openai

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

const finishFiltered = "content_filter"

// Answer finds the texts and calls of an answer. Each text is an output of its own,
// as in a stream.
func (chat) Answer(doc *document.Document, _ *gateway.Call) (*gateway.Answer, error) {
	root := doc.Root()
	if root.Kind() != '{' {
		return nil, errors.New("is not a JSON object")
	}
	ans := &gateway.Answer{}
	extra := gateway.NewItem(guardbook.KindOutput, "")
	var choices []*choiceAnswer
	for v := root.First(); v.Exists(); v = v.Next() {
		if v.Name() != "choices" || v.Kind() != '[' {
			extra.AddIdentifiers(v)
			continue
		}
		for c := v.First(); c.Exists(); c = c.Next() {
			a := &choiceAnswer{choice: c, message: c.Get("message")}
			a.read(ans, extra)
			choices = append(choices, a)
		}
	}
	if !extra.Empty() {
		ans.Items = append(ans.Items, extra)
	}
	ans.Settled = func() {
		for _, a := range choices {
			a.settle()
		}
	}
	return ans, nil
}

// choiceAnswer is one choice of an answer.
type choiceAnswer struct {
	choice, message document.Value
	calls           int
	blockedText     string   // the text that takes the place of the whole message
	blockedCalls    []string // the texts that take the places of calls
	content         string   // as released
	redacted        bool
}

func (a *choiceAnswer) read(ans *gateway.Answer, extra *gateway.Item) {
	for v := a.choice.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "message", "logprobs":
		default:
			extra.AddIdentifiers(v)
		}
	}
	for v := a.message.First(); v.Exists(); v = v.Next() {
		switch {
		case v.Name() == "role":
			extra.AddIdentifiers(v)
		case v.Name() == "tool_calls" && v.Kind() == '[':
			for c := v.First(); c.Exists(); c = c.Next() {
				a.call(ans, c, c.Get("id").Text())
			}
		case v.Name() == "function_call" && v.Kind() == '{':
			a.call(ans, v, "")
		case v.Name() == "audio" && v.Kind() == '{':
			a.text(ans, v.Get("transcript"))
			extra.AddIdentifiers(v.Get("id"))
		case v.IsString():
			a.text(ans, v)
		case v.Name() == "content": // a list of parts, as some servers have it
			it := gateway.NewItem(guardbook.KindOutput, "")
			it.AddIdentifiers(v)
			a.output(ans, it)
		default:
			extra.AddIdentifiers(v)
		}
	}
}

// text is one text of a message.
func (a *choiceAnswer) text(ans *gateway.Answer, v document.Value) {
	it := gateway.NewItem(guardbook.KindOutput, "")
	it.AddValue(v)
	if v.Name() == "content" {
		a.content = v.Text()
	}
	it.Redact = func(d guardbook.Decision) {
		if len(d.Content) == 0 {
			return
		}
		a.redacted = true
		v.SetText(d.Content[0].Text)
		if v.Name() == "content" {
			a.content = d.Content[0].Text
		}
	}
	a.output(ans, it)
}

func (a *choiceAnswer) output(ans *gateway.Answer, it *gateway.Item) {
	if it.Empty() {
		return
	}
	it.Block = func(d guardbook.Decision) { a.blockedText = joinLines(a.blockedText, gateway.BlockText(d)) }
	ans.Items = append(ans.Items, it)
}

// call is one tool call. v holds "function" or "custom", or is a function_call itself.
func (a *choiceAnswer) call(ans *gateway.Answer, v document.Value, id string) {
	c := toolCall{id: id}
	body, args := v, v.Get("arguments")
	if f := v.Get("function"); f.Exists() {
		body, args = f, f.Get("arguments")
	} else if f := v.Get("custom"); f.Exists() {
		c.custom = true
		body, args = f, f.Get("input")
	}
	c.name = body.Get("name").Text()
	if args.IsString() {
		c.text.WriteString(args.Text())
	} else {
		c.text.WriteString(args.Raw())
	}
	it := c.item()
	a.calls++
	it.Block = func(d guardbook.Decision) {
		v.Remove()
		a.blockedCalls = append(a.blockedCalls, gateway.BlockText(d))
	}
	it.Redact = func(d guardbook.Decision) {
		if args.IsString() {
			args.SetText(c.redacted(d))
		} else {
			args.SetRaw(string(d.Arguments))
		}
	}
	ans.Items = append(ans.Items, it)
}

// settle makes the choice whole again after the decisions.
func (a *choiceAnswer) settle() {
	if a.redacted || a.blockedText != "" {
		if l := a.choice.Get("logprobs"); !l.IsNull() {
			l.SetRaw("null") // they repeat the text token by token
		}
	}
	finish := a.choice.Get("finish_reason")
	switch {
	case a.blockedText != "":
		for v := a.message.First(); v.Exists(); v = v.Next() {
			if v.Name() != "role" && v.Name() != "content" {
				v.Remove()
			}
		}
		a.setContent(a.blockedText)
		finish.SetText(finishFiltered)
	case len(a.blockedCalls) > 0:
		if a.calls == len(a.blockedCalls) {
			a.message.Get("tool_calls").Remove()
			finish.SetText(finishFiltered)
		}
		a.setContent(joinLines(append([]string{a.content}, a.blockedCalls...)...))
	}
}

func (a *choiceAnswer) setContent(text string) {
	if c := a.message.Get("content"); c.Exists() {
		c.SetText(text)
		return
	}
	a.message.Add("content", document.Quote(text))
}

// completion is an answer that the gateway makes itself.
type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   jsontext.Value     `json:"usage"`
}

type completionChoice struct {
	Index        int     `json:"index"`
	Message      message `json:"message"`
	Logprobs     *string `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
}

type message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

const noUsage = `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`

func newID() string { return "chatcmpl-guardbook-" + uuid.NewString() }

// Blocked is a complete answer that says only text.
func (chat) Blocked(call *gateway.Call, text string) []byte {
	a := call.Request.Protocol.(*asked)
	c := completion{ID: newID(), Object: "chat.completion", Created: time.Now().Unix(), Model: a.model, Usage: jsontext.Value(noUsage)}
	for i := range a.choices {
		c.Choices = append(c.Choices, completionChoice{Index: i, Message: message{Role: "assistant", Content: text}, FinishReason: finishFiltered})
	}
	b, _ := json.Marshal(c, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}
