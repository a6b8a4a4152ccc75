package mcp

import (
	"context"
	"encoding/base64"
	"encoding/json/jsontext"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// item is one interaction in a message, and how a decision on it is applied.
type item struct {
	in     guardbook.Interaction
	places []spot
	// block takes what was blocked out of the message; nil: the message is blocked.
	block func(guardbook.Decision)
	// redact puts redacted arguments into the message.
	redact func(guardbook.Decision)
	// unreadable says why this cannot be released whatever policy says.
	unreadable string
}

// spot is where a text of an item stands.
type spot struct {
	at document.Place
	// fixed says why the text cannot be replaced; "" if it can.
	fixed string
}

func (s *Session) item(kind guardbook.Kind, method, tool, callID string) *item {
	it := &item{in: guardbook.Interaction{Kind: kind, Path: s.path(method)}} // decide says whose it is
	if tool == "" && kind != guardbook.KindOutput {
		tool = method // what a server says beside its tools is named after how it came
	}
	if tool != "" {
		it.in.Tool = &guardbook.Tool{Server: s.o.Server.Name, Name: clip(tool, 256), CallID: clip(callID, 256)}
	}
	return it
}

// methods are those that have an entry path of their own; counters are kept for each
// path, so a client cannot make new ones.
var methods = []string{
	"initialize", "ping", "server/discover", "subscriptions/listen", "completion/complete", "logging/setLevel",
	"tools/list", "tools/call", "prompts/list", "prompts/get",
	"resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe",
	"tasks/list", "tasks/get", "tasks/result", "tasks/cancel", "tasks/update",
	"roots/list", "sampling/createMessage", "elicitation/create",
	"notifications/message", "notifications/progress", "notifications/cancelled",
}

// path is the entry path of a message: "mcp/tools/call".
func (s *Session) path(method string) string {
	if !slices.Contains(methods, method) {
		method = "other"
	}
	return s.o.Path + "/" + method
}

func (it *item) add(at document.Place, text string) {
	it.in.Content = append(it.in.Content, guardbook.TextPart(text))
	it.places = append(it.places, spot{at: at})
}

func (it *item) addFixed(text, why string) {
	it.in.Content = append(it.in.Content, guardbook.TextPart(text))
	it.places = append(it.places, spot{fixed: why})
}

func (it *item) addUnread(partType string) {
	it.in.Content = append(it.in.Content, guardbook.Part{Type: partType})
	it.places = append(it.places, spot{})
}

// addStrings adds every string within v that is more than a word.
func (it *item) addStrings(v document.Value) {
	v.Strings(func(at document.Place, text string) {
		if !word(text) {
			it.add(at, text)
		}
	})
}

// word reports whether s is too short and too plain to say anything, or to be a
// secret.
func word(s string) bool { return len(s) <= 16 && document.Plain(s) }

// addContent adds all texts of something that a model will read, wherever in it they
// are. What is binary (image, audio, blob) is named; a blob that is text is read.
func (it *item) addContent(v document.Value) {
	switch v.Kind() {
	case '"':
		it.addStringOnly(v)
	case '[':
		for c := v.First(); c.Exists(); c = c.Next() {
			it.addContent(c)
		}
	case '{':
		media := v.Get("mimeType").Text()
		for c := v.First(); c.Exists(); c = c.Next() {
			name := c.Name()
			if !document.Plain(name) {
				it.add(c.NamePlace(), name)
			}
			switch {
			case name == "type" && c.IsString() && document.Plain(c.Text()):
			case (name == "data" || name == "blob") && c.IsString() && encoded(c.Text()) && binary(media, v.Get("type").Text()):
				it.addUnread(unreadType(v.Get("type").Text()))
			case name == "blob" && c.IsString() && readableBlob(c.Text()) != "":
				it.addFixed(readableBlob(c.Text()), "it is encoded")
			case c.IsString():
				it.addStringOnly(c)
			default:
				it.addContent(c)
			}
		}
	}
}

func (it *item) addStringOnly(c document.Value) {
	switch s := c.Text(); {
	case s == "":
	case dataURL(s): // an icon, most often
		it.addUnread("file")
	default:
		it.add(c.Place(), s)
	}
}

// dataURL reports whether s is a data URL of something that is no text.
func dataURL(s string) bool {
	head, data, ok := strings.Cut(s, ",")
	head = strings.ToLower(head)
	return ok && strings.HasPrefix(head, "data:") && strings.HasSuffix(head, ";base64") && binary(strings.TrimPrefix(head, "data:"), "") && encoded(data)
}

// binary reports whether data of that type is no text.
func binary(media, partType string) bool {
	media = strings.ToLower(media)
	if partType == "image" || partType == "audio" {
		return true
	}
	return strings.HasPrefix(media, "image/") || strings.HasPrefix(media, "audio/") || strings.HasPrefix(media, "video/") ||
		strings.HasPrefix(media, "font/")
}

// encoded reports whether s can be base64, and so no text that a model reads.
func encoded(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '+' && c != '/' && c != '=' {
			return false
		}
	}
	return true
}

func unreadType(t string) string {
	if t == "image" || t == "audio" {
		return t
	}
	return "file"
}

// readableBlob is the text in a base64 blob, or "" if it is none.
func readableBlob(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(b) || strings.ContainsRune(string(b), 0) {
		return ""
	}
	return string(b)
}

// addStrict adds the content of structuredContent. constrained says that the tool's
// schema demands more of its strings than their type. A number that could be a
// secret or a person's is read too; a client would refuse a string in its place.
func (it *item) addStrict(v document.Value, constrained bool) {
	switch v.Kind() {
	case '"':
		if s := v.Text(); s != "" {
			if constrained {
				it.addFixed(s, "the tool's output schema does not let it be replaced")
			} else {
				it.add(v.Place(), s)
			}
		}
	case '0':
		if raw := v.Raw(); len(raw) >= 9 { // what it is called tells what it may be
			it.addFixed(strings.TrimPrefix(v.Name()+": "+raw, ": "), "it is a number")
		}
	case '[', '{':
		for c := v.First(); c.Exists(); c = c.Next() {
			if name := c.Name(); !document.Plain(name) {
				it.addFixed(name, "it is a member's name")
			}
			it.addStrict(c, constrained)
		}
	}
}

func (it *item) empty() bool {
	return len(it.in.Content) == 0 && it.in.Kind != guardbook.KindToolCall
}

// setArguments gives a call its arguments.
func (it *item) setArguments(v document.Value) {
	switch v.Kind() {
	case 0:
		it.in.Tool.Arguments = jsontext.Value("{}")
	case '{':
		it.in.Tool.Arguments = jsontext.Value(v.Raw())
	default:
		it.unreadable = "the arguments of this call are not one JSON object"
		it.in.Tool.Arguments = jsontext.Value(`{"unreadable":` + document.Quote(v.Raw()) + `}`)
	}
	it.redact = func(d guardbook.Decision) { v.SetRaw(string(d.Arguments)) }
}

// decide decides on items and applies what was decided. stop is the decision that
// blocks the whole message, or nil.
func (s *Session) decide(ctx context.Context, r *Result, items []*item) (stop *guardbook.Decision, err error) {
	var ins []*guardbook.Interaction
	var asked []*item
	who := s.caller(ctx)
	for _, it := range items {
		if it != nil && !it.empty() {
			in := &it.in
			in.Tenant, in.Agent, in.Session, in.User, in.Parent = who.Tenant, who.Agent, who.Session, who.User, who.Parent
			in.Client, in.ClientSeq = who.Client, who.ClientSeq
			ins, asked = append(ins, &it.in), append(asked, it)
		}
	}
	if len(ins) == 0 {
		return nil, nil
	}
	ds, err := s.o.Keeper.Decide(ctx, ins...)
	if err != nil {
		return nil, err
	}
	if len(ds) != len(ins) {
		return nil, fmt.Errorf("%d decisions came for %d interactions", len(ds), len(ins))
	}
	for i, it := range asked {
		d := &ds[i]
		s.withhold(ctx, it, d)
		r.note(*d)
		switch {
		case !d.Action.Releases() && it.block != nil:
			it.block(*d)
		case !d.Action.Releases():
			if stop == nil || d.Severity > stop.Severity {
				stop = d
			}
		case d.Action == guardbook.ActionRedact && it.redact != nil:
			if len(d.Arguments) > 0 {
				it.redact(*d)
			}
		case d.Action == guardbook.ActionRedact:
			for k := range min(len(d.Content), len(it.places)) {
				if d.Content[k].Text != it.in.Content[k].Text {
					it.places[k].at.SetText(d.Content[k].Text)
				}
			}
		}
	}
	return stop, nil
}

// withhold turns into a block what policy would release and cannot be released as
// policy wants it: arguments that are no object, a redaction that would break a type.
func (s *Session) withhold(ctx context.Context, it *item, d *guardbook.Decision) {
	if !d.Action.Releases() || d.Mode == guardbook.ModeMonitor {
		return
	}
	why, code := it.unreadable, "unreadable_tool_call"
	if d.Action == guardbook.ActionRedact && why == "" {
		for k := range min(len(d.Content), len(it.places)) {
			if it.places[k].fixed != "" && d.Content[k].Text != it.in.Content[k].Text {
				why, code = "it holds what must be redacted where it cannot be: "+it.places[k].fixed, "unredactable"
				break
			}
		}
	}
	if why == "" {
		return
	}
	s.o.Keeper.Refused(ctx, guardbook.RefusalEntry{
		Agent: it.in.Agent, Session: it.in.Session, Path: it.in.Path, Status: http.StatusOK, Code: code,
		Message: "Withheld although policy allowed it, entry " + d.Entry + ": " + why + ".",
	})
	d.Action, d.Message = guardbook.ActionBlock, why+". Choose another approach; do not retry."
	if code == "unreadable_tool_call" {
		d.Rule, d.Severity = "gateway/unreadable", guardbook.Medium
		d.Message = why + ". Write them again as one JSON object."
	}
	d.Content, d.Arguments = nil, nil
}

// note keeps the strictest decision.
func (r *Result) note(d guardbook.Decision) {
	if r.Decision.Entry == "" || r.Decision.Action != d.Action && guardbook.Stricter(r.Decision.Action, d.Action) == d.Action {
		r.Decision = d
	}
}

func blockText(d guardbook.Decision) string { return gateway.BlockText(d) }

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}
