package openai

import (
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// roleThinking is the role of outputs that are a model's reasoning.
const roleThinking = "thinking"

// responseAnswer is an answer of the Responses API that is not streamed.
type responseAnswer struct {
	root    document.Value
	items   []*gateway.Item
	extra   *gateway.Item
	calls   []*responseCall
	blocked string // the text that takes the place of the whole output
	owed    string // results of the calls that the client never sees
}

// Answer finds the texts and calls of an answer. Each part of a message and each item
// is an interaction of its own, as in a stream.
func (e responses) Answer(doc *document.Document, call *gateway.Call) (*gateway.Answer, error) {
	if doc.Root().Kind() != '{' {
		return nil, errors.New("is not a JSON object")
	}
	a := &responseAnswer{root: doc.Root(), extra: gateway.NewItem(guardbook.KindOutput, "")}
	known := echo{request: call.Request}
	for v := a.root.First(); v.Exists(); v = v.Next() {
		if v.Name() != "output" || v.Kind() != '[' {
			known.unknown(v, a.extra.AddIdentifiers)
			continue
		}
		for it := v.First(); it.Exists(); it = it.Next() {
			a.item(it)
		}
	}
	a.add(a.extra)
	return &gateway.Answer{Items: a.items, Settled: func() {
		a.settle()
		e.owed.put(a.root, a.owed)
	}}, nil
}

// add adds an output; a block of it takes the place of the whole answer.
func (a *responseAnswer) add(it *gateway.Item) {
	if it.Empty() {
		return
	}
	it.Block = func(d guardbook.Decision) { a.blocked = joinLines(a.blocked, gateway.BlockText(d)) }
	a.items = append(a.items, it)
}

func (a *responseAnswer) item(v document.Value) {
	if v.Kind() != '{' {
		a.add(unknownPart(v))
		return
	}
	switch v.Get("type").Text() {
	case "message":
		for m := v.First(); m.Exists(); m = m.Next() {
			if m.Name() != "content" {
				a.extra.AddIdentifiers(m)
				continue
			}
			if m.Kind() != '[' {
				a.add(unknownPart(m))
				continue
			}
			for p := m.First(); p.Exists(); p = p.Next() {
				a.part(p)
			}
		}
	case "reasoning":
		a.add(reasoning(v))
	default:
		c := readCall(v)
		c.beside(a.extra.AddIdentifiers)
		a.calls = append(a.calls, c)
		if c.call {
			a.items = append(a.items, c.items...)
			return
		}
		for _, it := range c.items {
			a.add(it)
		}
	}
}

// reasoning is decided on, and never changed: it must go back to the provider as it
// is.
func reasoning(v document.Value) *gateway.Item {
	it := readItem(guardbook.KindOutput, roleThinking, v)
	it.Redact = func(guardbook.Decision) {}
	return it
}

// part is one part of a message.
func (a *responseAnswer) part(p document.Value) {
	text := partText(p)
	if !text.Exists() {
		a.add(unknownPart(p))
		return
	}
	it := gateway.NewItem(guardbook.KindOutput, "")
	it.AddValue(text)
	it.Redact = func(d guardbook.Decision) {
		if len(d.Content) > 0 {
			setPart(p, d.Content[0].Text)
		}
	}
	a.add(it)
	besideText(p, a.extra.AddIdentifiers)
}

// partText is where a part's text stands; it does not exist in a part that is not for
// text.
func partText(p document.Value) document.Value {
	text := document.Value{}
	switch p.Get("type").Text() {
	case "output_text":
		text = p.Get("text")
	case "refusal":
		text = p.Get("refusal")
	}
	if !text.IsString() {
		return document.Value{}
	}
	return text
}

// besideText calls read with the members of a part beside its text.
func besideText(p document.Value, read func(document.Value)) {
	for m := p.First(); m.Exists(); m = m.Next() {
		switch m.Name() {
		case "text", "refusal", "logprobs":
			if m != partText(p) && m.Name() != "logprobs" {
				read(m)
			}
		default:
			read(m)
		}
	}
}

// unknownPart is a part that is no text. It is never changed: when it is streamed it
// has passed before.
func unknownPart(p document.Value) *gateway.Item {
	it := gateway.NewItem(guardbook.KindOutput, "")
	members(it, p)
	it.Redact = func(guardbook.Decision) {}
	return it
}

// setPart gives a part another text, and takes out what repeats the old one token by
// token.
func setPart(p document.Value, text string) {
	partText(p).SetText(text)
	clearLogprobs(p)
}

func clearLogprobs(v document.Value) {
	if l := v.Get("logprobs"); !l.IsNull() {
		l.SetRaw("[]")
	}
}

// settle makes the answer whole again after the decisions.
func (a *responseAnswer) settle() {
	for _, c := range a.calls {
		switch {
		case !c.call:
		case a.blocked != "":
			a.owed += owed(c.v, a.blocked)
		case c.blocked != nil:
			a.owed += owed(c.v, gateway.BlockText(*c.blocked))
		}
	}
	if a.blocked != "" {
		a.say(a.blocked)
		return
	}
	for _, c := range a.calls {
		if c.blocked != nil {
			c.v.SetRaw(textItem(newMessageID(), gateway.BlockText(*c.blocked)))
			continue
		}
		c.apply(c.v)
	}
}

// say puts a text in the place of everything that the answer says.
func (a *responseAnswer) say(text string) {
	output := "[" + textItem(newMessageID(), text) + "]"
	setMember(a.root, "output", output)
	setMember(a.root, "status", `"completed"`)
	for _, name := range []string{"incomplete_details", "error"} {
		if v := a.root.Get(name); !v.IsNull() {
			v.SetRaw("null")
		}
	}
	if v := a.root.Get("output_text"); v.IsString() { // some servers repeat the text here
		v.SetText(text)
	}
}

// setMember sets a member of an object, which need not have it yet.
func setMember(v document.Value, name, raw string) {
	if m := v.Get(name); m.Exists() {
		m.SetRaw(raw)
		return
	}
	v.Add(name, raw)
}

func newMessageID() string { return "msg_guardbook_" + uuid.NewString() }

// textItem is a message that says a text.
func textItem(id, text string) string {
	return `{"id":` + document.Quote(id) + `,"type":"message","status":"completed","role":"assistant","content":[` + textPart("output_text", text) + `]}`
}

func textPart(kind, text string) string {
	if kind == "refusal" {
		return `{"type":"refusal","refusal":` + document.Quote(text) + `}`
	}
	return `{"type":"output_text","text":` + document.Quote(text) + `,"annotations":[],"logprobs":[]}`
}

const noResponseUsage = `{"input_tokens":0,"input_tokens_details":{"cached_tokens":0},"output_tokens":0,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":0}`

// newResponse is an answer that the gateway makes itself, and that has only begun.
func newResponse(model string) string {
	return `{"id":"resp_guardbook_` + uuid.NewString() + `","object":"response","created_at":` + strconv.FormatInt(time.Now().Unix(), 10) +
		`,"status":"in_progress","background":false,"completed_at":null,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":` +
		document.Quote(model) + `,"output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},` +
		`"store":false,"temperature":1,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1,"truncation":"disabled","usage":null,"user":null,"metadata":{}}`
}

// complete is a response that has begun, with the output that it comes to. Its usage
// is kept when it tells one.
func complete(response, output string) string {
	doc, err := document.Parse([]byte(response))
	if err != nil {
		return response // it was parsed before, or is made here
	}
	root := doc.Root()
	setMember(root, "output", output)
	setMember(root, "status", `"completed"`)
	setMember(root, "completed_at", strconv.FormatInt(time.Now().Unix(), 10))
	setMember(root, "error", "null")
	setMember(root, "incomplete_details", "null")
	if root.Get("usage").IsNull() {
		setMember(root, "usage", noResponseUsage)
	}
	return doc.String()
}

// Blocked is a complete answer that says only text.
func (responses) Blocked(call *gateway.Call, text string) []byte {
	return []byte(complete(newResponse(call.Request.Model), "["+textItem(newMessageID(), text)+"]"))
}
