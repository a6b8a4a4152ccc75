package mcp

import (
	"bytes"
	"context"
	"encoding/json" //nolint:depguard // the MCP SDK's types are made for it
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
)

// interaction is an interaction whose parts are the strings of a JSON value, in their
// order.
func (m *middleware) interaction(kind guardbook.Kind, name string, raw []byte) (guardbook.Interaction, error) {
	in := guardbook.Interaction{Kind: kind, Path: via}
	if name != "" {
		in.Tool = &guardbook.Tool{Server: m.server, Name: name}
	}
	if kind == guardbook.KindOutput {
		in.Tool = nil
	}
	err := eachString(raw, func(s string) string {
		in.Content = append(in.Content, guardbook.TextPart(s))
		return s
	}, nil)
	if err != nil {
		return in, fmt.Errorf("guardbook cannot read what the server %s sent: %w", m.server, err)
	}
	if in.Content == nil {
		in.Content = []guardbook.Part{guardbook.TextPart("")}
	}
	return in, nil
}

// check decides on a result. When parts of it are redacted, fresh gets the result
// without them and changed is true.
func (m *middleware) check(ctx context.Context, kind guardbook.Kind, name string, res, fresh any) (changed bool, err error) {
	raw, err := json.Marshal(res)
	if err != nil {
		return false, fmt.Errorf("guardbook cannot read the result: %w", err)
	}
	in, err := m.interaction(kind, name, raw)
	if err != nil {
		return false, err
	}
	ds, err := m.g.Decide(ctx, in)
	if err != nil {
		return false, err
	}
	switch d := ds[0]; {
	case !d.Action.Releases():
		return false, &client.BlockedError{Decision: d}
	case d.Action == guardbook.ActionRedact:
		return true, m.rewrite(res, fresh, d.Content)
	}
	return false, nil
}

// rewrite writes a value with other strings into fresh.
func (m *middleware) rewrite(value, fresh any, content []guardbook.Part) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	i := 0
	err = eachString(raw, func(s string) string {
		if i < len(content) {
			s = content[i].Text
		}
		i++
		return s
	}, &out)
	if err == nil && i != len(content) {
		err = errors.New("the decision redacts other texts than were sent")
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), fresh)
	}
	if err != nil {
		return fmt.Errorf("guardbook cannot redact what the server %s sent: %w", m.server, err)
	}
	return nil
}

// eachString calls fn with every string of a JSON value, and with every object name
// that is more than an identifier, in their order, and writes the value with what fn
// returns to out, if there is one. Names stay as they are.
func eachString(raw []byte, fn func(string) string, out *bytes.Buffer) error {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	var enc *jsontext.Encoder
	if out != nil {
		enc = jsontext.NewEncoder(out)
	}
	for {
		tok, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if tok.Kind() == '"' {
			kind, n := dec.StackIndex(dec.StackDepth())
			s := tok.String()
			switch name := kind == '{' && n%2 == 1; {
			case name && !plain(s):
				if fn(s) != s {
					return errors.New("a name of an object would have to be redacted")
				}
				tok = jsontext.String(s)
			case !name && s != "":
				tok = jsontext.String(fn(s))
			}
		}
		if enc != nil {
			if err := enc.WriteToken(tok); err != nil {
				return err
			}
		}
	}
}

// plain reports whether an object's name is a short identifier.
func plain(s string) bool {
	if len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && c != '-' && c != '.' && c != '$' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
