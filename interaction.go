package guardbook

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// DefaultTenant is the tenant of a single-tenant installation.
const DefaultTenant = "default"

// Interaction is one thing an agent takes in or puts out.
type Interaction struct {
	Kind    Kind
	Tenant  string // DefaultTenant when there is only one
	Agent   string // the agent's registered name
	Session string // the caller's id for one run or conversation
	User    string // the end user on whose behalf the agent acts, if told
	Parent  string // the agent that delegated to this one, if told
	Role    string // for inputs taken from a conversation: system, user, assistant; else ""
	Tool    *Tool  // set for tool_call, tool_result (when known) and tool_definition
	Content []Part // the texts; empty for a tool_call, whose texts are its arguments
	Context string // the system prompt and the request that the agent works on, if known
	// Client is the id of the caller's process, made at its start, and ClientSeq its
	// own sequence number (1, 2, 3...), so that a gap between caller and book is
	// visible; "" and 0 mean that none was given.
	Client    string
	ClientSeq int64
	// Deferred says that the client asks again before it acts on this: a tool call of
	// an answer whose client asks about every call before it runs it. The decision is
	// recorded and not enforced.
	Deferred bool
	Path     string // the entry path: "inspect", "openai/chat", "anthropic/messages"
}

// Tool names a tool and, for a call, its arguments.
type Tool struct {
	Server    string         `json:"server,omitzero"`
	Name      string         `json:"name"`
	CallID    string         `json:"call_id,omitzero"`
	Arguments jsontext.Value `json:"arguments,omitzero"` // a JSON object; as scanned, byte for byte
}

// Part is one piece of content. Parts of type "text" are scanned; other types
// (image, audio, file) are named but not read.
type Part struct {
	Type string `json:"type"`
	Text string `json:"text,omitzero"`
}

// TextPart returns a text part.
func TextPart(s string) Part { return Part{Type: "text", Text: s} }

// Text is one string of an interaction and where it is: a JSON pointer (RFC 6901)
// from the interaction, "/content/0" or "/arguments/query".
type Text struct {
	Path string
	Text string
}

// Texts lists every string that detectors must read: content parts, every string
// (keys too) inside a tool call's arguments, and the tool's name.
// It fails when the arguments are not one strict JSON value.
func (in *Interaction) Texts() ([]Text, error) {
	var out []Text
	for i, p := range in.Content {
		if p.Type == "text" && p.Text != "" {
			out = append(out, Text{"/content/" + strconv.Itoa(i), p.Text})
		}
	}
	if in.Kind == KindToolCall && in.Tool != nil && len(in.Tool.Arguments) > 0 {
		args, err := StringsIn(in.Tool.Arguments)
		if err != nil {
			return out, fmt.Errorf("tool arguments: %w", err)
		}
		for _, a := range args {
			out = append(out, Text{"/arguments" + a.Path, a.Text})
		}
	}
	return out, nil
}

// StringsIn lists every non-empty string value in a JSON value with its JSON
// pointer, and every object name that is not a plain identifier (an object's
// name is text that a model reads, too) under the pointer of its member with
// "#name" appended. Duplicate names and invalid UTF-8 are errors.
func StringsIn(v jsontext.Value) ([]Text, error) {
	var out []Text
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	for {
		tok, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if tok.Kind() != '"' {
			continue
		}
		s := tok.String()
		if s == "" {
			continue
		}
		kind, n := dec.StackIndex(dec.StackDepth())
		if kind == '{' && n%2 == 1 { // a name was just read
			if !plainName(s) {
				out = append(out, Text{string(dec.StackPointer()) + "#name", s})
			}
			continue
		}
		out = append(out, Text{string(dec.StackPointer()), s})
	}
}

// plainName reports whether an object's name is too short and plain to carry an
// instruction or a secret.
func plainName(s string) bool {
	return len(s) <= 64 && !slices.ContainsFunc([]byte(s), func(c byte) bool { return !plainByte(c) })
}

func plainByte(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == '$' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
