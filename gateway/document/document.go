// Package document reads one strict JSON text and remembers the place of every
// value in it, so that a text can be scanned and forwarded byte for byte, and so
// that single values can be replaced without writing the rest anew.
//
// Strict means: one JSON value and nothing after it, no duplicate names in an
// object, valid UTF-8, no unpaired surrogates. Two parsers that are less strict can
// read two meanings from one text, and then what was scanned is not what is obeyed.
package document

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxValues bounds the values in one document. It keeps a small body from growing
// into a large tree: 32 MiB of "[[],[],..." would be more than ten million values.
const MaxValues = 1 << 20

// MaxSize is the largest text that Parse takes.
const MaxSize = 1 << 30

// The codes of a SyntaxError, as they stand in refusal entries.
const (
	CodeMalformed     = "malformed_json"
	CodeDuplicateName = "duplicate_name"
	CodeBadEncoding   = "bad_encoding"
	CodeTooLarge      = "too_large"
)

// SyntaxError says where a text stops being strict JSON.
type SyntaxError struct {
	Code         string // one of the codes above
	Offset       int64  // bytes from the beginning of the text
	Line, Column int    // from 1; the column counts bytes
	Pointer      string // RFC 6901, of the value in which it happened
	Reason       string // says nothing of the content
}

func (e *SyntaxError) Error() string {
	where := fmt.Sprintf("at offset %d (line %d, column %d)", e.Offset, e.Line, e.Column)
	if e.Pointer != "" {
		where += fmt.Sprintf(" within %q", e.Pointer)
	}
	return e.Reason + " " + where
}

// Document is a parsed text. It is not safe for concurrent use.
type Document struct {
	src    string // the text; strings without escapes are parts of it
	nodes  []node
	edits  []edit
	nested []nesting
}

type node struct {
	start, end         int32
	nameStart, nameEnd int32 // of the member's name with its quotes; 0, 0 in an array
	first, next        int32 // indices of nodes; 0: none, since the root is nobody's child
	kind               jsontext.Kind
	removed            bool
}

// Parse reads src. The error is a *SyntaxError.
func Parse(src []byte) (*Document, error) {
	if len(src) > MaxSize {
		return nil, &SyntaxError{Code: CodeTooLarge, Line: 1, Column: 1, Reason: "the text is too large"}
	}
	d := &Document{src: string(src), nodes: make([]node, 0, 16+len(src)/64)}
	dec := jsontext.NewDecoder(bytes.NewBuffer(src))
	var name [2]int32
	var open []frame
	for {
		kind := dec.PeekKind()
		if kind == '}' || kind == ']' {
			if _, err := dec.ReadToken(); err != nil {
				return nil, syntaxError(src, err)
			}
			d.nodes[open[len(open)-1].node].end = int32(dec.InputOffset())
			if open = open[:len(open)-1]; len(open) == 0 {
				break
			}
			continue
		}
		n := node{kind: kind}
		isName := false
		if kind == '{' || kind == '[' {
			if _, err := dec.ReadToken(); err != nil {
				return nil, syntaxError(src, err)
			}
			n.start = int32(dec.InputOffset()) - 1
		} else {
			if len(open) > 0 && d.nodes[open[len(open)-1].node].kind == '{' {
				isName = open[len(open)-1].wantName
			}
			v, err := dec.ReadValue()
			if err != nil {
				return nil, syntaxError(src, err)
			}
			n.end = int32(dec.InputOffset())
			n.start = n.end - int32(len(v))
		}
		if isName {
			name = [2]int32{n.start, n.end}
			open[len(open)-1].wantName = false
			continue
		}
		if len(d.nodes) >= MaxValues {
			return nil, syntaxErrorAt(src, int64(n.start), string(dec.StackPointer()), CodeTooLarge, fmt.Sprintf("more than %d JSON values", MaxValues))
		}
		i := int32(len(d.nodes))
		if len(open) > 0 {
			top := &open[len(open)-1]
			if d.nodes[top.node].kind == '{' {
				n.nameStart, n.nameEnd = name[0], name[1]
				top.wantName = true
			}
			if top.last == 0 {
				d.nodes[top.node].first = i
			} else {
				d.nodes[top.last].next = i
			}
			top.last = i
		}
		d.nodes = append(d.nodes, n)
		if kind == '{' || kind == '[' {
			open = append(open, frame{node: i, wantName: true})
		} else if len(open) == 0 {
			break
		}
	}
	if rest := bytes.TrimLeft(src[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, syntaxErrorAt(src, int64(len(src)-len(rest)), "", CodeMalformed, "more data after the JSON value")
	}
	return d, nil
}

type frame struct {
	node, last int32
	wantName   bool // in an object: the next string is a name
}

func syntaxError(src []byte, err error) *SyntaxError {
	var s *jsontext.SyntacticError
	offset, pointer, reason, code := int64(len(src)), "", "the JSON text is incomplete", CodeMalformed
	if errors.As(err, &s) {
		offset, pointer = s.ByteOffset, string(s.JSONPointer)
		switch {
		case errors.Is(s.Err, jsontext.ErrDuplicateName):
			code, reason = CodeDuplicateName, "an object has the same name twice"
		case !utf8.Valid(src):
			code, reason = CodeBadEncoding, "the text is not valid UTF-8"
			offset = int64(validPrefix(src))
		case errors.Is(s.Err, io.ErrUnexpectedEOF):
		default:
			reason = "the JSON text is malformed"
		}
	}
	return syntaxErrorAt(src, offset, pointer, code, reason)
}

func syntaxErrorAt(src []byte, offset int64, pointer, code, reason string) *SyntaxError {
	offset = min(max(offset, 0), int64(len(src)))
	before := src[:offset]
	if len(pointer) > 200 {
		pointer = "" // deeper than helps anybody
	}
	return &SyntaxError{
		Code: code, Offset: offset, Pointer: pointer, Reason: reason,
		Line:   bytes.Count(before, []byte{'\n'}) + 1,
		Column: int(offset) - bytes.LastIndexByte(before, '\n'),
	}
}

func validPrefix(b []byte) int {
	n := 0
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// Root returns the document's value.
func (d *Document) Root() Value { return Value{d, 0} }

// Value is one value of a document. The zero Value is "not there"; every method
// may be called on it.
type Value struct {
	d *Document
	i int32
}

// Exists reports whether there is a value.
func (v Value) Exists() bool { return v.d != nil }

// Kind is '{', '[', '"', '0' (a number), 't', 'f', 'n', or 0 for a value that is
// not there.
func (v Value) Kind() jsontext.Kind {
	if v.d == nil {
		return 0
	}
	return v.d.nodes[v.i].kind
}

// IsString reports whether v is a string.
func (v Value) IsString() bool { return v.Kind() == '"' }

// IsNull reports whether v is null or not there.
func (v Value) IsNull() bool { k := v.Kind(); return k == 0 || k == 'n' }

// First returns the first element of an array or the value of an object's first member.
func (v Value) First() Value {
	if v.d == nil || v.d.nodes[v.i].first == 0 {
		return Value{}
	}
	return Value{v.d, v.d.nodes[v.i].first}
}

// Next returns the value beside v in the same array or object.
func (v Value) Next() Value {
	if v.d == nil || v.d.nodes[v.i].next == 0 {
		return Value{}
	}
	return Value{v.d, v.d.nodes[v.i].next}
}

// Name returns the name of an object's member, unescaped; "" in an array.
func (v Value) Name() string {
	if v.d == nil {
		return ""
	}
	n := &v.d.nodes[v.i]
	if n.nameEnd == 0 {
		return ""
	}
	return v.d.unquote(n.nameStart, n.nameEnd)
}

// Get returns the member of that name.
func (v Value) Get(name string) Value {
	if v.Kind() != '{' {
		return Value{}
	}
	for c := v.First(); c.Exists(); c = c.Next() {
		if c.Name() == name {
			return c
		}
	}
	return Value{}
}

// Text returns a string's text, unescaped; "" for everything else.
func (v Value) Text() string {
	if !v.IsString() {
		return ""
	}
	n := &v.d.nodes[v.i]
	return v.d.unquote(n.start, n.end)
}

// Raw returns the value as it stands in the source, before any edit.
func (v Value) Raw() string {
	if v.d == nil {
		return ""
	}
	n := &v.d.nodes[v.i]
	return v.d.src[n.start:n.end]
}

// Int returns a number's integer value, or otherwise if it is none.
func (v Value) Int(otherwise int) int {
	if v.Kind() != '0' {
		return otherwise
	}
	n, neg, raw := 0, false, v.Raw()
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == '-' && i == 0:
			neg = true
		case c < '0' || c > '9' || n > 1<<40:
			return otherwise
		default:
			n = n*10 + int(c-'0')
		}
	}
	if neg {
		return -n
	}
	return n
}

// True reports whether v is the literal true.
func (v Value) True() bool { return v.Kind() == 't' }

// Source returns the text as it was parsed.
func (d *Document) Source() string { return d.src }

func (d *Document) unquote(start, end int32) string {
	raw := d.src[start:end]
	inner := raw[1 : len(raw)-1]
	for i := range len(inner) {
		if inner[i] == '\\' {
			b, _ := jsontext.AppendUnquote(nil, raw) // valid: Parse read it
			return string(b)
		}
	}
	return inner
}
