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

// completions is POST /v1/completions, the API before Chat Completions.
type completions struct{ api }

// Path is the entry path.
func (e completions) Path() string { return e.path("completions") }

// Request finds every text of a request.
func (e completions) Request(doc *document.Document) (*gateway.Request, error) {
	r, err := read(doc)
	if err != nil {
		return nil, err
	}
	a := &asked{model: e.deployment, choices: 1}
	prompts := 1
	for v := r.root.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "prompt":
			prompts = r.prompts(v, "/v1/completions")
		case "suffix":
			r.said(v, "user")
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
			r.rest.AddIdentifiers(v)
		default:
			r.rest.AddStrings(v)
		}
	}
	a.choices = min(a.choices*max(1, prompts), 2048)
	r.add(r.rest)
	r.Model, r.Protocol = a.model, a
	return r.Request, nil
}

// prompts reads one text or a list of them, and says how many there are. Texts that
// the client has turned into tokens cannot be read.
func (r *reading) prompts(v document.Value, path string) int {
	n, tokens := 1, v.First().Kind() == '0'
	if v.Kind() == '[' && !tokens {
		n = v.Left()
		for p := v.First(); p.Exists(); p = p.Next() {
			tokens = tokens || p.Kind() == '[' && p.First().Kind() == '0'
		}
	}
	if tokens {
		r.Needs = append(r.Needs, gateway.Need{Method: "POST", Path: path + ":tokens",
			Why: "The text of this request comes as numbers of tokens, which Guardbook does not read. Send it as text (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)."})
	}
	r.said(v, "user")
	return n
}

// Answer finds the texts of an answer.
func (completions) Answer(doc *document.Document, _ *gateway.Call) (*gateway.Answer, error) {
	root := doc.Root()
	if root.Kind() != '{' {
		return nil, errors.New("is not a JSON object")
	}
	ans := &gateway.Answer{}
	extra := gateway.NewItem(guardbook.KindOutput, "")
	for v := root.First(); v.Exists(); v = v.Next() {
		if v.Name() != "choices" || v.Kind() != '[' {
			extra.AddIdentifiers(v)
			continue
		}
		for c := v.First(); c.Exists(); c = c.Next() {
			completed(ans, extra, c)
		}
	}
	if !extra.Empty() {
		ans.Items = append(ans.Items, extra)
	}
	return ans, nil
}

// completed is one choice of an answer.
func completed(ans *gateway.Answer, extra *gateway.Item, c document.Value) {
	text := c.Get("text")
	it := gateway.NewItem(guardbook.KindOutput, "")
	it.AddValue(text)
	say := func(s string) {
		text.SetText(s)
		if l := c.Get("logprobs"); !l.IsNull() {
			l.SetRaw("null") // they repeat the text token by token
		}
	}
	it.Redact = func(d guardbook.Decision) {
		if len(d.Content) > 0 {
			say(d.Content[0].Text)
		}
	}
	it.Block = func(d guardbook.Decision) {
		say(gateway.BlockText(d))
		setMember(c, "finish_reason", document.Quote(finishFiltered))
	}
	if !it.Empty() {
		ans.Items = append(ans.Items, it)
	}
	for m := c.First(); m.Exists(); m = m.Next() {
		if m != text && m.Name() != "logprobs" || m == text && !m.IsString() {
			extra.AddIdentifiers(m)
		}
	}
	if c.Kind() != '{' {
		extra.AddStrings(c)
	}
}

// completedText is an answer that the gateway makes itself.
type completedText struct {
	ID      string                `json:"id"`
	Object  string                `json:"object"`
	Created int64                 `json:"created"`
	Model   string                `json:"model"`
	Choices []completedTextChoice `json:"choices"`
	Usage   jsontext.Value        `json:"usage"`
}

type completedTextChoice struct {
	Text         string  `json:"text"`
	Index        int     `json:"index"`
	Logprobs     *string `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
}

func newTextID() string { return "cmpl-guardbook-" + uuid.NewString() }

// Blocked is a complete answer that says only text.
func (completions) Blocked(call *gateway.Call, text string) []byte {
	a := call.Request.Protocol.(*asked)
	c := completedText{ID: newTextID(), Object: "text_completion", Created: time.Now().Unix(), Model: a.model, Usage: jsontext.Value(noUsage)}
	for i := range a.choices {
		c.Choices = append(c.Choices, completedTextChoice{Text: text, Index: i, FinishReason: finishFiltered})
	}
	b, _ := json.Marshal(c, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

// textForm is a streamed answer whose choices hold their text themselves.
var textForm = form{
	text: "text", nothing: `"text":""`,
	delta: func(choice document.Value) document.Value { return choice },
	say:   func(_, member, text string) string { return document.Quote(member) + ":" + document.Quote(text) },
}

// Stream begins to translate a streamed answer.
func (completions) Stream(call *gateway.Call, out *gateway.Out) gateway.Stream {
	a := call.Request.Protocol.(*asked)
	return &stream{call: call, out: out, asked: a, form: textForm, shape: newShape("text_completion", newTextID(), a.model)}
}
