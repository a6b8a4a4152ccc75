package mcp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/guardbook/guardbook/gateway/document"
)

// shape is what kind of JSON-RPC message something is.
type shape int

const (
	shapeRequest shape = iota
	shapeNotification
	shapeResponse
)

// message is one JSON-RPC message that is well-formed and means one thing only.
type message struct {
	doc    *document.Document
	root   document.Value
	shape  shape
	method string
	id     string // as written: 1 and "1" are two ids; "null" for an error without a request
}

// faultError says why something is no message that can be passed on. It holds
// nothing of the message but its id.
type faultError struct {
	code   string // as in guardbook.RefusalEntry
	rpc    int
	reason string
	id     string // of the request that can be answered; "" if none can be told
	answer bool   // it is an answer to a request
}

func (e *faultError) Error() string { return e.reason }

// envelope are the names of a message's own members.
var envelope = []string{"jsonrpc", "id", "method", "params", "result", "error"}

func syntaxFault(err error) *faultError {
	f := &faultError{code: document.CodeMalformed, rpc: CodeParse, reason: "the message is not strict JSON"}
	var s *document.SyntaxError
	if errors.As(err, &s) {
		f.code, f.reason = s.Code, "the message is not strict JSON: "+s.Error()
	}
	return f
}

// read makes a message of an object in a document.
func read(doc *document.Document, root document.Value) (*message, *faultError) {
	m := &message{doc: doc, root: root}
	bad := func(reason string) (*message, *faultError) {
		return nil, &faultError{code: "malformed_request", rpc: CodeInvalidRequest, reason: reason, id: m.answerable(), answer: root.Get("method").Kind() == 0}
	}
	if root.Kind() != '{' {
		return bad("a message must be a JSON object")
	}
	id := root.Get("id")
	if id.Exists() {
		var ok bool
		if m.id, ok = readID(id); !ok {
			return bad(fmt.Sprintf("an id must be a string or an integer of at most %d bytes", maxID))
		}
	}
	if name := strange(root, envelope); name != "" {
		return bad("the member " + name + " is written in other capitals: some would take it for the one of JSON-RPC, and others would not")
	}
	if root.Get("jsonrpc").Text() != "2.0" {
		return bad("a message must say \"jsonrpc\": \"2.0\"")
	}
	method, result, fault := root.Get("method"), root.Get("result"), root.Get("error")
	switch {
	case method.Exists() && (result.Exists() || fault.Exists()), result.Exists() && fault.Exists():
		return bad("a message is a request or an answer, with a result or an error, and only one of these")
	case method.Exists():
		if !method.IsString() || method.Text() == "" || len(method.Text()) > 256 {
			return bad("the method must be a string of at most 256 bytes")
		}
		if p := root.Get("params"); p.Exists() && p.Kind() != '{' && p.Kind() != '[' {
			return bad("params must be an object")
		}
		m.method, m.shape = method.Text(), shapeNotification
		if id.Exists() {
			m.shape = shapeRequest
			if id.Kind() == 'n' {
				return bad("the id of a request must not be null")
			}
		}
	case result.Exists():
		if m.shape = shapeResponse; !id.Exists() || id.Kind() == 'n' {
			return bad("a result must name the request that it answers")
		}
		if result.Kind() != '{' {
			return bad("a result must be an object")
		}
	case fault.Exists():
		if m.shape = shapeResponse; fault.Kind() != '{' {
			return bad("an error must be an object")
		}
		if !id.Exists() {
			m.id = "null"
		}
		if name := strange(fault, []string{"code", "message", "data"}); name != "" {
			return bad("the member " + name + " of the error is written in other capitals")
		}
	default:
		return bad("a message must have a method, a result or an error")
	}
	return m, nil
}

// answerable is the id that an error about m can name.
func (m *message) answerable() string {
	if m.id == "null" {
		return ""
	}
	return m.id
}

// readID reads an id as it is written. Numbers must be integers in their plain form:
// 1.0, 1e0 and 1.5 are, for some parsers, the same as 1.
func readID(v document.Value) (string, bool) {
	raw := v.Raw()
	if len(raw) > maxID {
		return "", false
	}
	switch v.Kind() {
	case '"':
		return document.Quote(v.Text()), true // "a" and "\u0061" are one id
	case 'n':
		return "null", true
	case '0':
		digits := strings.TrimPrefix(raw, "-")
		if raw == "-0" || strings.Trim(digits, "0123456789") != "" || len(digits) > 19 {
			return "", false
		}
		return raw, true
	}
	return "", false
}

// strange returns the name of a member of v, shown in a way fit for a log, that is
// one of the known names in other capitals: a parser that does not care for them
// would read it, and one that cares would not.
func strange(v document.Value, known []string) string {
	for c := v.First(); c.Exists(); c = c.Next() {
		name := c.Name()
		for _, k := range known {
			if name != k && strings.EqualFold(name, k) {
				return fmt.Sprintf("%q", name)
			}
		}
	}
	return ""
}

// errorMessage is an error answer. id is as written; "" for none.
func errorMessage(id string, code int, message string) []byte {
	if id == "" {
		id = "null"
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}`, id, code, document.Quote(message))
}

// line is a document as one line: a transport may put messages in lines, and a raw
// line end is only white space in JSON. What stands around the message is left out:
// some readers take a space before the line's end for more data.
func line(s string) []byte {
	b := []byte(strings.Trim(s, " \t\r\n"))
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	return b
}
