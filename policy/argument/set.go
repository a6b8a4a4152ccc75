package argument

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"io"
	"strings"
)

// maxMembers bounds how many members an object may have.
const maxMembers = 256

// Set is the arguments that a call, or a nested object, may have.
type Set struct {
	Fields     []Field
	Additional bool // members that no field names pass, too

	names string // the fields' names, for a refusal
}

// Field is one argument.
type Field struct {
	Name     string
	Optional bool // may be missing or null
	Type     Type
}

// NewSet returns a set of fields; their names are unique.
func NewSet(fields []Field, additional bool) *Set {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return &Set{Fields: fields, Additional: additional, names: Among(names)}
}

// Misfit is why members are not what a set allows.
type Misfit struct {
	Reason string // empty: they are
	Field  int    // index of the field that refused; -1: a member that no field names
	Passed int    // how many fields had been satisfied by then
}

// Fit checks members against the set.
func (s *Set) Fit(ctx context.Context, members []Member) Misfit {
	known := 0
	for i := range members {
		name := members[i].Name
		switch found, near := s.find(name); {
		case found:
			known++
		case near != "":
			// A reader that ignores case would take it for the argument that is checked.
			return Misfit{Reason: "argument " + Quote(name) + " differs from " + near + " only in its case", Field: -1, Passed: known}
		case s.Additional:
		case len(s.Fields) == 0:
			return Misfit{Reason: "argument " + Quote(name) + " is not allowed: there may be no arguments", Field: -1, Passed: known}
		default:
			return Misfit{Reason: "argument " + Quote(name) + " is not among " + s.names, Field: -1, Passed: known}
		}
	}
	// A call of which every name is known has come further than one with a name
	// too many, whatever its values are.
	passed := known
	for i := range s.Fields {
		f := &s.Fields[i]
		value := valueOf(members, f.Name)
		if f.Optional && (value == nil || value.Kind() == 'n') {
			passed++
			continue
		}
		if value == nil {
			return Misfit{Reason: "argument " + Quote(f.Name) + " is missing", Field: i, Passed: passed}
		}
		if reason := f.Type.Check(ctx, f.Name, value); reason != "" {
			return Misfit{Reason: reason, Field: i, Passed: passed}
		}
		passed++
	}
	return Misfit{Passed: passed}
}

// find reports whether a field has this name, or else the name of one that
// differs in case only.
func (s *Set) find(name string) (found bool, near string) {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return true, ""
		}
		if near == "" && strings.EqualFold(s.Fields[i].Name, name) {
			near = s.Fields[i].Name
		}
	}
	return false, near
}

// Member is one member of a JSON object.
type Member struct {
	Name  string
	Value jsontext.Value
}

func valueOf(members []Member, name string) jsontext.Value {
	for i := range members {
		if members[i].Name == name {
			return members[i].Value
		}
	}
	return nil
}

// Members takes a call's arguments apart and appends them to out. They have to be
// one JSON object in valid UTF-8 without duplicate names, at any depth; the empty
// text, which some models send for a tool without parameters, is the empty object.
// The values share raw's memory. Problem says why there are none.
func Members(raw jsontext.Value, out []Member) (_ []Member, problem string) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return out, ""
	}
	const notOne = "the arguments are not one valid JSON object"
	why := func(err error) string {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return "the arguments hold the same name twice"
		}
		return notOne
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, notOne
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, why(err)
		}
		m := Member{Name: tok.String()}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, why(err)
		}
		end := int(dec.InputOffset())
		m.Value = raw[end-len(value) : end : end] // what the decoder returned lives only until its next read
		if out = append(out, m); len(out) > maxMembers {
			return nil, "there are more than 256 arguments"
		}
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return nil, why(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, notOne
	}
	return out, ""
}

// Object is a nested object.
type Object struct{ set *Set }

// NewObject returns the constraint that a value is an object of these fields.
func NewObject(set *Set) *Object { return &Object{set} }

// Check implements Type.
func (o *Object) Check(ctx context.Context, name string, value jsontext.Value) string {
	if value.Kind() != '{' {
		return Quote(name) + " is not an object"
	}
	var space [16]Member
	members, problem := Members(value, space[:0])
	if problem != "" {
		return Quote(name) + ": " + problem
	}
	if m := o.set.Fit(ctx, members); m.Reason != "" {
		return Quote(name) + ": " + m.Reason
	}
	return ""
}

// List is a list of values that are all of one type.
type List struct {
	items    Type
	min, max int // max < 0: no bound
}

// ListOptions configures a List.
type ListOptions struct {
	Items    Type
	MinItems int
	MaxItems *int
}

// NewList returns the constraint that a value is a list.
func NewList(o ListOptions) (*List, []Problem) {
	l := &List{items: o.Items, min: o.MinItems, max: -1}
	var problems []Problem
	if o.MaxItems != nil {
		l.max = *o.MaxItems
		if l.min > l.max {
			problems = append(problems, Problem{"min_items", -1, "min_items is above max_items: no list fits"})
		}
	}
	return l, problems
}

// Check implements Type.
func (l *List) Check(ctx context.Context, name string, value jsontext.Value) string {
	if value.Kind() != '[' {
		return Quote(name) + " is not a list"
	}
	items, err := elements(value)
	if err != nil {
		return Quote(name) + " is not a valid list"
	}
	if len(items) < l.min {
		return Quote(name) + " has fewer than " + itoa(l.min) + " items"
	}
	if l.max >= 0 && len(items) > l.max {
		return Quote(name) + " has more than " + itoa(l.max) + " items"
	}
	for _, item := range items {
		if reason := l.items.Check(ctx, name, item); reason != "" {
			return reason
		}
	}
	return ""
}
