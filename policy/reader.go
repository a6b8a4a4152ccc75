package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reader reads one policy file and gathers every problem that it has.
type reader struct {
	file string
	src  []byte
	errs []*Error
	sql  bool // an argument of type sql was read
}

// maxErrors bounds how many problems of one file are told.
const maxErrors = 100

func (r *reader) fail(line, column int, message string) {
	if len(r.errs) >= maxErrors {
		return
	}
	// The YAML parser's own places are not beyond doubt.
	line, column = min(max(line, 1), bytes.Count(r.src, []byte("\n"))+1), max(column, 1)
	r.errs = append(r.errs, &Error{File: r.file, Line: line, Column: column, Message: message, Excerpt: excerpt(r.src, line, column)})
}

func (r *reader) failAt(n *node, format string, args ...any) {
	if n.kind == kindBroken {
		return // its own problem is told already
	}
	r.fail(n.line, n.column, fmt.Sprintf(format, args...))
}

// sorted returns the problems in the order of the file.
func (r *reader) sorted() []*Error {
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return r.errs
}

// field is one field of a mapping: how it is called, what the schema says of it,
// and what is done with its value. One list of fields serves reader, error
// messages and schema, so that they cannot differ.
type field struct {
	name     string
	doc      string
	required bool
	shape    shape
	read     func(*node)
}

// shape describes a value for the JSON Schema.
type shape struct {
	kind     string // string, integer, number, boolean, array, object, scalar, argument
	enum     []string
	pattern  string
	min, max *float64
	one      any     // the only value
	items    *shape  // of an array
	values   *shape  // of an object with free names
	fields   []field // of an object
	nonempty bool
}

// object reads a mapping. What is its name in messages ("the policy", "a tool").
func (r *reader) object(n *node, what string, fields []field) {
	if n.kind != kindMapping {
		r.failAt(n, "%s has to be a mapping, not %s. Allowed fields: %s", what, n.kind, strings.Join(fieldNames(fields), ", "))
		return
	}
	for i := range n.fields {
		p := &n.fields[i]
		k := slices.IndexFunc(fields, func(f field) bool { return f.name == p.name })
		if k < 0 {
			p.meant = nearest(p.name, fieldNames(fields))
			r.fail(p.line, p.column, unknown("field", p.name, fieldNames(fields)))
			continue
		}
		fields[k].read(p.value)
	}
	for _, f := range fields {
		if f.required && !n.has(f.name) {
			r.failAt(n, "%s needs the field %s: %s", what, f.name, f.doc)
		}
	}
}

func fieldNames(fields []field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// unknown says that a word is not one of those allowed, and which was meant.
func unknown(what, word string, allowed []string) string {
	s := "unknown " + what + " " + shown(word) + ": "
	if near := nearest(word, allowed); near != "" {
		s += "did you mean " + near + "? "
	}
	return s + "allowed: " + strings.Join(allowed, ", ")
}

// shown quotes a word of the file for a message and cuts a long one.
func shown(word string) string {
	if r := []rune(word); len(r) > 60 {
		word = string(r[:60]) + "..."
	}
	return strconv.Quote(word)
}

// text reads a scalar that is text. A number or a boolean is not: whether 010 or
// no means the text or the value is for the author to say, with quotes.
func (r *reader) text(n *node, what string) (string, bool) {
	if n.kind != kindText {
		hint := ""
		if n.kind == kindNumber || n.kind == kindBool {
			hint = ": put it in quotes"
		}
		r.failAt(n, "%s has to be text, not %s%s", what, n.kind, hint)
		return "", false
	}
	if strings.TrimSpace(n.text) == "" {
		r.failAt(n, "%s is empty", what)
		return "", false
	}
	return n.text, true
}

// word reads a scalar that is one of a list of words.
func (r *reader) word(n *node, what string, allowed []string) (string, bool) {
	if n.kind != kindText {
		r.failAt(n, "%s has to be text, not %s. Allowed: %s", what, n.kind, strings.Join(allowed, ", "))
		return "", false
	}
	if !slices.Contains(allowed, n.text) {
		r.failAt(n, "%s", unknown(what, n.text, allowed))
		return "", false
	}
	return n.text, true
}

func (r *reader) boolean(n *node, what string) bool {
	if n.kind != kindBool {
		r.failAt(n, "%s has to be true or false, not %s", what, n.kind)
	}
	return n.kind == kindBool && n.text == "true"
}

// decimal reads a number and returns it as it was written.
func (r *reader) decimal(n *node, what string) (string, bool) {
	if n.kind != kindNumber || !number(n.text) {
		r.failAt(n, "%s has to be a plain decimal number", what)
		return "", false
	}
	return n.text, true
}

// integer reads a whole number between least and most.
func (r *reader) integer(n *node, what string, least, most int) (int, bool) {
	s, ok := r.decimal(n, what)
	if !ok {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most {
		r.failAt(n, "%s has to be a whole number from %d to %d", what, least, most)
		return 0, false
	}
	return v, true
}

// list calls each for every item of a list, which may not be empty.
func (r *reader) list(n *node, what string, each func(*node)) {
	if n.kind != kindList {
		r.failAt(n, "%s has to be a list, not %s", what, n.kind)
		return
	}
	if len(n.items) == 0 {
		r.failAt(n, "%s is an empty list", what)
	}
	for _, item := range n.items {
		each(item)
	}
}

// texts reads a list of texts without duplicates.
func (r *reader) texts(n *node, what string) (out []string) {
	r.list(n, what, func(item *node) {
		if s, ok := r.text(item, what); ok {
			if slices.Contains(out, s) {
				r.failAt(item, "%s holds %s twice", what, shown(s))
				return
			}
			out = append(out, s)
		}
	})
	return out
}

// words reads a list of words out of those allowed, without duplicates.
func (r *reader) words(n *node, what string, allowed []string) (out []string) {
	r.list(n, what, func(item *node) {
		if s, ok := r.word(item, what, allowed); ok {
			if slices.Contains(out, s) {
				r.failAt(item, "%s holds %s twice", what, shown(s))
				return
			}
			out = append(out, s)
		}
	})
	return out
}

// duration reads "15m", "90s", "2h".
func (r *reader) duration(n *node, what string, least, most time.Duration) (time.Duration, bool) {
	d, err := time.ParseDuration(n.text)
	if n.kind != kindText || err != nil || d < least || d > most {
		r.failAt(n, "%s has to be a duration from %s to %s, such as 90s, 15m or 2h", what, least, most)
		return 0, false
	}
	return d, true
}

// glob checks a name in which * stands for any run of characters.
func (r *reader) glob(n *node, what, s string) bool {
	switch {
	case strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' }):
		r.failAt(n, "%s %s holds a space", what, shown(s))
	case strings.ContainsAny(s, `?[]{}!^\|()+$`):
		r.failAt(n, "%s %s holds a character that has no meaning here: a pattern knows only *, which stands for any run of characters", what, shown(s))
	case strings.Contains(s, "**"):
		r.failAt(n, "%s %s: ** means the same as *, write one", what, shown(s))
	case strings.Count(s, "*") > 8 || len(s) > 200:
		r.failAt(n, "%s %s is too long or has more than 8 *", what, shown(s))
	default:
		return true
	}
	return false
}

// nearest returns the allowed word that was probably meant, or "".
func nearest(word string, allowed []string) string {
	if len(word) > 60 {
		return ""
	}
	best, at := "", 2
	if len(word) > 5 {
		at = 3
	}
	for _, a := range allowed {
		if d := distance(strings.ToLower(word), a); d < at && d < len(a) {
			best, at = a, d
		}
	}
	if best == "" && len(word) >= 4 {
		for _, a := range allowed {
			if strings.HasPrefix(a, word) || strings.HasPrefix(word, a) {
				return a
			}
		}
	}
	return best
}

// distance is the edit distance of two words, with a swap of neighbours as one edit.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, row := make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		next := make([]int, len(y)+1)
		next[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}
