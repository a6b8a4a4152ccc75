package openai

import (
	"strconv"
	"time"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// choiceAt returns the state of a choice, new or known.
func (s *stream) choiceAt(index int) *choice {
	for _, c := range s.choices {
		if c.index == index {
			return c
		}
	}
	c := &choice{index: index}
	s.choices = append(s.choices, c)
	return c
}

// channel returns a choice's text by the name of its member.
func (c *choice) channel(call *gateway.Call, member string) *channel {
	for _, ch := range c.texts {
		if ch.member == member {
			return ch
		}
	}
	ch := &channel{member: member, text: call.Text()}
	c.texts = append(c.texts, ch)
	return ch
}

// legacy is the place of a function_call among the calls by index.
const legacy = -1

// piece takes one element of a delta's tool_calls.
func (c *choice) piece(v document.Value) fragment {
	id := v.Get("id").Text()
	index := v.Get("index").Int(-2)
	if index == -2 { // some servers leave it out: an id begins a new call
		index = len(c.calls) - 1
		if id != "" || index < 0 {
			index = len(c.calls)
		}
	}
	at := c.callAt(index)
	t := c.calls[at]
	f := fragment{call: at, v: v}
	body := v.Get("function")
	text := body.Get("arguments")
	if custom := v.Get("custom"); custom.Exists() || v.Get("type").Text() == "custom" {
		t.custom = true
		body, text = custom, custom.Get("input")
	}
	if id != "" {
		t.id = id
	}
	t.name += body.Get("name").Text()
	if text.IsString() {
		f.text = text
		t.text.WriteString(text.Text())
	} else if !text.IsNull() { // not in the format, but some servers send an object
		f.text = text
		t.text.WriteString(text.Raw())
	}
	return f
}

// legacyPiece takes a piece of a function_call.
func (c *choice) legacyPiece(v document.Value) fragment {
	at := c.callAt(legacy)
	t := c.calls[at]
	t.name += v.Get("name").Text()
	f := fragment{call: at, v: v, text: v.Get("arguments")}
	t.text.WriteString(f.text.Text())
	return f
}

func (c *choice) callAt(index int) int {
	if at, ok := c.byIndex[index]; ok {
		return at
	}
	if c.byIndex == nil {
		c.byIndex = map[int]int{}
	}
	at := len(c.calls)
	c.byIndex[index] = at
	c.calls = append(c.calls, &toolCall{})
	return at
}

// shape is what the events of one stream have in common.
type shape struct {
	members string // with a comma at the end
	known   bool
}

func newShape(object, id, model string) shape {
	return shape{members: `"id":` + document.Quote(id) + `,"object":"` + object + `","created":` + strconv.FormatInt(time.Now().Unix(), 10) + `,"model":` + document.Quote(model) + `,`}
}

// note takes the shape of the upstream's first event.
func (s *shape) note(root document.Value) {
	if s.known || root.Get("id").Text() == "" {
		return
	}
	members := ""
	for _, name := range []string{"id", "object", "created", "model", "system_fingerprint", "service_tier"} {
		if v := root.Get(name); v.Exists() {
			members += document.Quote(name) + ":" + v.Raw() + ","
		}
	}
	s.members, s.known = members, true
}

// form is where the two APIs with choices differ in a streamed answer.
type form struct {
	text    string // the member of the main text
	nothing string // members of a choice that says nothing
	// delta is where the pieces of a choice stand.
	delta func(choice document.Value) document.Value
	// say are the members of a choice that says a text. role names it, for the first.
	say func(role, member, text string) string
}

var chatForm = form{
	text: "content", nothing: `"delta":{}`,
	delta: func(choice document.Value) document.Value { return choice.Get("delta") },
	say: func(role, member, text string) string {
		return `"delta":{` + role + document.Quote(member) + ":" + document.Quote(text) + "}"
	},
}

// chunk is an event about one choice.
func (s *shape) chunk(index int, members, finish string) string {
	reason := "null"
	if finish != "" {
		reason = document.Quote(finish)
	}
	return "{" + s.members + `"choices":[{"index":` + itoa(index) + `,` + members + `,"logprobs":null,"finish_reason":` + reason + `}]}`
}

// usage is the event that tells the usage.
func (s *shape) usage(raw string) string {
	return "{" + s.members + `"choices":[],"usage":` + raw + "}"
}

func itoa(n int) string { return strconv.Itoa(n) }
