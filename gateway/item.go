package gateway

import (
	"encoding/json/jsontext"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// Item is one interaction and how a decision on it is applied to the document in
// which it was found.
type Item struct {
	In     guardbook.Interaction
	places []document.Place // where each part of In.Content stands
	// Redact puts a decision's content into the document. nil: each part is put
	// where it came from.
	Redact func(guardbook.Decision)
	// Block takes what was blocked out of the document. nil: the whole exchange
	// stops.
	Block func(guardbook.Decision)
	// Unreadable says why this can not be released whatever policy says, for
	// example arguments that are not JSON.
	Unreadable string
	// Client says that this is a tool call which the client carries out, and not the
	// provider.
	Client bool
	// Whose names the part of a request that the item belongs to, when the request
	// holds several of their own; a block of the whole says it.
	Whose string
}

// NewItem returns an item of a kind without content.
func NewItem(kind guardbook.Kind, role string) *Item {
	return &Item{In: guardbook.Interaction{Kind: kind, Role: role}}
}

// Add adds a text and where it stands.
func (it *Item) Add(at document.Place, text string) {
	it.In.Content = append(it.In.Content, guardbook.TextPart(text))
	it.places = append(it.places, at)
}

// AddValue adds a string value, if it is one and not empty.
func (it *Item) AddValue(v document.Value) {
	if s := v.Text(); s != "" {
		it.Add(v.Place(), s)
	}
}

// AddStrings adds every string within a value.
func (it *Item) AddStrings(v document.Value) { v.Strings(it.Add) }

// AddIdentifiers adds the strings within a value that should be short identifiers,
// except for those that are: an identifier needs no scanning.
func (it *Item) AddIdentifiers(v document.Value) {
	v.Strings(func(at document.Place, text string) {
		if !document.Plain(text) {
			it.Add(at, text)
		}
	})
}

// AddUnread names content that is not read: an image, audio, a file.
func (it *Item) AddUnread(partType string) {
	it.In.Content = append(it.In.Content, guardbook.Part{Type: partType})
	it.places = append(it.places, document.Place{})
}

// AddNested adds the strings of a JSON text that stands within a string; when it is
// not strict JSON, the string itself.
func (it *Item) AddNested(v document.Value) {
	if v.Text() == "" {
		return
	}
	inner, err := v.Nested()
	if err != nil {
		it.AddValue(v)
		return
	}
	it.AddStrings(inner.Root())
}

// AddURL adds a URL, except for the data of a data URL that is no text: such data
// is named only.
func (it *Item) AddURL(v document.Value, partType string) {
	s := v.Text()
	if len(s) > 5 && strings.EqualFold(s[:5], "data:") && !strings.HasPrefix(strings.ToLower(s[5:min(len(s), 10)]), "text/") {
		it.AddUnread(partType)
		return
	}
	it.AddStrings(v)
}

// Empty reports whether the item holds nothing to decide on.
func (it *Item) Empty() bool { return len(it.In.Content) == 0 && it.In.Tool == nil }

// SetArguments gives a tool call its arguments. Arguments that are not one strict
// JSON object are decided on as text, and never released.
func (it *Item) SetArguments(raw string) {
	if strings.TrimSpace(raw) == "" {
		raw = "{}"
	}
	v := jsontext.Value(raw)
	if !v.IsValid() || v.Kind() != '{' {
		it.Unreadable = "the arguments of this call are not one JSON object"
		v = jsontext.Value(`{"unreadable":` + document.Quote(strings.ToValidUTF8(raw, "\uFFFD")) + `}`)
	}
	it.In.Tool.Arguments = v
}

// withhold turns the release of what could not be read into a block, unless policy
// only watches. It reports whether it did.
func (it *Item) withhold(d *guardbook.Decision) bool {
	if it.Unreadable == "" || !d.Action.Releases() || d.Mode == guardbook.ModeMonitor {
		return false
	}
	d.Action, d.Rule, d.Severity = guardbook.ActionBlock, "gateway/unreadable", guardbook.Medium
	d.Message = it.Unreadable + ". Write them again as one JSON object."
	d.Content, d.Arguments = nil, nil
	return true
}

// apply applies decisions to the documents of their items. It returns the decision
// that stops the exchange, or nil.
func apply(items []*Item, ds []guardbook.Decision) (stop *guardbook.Decision) {
	for i, it := range items {
		d := &ds[i]
		switch {
		case !d.Action.Releases() && it.Block != nil:
			it.Block(*d)
		case !d.Action.Releases():
			if it.Whose != "" {
				d.Message = it.Whose + ": " + withoutHead(*d)
			}
			if stop == nil || d.Severity > stop.Severity {
				stop = d
			}
		case d.Action == guardbook.ActionRedact && it.Redact != nil:
			it.Redact(*d)
		case d.Action == guardbook.ActionRedact:
			it.splice(d.Content)
		}
	}
	return stop
}

func (it *Item) splice(content []guardbook.Part) {
	for i := range min(len(content), len(it.places)) {
		if content[i].Text != it.In.Content[i].Text {
			it.places[i].SetText(content[i].Text)
		}
	}
}

// BlockText is what stands in the place of something blocked, for an agent to read:
// it names the policy and the entry and says that trying again is of no use.
func BlockText(d guardbook.Decision) string {
	message, hint := d.Message, ""
	head := "Blocked"
	if d.Action == guardbook.ActionHold {
		head = "Held for approval"
		if message == "" {
			message = "this needs a person's approval, and none has been given."
		}
	}
	if strings.HasPrefix(d.Rule, "containment/") {
		return "[" + head + " (ref " + d.Entry + "): " + message + "]" // a person's order, not a policy's
	}
	if d.Policy != "" {
		head += " by policy " + d.Policy
	}
	if m := withoutHead(d); m != "" {
		message = m
	}
	if message == "" {
		message = "policy does not allow this."
	}
	if !strings.Contains(message, "retry") && !strings.Contains(message, "again") {
		hint = " Choose another approach; do not retry."
	}
	return "[" + head + " (ref " + d.Entry + "): " + message + hint + "]"
}

// withoutHead is a decision's message without the words that BlockText begins with.
func withoutHead(d guardbook.Decision) string {
	message := d.Message
	for _, prefix := range []string{"Blocked by policy " + d.Policy + ": ", "Held by policy " + d.Policy + ": ", "Blocked: "} {
		message = strings.TrimPrefix(message, prefix)
	}
	return message
}

// StopText is what ends the running stream of something that was killed.
func StopText(c Containment) string {
	return "[Stopped by an operator (ref " + c.ID + "): " + c.Scope + " is contained. Do not retry.]"
}
