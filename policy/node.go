package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// node is a YAML value as the policy language knows it: no anchors, aliases, merge
// keys, tags or duplicate keys. Lines and columns count from 1, columns in characters.
type node struct {
	line, column int
	kind         nodeKind
	text         string  // of a scalar, unquoted
	items        []*node // of a list
	fields       []pair  // of a mapping
}

type pair struct {
	name         string
	line, column int
	value        *node
	meant        string // the field that an unknown name probably means
}

type nodeKind int

const (
	kindNull nodeKind = iota
	kindText
	kindNumber // a plain scalar that is a number, as written
	kindBool
	kindList
	kindMapping
	kindBroken // what its problem was is told already
)

func (k nodeKind) String() string {
	return [...]string{"nothing", "text", "a number", "true or false", "a list", "a mapping", "something else"}[k]
}

// field returns the value of a mapping's field, or nil.
func (n *node) field(name string) *node {
	if n == nil {
		return nil
	}
	for _, f := range n.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// has reports whether a mapping has a field, perhaps with a typing error in its name.
func (n *node) has(name string) bool {
	for _, f := range n.fields {
		if f.name == name || f.meant == name {
			return true
		}
	}
	return false
}

// read turns the source into a node and notes every problem of its YAML. It
// returns nil if there is nothing that could be read further.
func (r *reader) read() (root *node) {
	// The YAML parser is not ours: should it fail on some input in a way of its
	// own, the file is refused and the server goes on.
	defer func() {
		if p := recover(); p != nil {
			r.fail(1, 1, "the file cannot be read as YAML")
			root = nil
		}
	}()
	if !r.plainText() || !r.shallow() {
		return nil
	}
	file, err := parser.ParseBytes(r.src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, column, message := 1, 1, err.Error()
		if e, ok := errors.AsType[yaml.Error](err); ok {
			message = e.GetMessage()
			if t := e.GetToken(); t != nil && t.Position != nil {
				line, column = t.Position.Line, t.Position.Column
			}
		}
		message, _, _ = strings.Cut(message, "\n")
		message = strings.ReplaceAll(message, "\t", `\t`)
		if message == "unexpected scalar value type" {
			message = "a value is missing, or begins with * and is not in quotes"
		}
		r.fail(line, column, "this is not valid YAML: "+message)
		return nil
	}
	for _, doc := range file.Docs {
		if d, ok := doc.Body.(*ast.DirectiveNode); ok {
			line, column := position(d)
			r.fail(line, column, "YAML directives (%) are not allowed in a policy")
			continue
		}
		if doc.Body == nil {
			continue
		}
		if root != nil {
			line, column := position(doc.Body)
			if m, ok := doc.Body.(*ast.MappingNode); ok && len(m.Values) > 0 {
				line, column = position(m.Values[0].Key)
			}
			r.fail(line, column, "a second YAML document begins here: one file holds one policy")
			break
		}
		root = r.convert(doc.Body)
	}
	if root == nil && len(r.errs) == 0 {
		r.fail(1, 1, "the file holds no policy: it begins with the field policy")
	}
	return root
}

// plainText refuses what is not text, or does not look like what it is: invalid
// UTF-8, control characters, invisible characters and those that reorder a line.
func (r *reader) plainText() bool {
	if len(r.src) > MaxFileSize {
		r.fail(1, 1, "the file is larger than 1 MiB, the most that is read as a policy")
		return false
	}
	// The YAML parser's time grows with the square of a mapping's length and of some
	// lines' lengths; within these bounds it stays below a few seconds.
	const maxLines, maxColumns = 20_000, 16 << 10
	line, column := 1, 0
	for i := 0; i < len(r.src); {
		c, size := utf8.DecodeRune(r.src[i:])
		column++
		switch {
		case line > maxLines:
			r.fail(line, column, "the file has more than 20000 lines, the most that is read as a policy")
			return false
		case column > maxColumns:
			r.fail(line, column, "the line has more than 16384 characters: break it")
			return false
		case c == utf8.RuneError && size <= 1:
			r.fail(line, column, "the file is not valid UTF-8")
			return false
		case c == '\n':
			line, column = line+1, 0
		case c == '\t' || c == '\r' && i+1 < len(r.src) && r.src[i+1] == '\n':
		case c == 0xfeff && i == 0:
			r.fail(line, column, "the file begins with a byte order mark (U+FEFF): save it as UTF-8 without one")
			return false
		case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			r.fail(line, column, fmt.Sprintf("the character U+%04X does not show, or changes how the line shows: remove it", c))
			return false
		}
		i += size
	}
	return true
}

// shallow refuses nesting that no policy has, before the recursive YAML parser
// meets it: brackets, and the "- - -" of lists in lists on one line. It counts
// brackets in quotes, too; a policy has nowhere near as many.
func (r *reader) shallow() bool {
	const most = 200
	line, column, open, dashes := 1, 0, 0, 0
	for _, c := range string(r.src) {
		column++
		switch c {
		case '\n':
			line, column, dashes = line+1, 0, 0
		case '[', '{':
			open++
		case ']', '}':
			open = max(open-1, 0)
		case '-', '?', ':':
			dashes++
		case ' ', '\t':
		default:
			dashes = 0
		}
		if open > most || dashes > most {
			r.fail(line, max(column, 1), "this is nested deeper than any policy")
			return false
		}
	}
	return true
}

// convert turns a node of the YAML parser into ours.
func (r *reader) convert(n ast.Node) *node {
	line, column := position(n)
	out := &node{line: line, column: column}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.kind = kindMapping
		if !n.IsFlowStyle && len(n.Values) > 0 {
			out.line, out.column = position(n.Values[0].Key)
		}
		r.mapping(out, n.Values)
	case *ast.MappingValueNode:
		out.kind = kindMapping
		out.line, out.column = position(n.Key)
		r.mapping(out, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out.kind = kindList
		for _, v := range n.Values {
			out.items = append(out.items, r.convert(v))
		}
	case *ast.StringNode:
		out.kind, out.text = kindText, n.Value
		if n.Token.Type == token.StringType && number(n.Value) {
			out.kind = kindNumber // 1e3, which the parser takes for text
		}
	case *ast.LiteralNode:
		out.kind, out.text = kindText, n.Value.Value
	case *ast.IntegerNode:
		out.kind, out.text = kindNumber, n.Token.Value
	case *ast.FloatNode:
		out.kind, out.text = kindNumber, n.Token.Value
	case *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = kindNumber, n.GetToken().Value
	case *ast.BoolNode:
		out.kind, out.text = kindBool, "false"
		if n.Value {
			out.text = "true"
		}
	case *ast.NullNode:
	case *ast.AnchorNode:
		r.fail(line, column, "anchors (&) are not allowed in a policy: write the value out where it is used")
		return r.convert(n.Value)
	case *ast.AliasNode:
		out.kind = kindBroken
		r.fail(line, column, "aliases (*) are not allowed in a policy: write the value out, or put it in quotes if it begins with *")
	case *ast.TagNode:
		r.fail(line, column, "tags (!) are not allowed in a policy: remove it, or put the value in quotes")
		if n.Value != nil {
			return r.convert(n.Value)
		}
	default:
		out.kind = kindBroken
		r.fail(line, column, "this kind of YAML is not allowed in a policy")
	}
	return out
}

func (r *reader) mapping(out *node, values []*ast.MappingValueNode) {
	for _, v := range values {
		line, column := position(v.Key)
		var name string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			name = k.Value
		case *ast.MergeKeyNode:
			r.fail(line, column, "merge keys (<<) are not allowed in a policy: write the fields out")
			continue
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
			name = k.GetToken().Value // an argument may have such a name
		default:
			r.fail(line, column, "a field's name is plain or quoted text")
			continue
		}
		value := r.convert(v.Value)
		if i := indexOf(out.fields, name); i >= 0 {
			r.fail(line, column, fmt.Sprintf("field %q is here twice; the first is in line %d", name, out.fields[i].line))
			continue
		}
		out.fields = append(out.fields, pair{name: name, line: line, column: column, value: value})
	}
}

func indexOf(fields []pair, name string) int {
	for i := range fields {
		if fields[i].name == name {
			return i
		}
	}
	return -1
}

// position is where a node begins.
func position(n ast.Node) (line, column int) {
	if n == nil {
		return 1, 1
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return max(t.Position.Line, 1), max(t.Position.Column, 1)
	}
	return 1, 1
}

// number reports whether a plain scalar is a number in the notation of JSON.
func number(s string) bool {
	digits := func() (n int) {
		for n < len(s) && '0' <= s[n] && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n
	}
	s = strings.TrimPrefix(s, "-")
	zero := strings.HasPrefix(s, "0")
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		if s = rest; digits() == 0 {
			return false
		}
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = strings.TrimLeft(s[1:], "+-")
	return digits() > 0 && s == ""
}
