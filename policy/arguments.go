package policy

import (
	"encoding/json/jsontext"
	"strings"

	"github.com/guardbook/guardbook/policy/argument"
)

// argumentTypes lists the types of arguments in the order of documentation.
var argumentTypes = []string{"sql", "url", "path", "email", "number", "string", "enum", "boolean", "list", "object"}

// argumentShape describes the value of one argument in allow.
func argumentShape() *shape { return &shape{kind: "argument"} }

// argumentVariants describes an argument of each type.
func (r *reader) argumentVariants() map[string]*shape {
	variants := map[string]*shape{}
	for _, name := range argumentTypes {
		var optional bool
		fields, _ := r.typeFields(name)
		variants[name] = &shape{kind: "object", fields: append(r.commonFields(&optional), fields...)}
	}
	return variants
}

// arguments reads what a tool, or a nested object, may be called with.
func (r *reader) arguments(n *node, additional bool) *argument.Set {
	if n.kind != kindMapping {
		r.failAt(n, "allow has to be a mapping of arguments to types, not %s: {query: {type: string}}, or {} for no arguments", n.kind)
		return argument.NewSet(nil, additional)
	}
	var fields []argument.Field
	for _, p := range n.fields {
		switch {
		case strings.TrimSpace(p.name) == "" || len(p.name) > 200:
			r.fail(p.line, p.column, "the name of an argument is empty or longer than 200 characters")
		case strings.ContainsRune(p.name, '*'):
			r.fail(p.line, p.column, "the name of an argument is exact: "+shown(p.name)+" would match an argument of just this name; additional: true allows arguments that are not named")
		}
		t, optional := r.argument(p.value, shown(p.name))
		fields = append(fields, argument.Field{Name: p.name, Optional: optional, Type: t})
	}
	return argument.NewSet(fields, additional)
}

// argument reads one type with its options. With a problem the type is nil.
func (r *reader) argument(n *node, what string) (t argument.Type, optional bool) {
	if n.kind != kindMapping {
		r.failAt(n, "argument %s has to be a mapping with a type, not %s: {type: string}. Allowed types: %s", what, n.kind, strings.Join(argumentTypes, ", "))
		return nil, false
	}
	kind := n.field("type")
	if kind == nil {
		r.failAt(n, "argument %s needs the field type: allowed: %s", what, strings.Join(argumentTypes, ", "))
		return nil, false
	}
	name, ok := r.word(kind, "type", argumentTypes)
	if !ok {
		return nil, false
	}
	before := len(r.errs)
	fields, build := r.typeFields(name)
	r.object(n, "argument "+what+" of type "+name, append(r.commonFields(&optional), fields...))
	if len(r.errs) > before {
		return nil, optional
	}
	t, problems := build()
	for _, p := range problems {
		at := n
		if f := n.field(p.Field); f != nil {
			if at = f; p.Index >= 0 && p.Index < len(f.items) {
				at = f.items[p.Index]
			}
		}
		r.failAt(at, "%s", p.Message)
	}
	return t, optional
}

func (r *reader) commonFields(optional *bool) []field {
	return []field{
		{name: "type", required: true, shape: shape{kind: "string", enum: argumentTypes}, doc: "the argument's type", read: func(*node) {}},
		{
			name: "optional", shape: shape{kind: "boolean"}, doc: "the argument may be missing or null; default: false",
			read: func(n *node) { *optional = r.boolean(n, "optional") },
		},
	}
}

// build makes a type of the options that its fields have read.
type build func() (argument.Type, []argument.Problem)

// typeFields returns the options of a type.
func (r *reader) typeFields(name string) ([]field, build) {
	switch name {
	case "sql":
		return r.sqlFields()
	case "url":
		return r.urlFields()
	case "path":
		var roots []string
		return []field{r.textsField("roots", true, "folders inside which paths are allowed: absolute, or relative (\".\") for relative paths", &roots)},
			func() (argument.Type, []argument.Problem) { return argument.NewPath(roots) }
	case "email":
		var o argument.EmailOptions
		return []field{
				r.textsField("domains", false, "domains, or *.domain for every name below one", &o.Domains),
				r.textsField("addresses", false, "single addresses that are allowed besides", &o.Addresses),
				r.countField("max_recipients", 1, "the most addresses in one call", &o.MaxRecipients),
			},
			func() (argument.Type, []argument.Problem) { return argument.NewEmail(o) }
	case "number":
		var o argument.NumberOptions
		return []field{
				r.decimalField("min", "the least value", &o.Min),
				r.decimalField("max", "the greatest value", &o.Max),
				r.booleanField("integer", "no fraction", &o.Integer),
			},
			func() (argument.Type, []argument.Problem) { return argument.NewNumber(o) }
	case "string":
		return r.stringFields()
	case "enum":
		var values []argument.EnumValue
		return []field{{
				name: "values", required: true, shape: shape{kind: "array", nonempty: true, items: &shape{kind: "scalar"}},
				doc: "the allowed values: text, numbers, true or false", read: func(n *node) { values = r.enumValues(n) },
			}},
			func() (argument.Type, []argument.Problem) { return argument.NewEnum(values) }
	case "boolean":
		return nil, func() (argument.Type, []argument.Problem) { return argument.Boolean{}, nil }
	case "list":
		return r.listFields()
	default:
		return r.objectFields()
	}
}

func (r *reader) sqlFields() ([]field, build) {
	r.sql = true
	o := argument.SQLOptions{Statements: []string{}}
	return []field{
			{
				name: "dialect", required: true, shape: shape{kind: "string", enum: argument.SQLDialects()}, doc: "the database's dialect, of those with a real parser",
				read: func(n *node) { o.Dialect, _ = r.word(n, "dialect", argument.SQLDialects()) },
			},
			{
				name: "statements", required: true, shape: shape{kind: "array", nonempty: true, items: &shape{kind: "string", enum: argument.SQLStatements()}},
				doc: "the kinds of statement", read: func(n *node) { o.Statements = r.words(n, "statement", argument.SQLStatements()) },
			},
			r.textsField("tables", true, "the tables, as the database stores their names: name, schema.name, schema.*", &o.Tables),
			r.textsField("columns", false, "the only columns that may be read or written; default: any", &o.Columns),
			r.textsField("functions", false, "functions that may be called besides PostgreSQL's harmless ones", &o.Functions),
			r.booleanField("require_where", "what reads or changes a table needs a WHERE that compares a column", &o.RequireWhere),
			r.countField("max_limit", 0, "a select needs a LIMIT of at most this many rows", &o.MaxLimit),
		},
		func() (argument.Type, []argument.Problem) { return argument.NewSQL(o) }
}

func (r *reader) urlFields() ([]field, build) {
	var o argument.URLOptions
	return []field{
			{
				name: "schemes", shape: shape{kind: "array", nonempty: true, items: &shape{kind: "string", enum: argument.URLSchemes()}},
				doc: "default: [https]", read: func(n *node) { o.Schemes = r.words(n, "scheme", argument.URLSchemes()) },
			},
			r.textsField("hosts", true, "names, *.name for every name below one, * for every public name, addresses and networks", &o.Hosts),
			{
				name: "ports", shape: shape{kind: "array", nonempty: true, items: &shape{kind: "integer"}}, doc: "default: the scheme's own",
				read: func(n *node) {
					r.list(n, "ports", func(item *node) {
						if p, ok := r.integer(item, "a port", 1, 65535); ok {
							o.Ports = append(o.Ports, p)
						}
					})
				},
			},
			r.textsField("paths", false, "paths, with * for any run of characters; default: any", &o.Paths),
		},
		func() (argument.Type, []argument.Problem) { return argument.NewURL(o) }
}

func (r *reader) stringFields() ([]field, build) {
	var o argument.StringOptions
	var least *int
	return []field{
			r.countField("min_length", 0, "the least length in characters", &least),
			r.countField("max_length", 0, "the greatest length in characters", &o.MaxLength),
			{
				name: "pattern", shape: shape{kind: "string"}, doc: "a regular expression (RE2) that the whole text has to match",
				read: func(n *node) { o.Pattern, _ = r.text(n, "pattern") },
			},
			r.booleanField("single_line", "no line break, no other control character, nothing invisible", &o.SingleLine),
		},
		func() (argument.Type, []argument.Problem) {
			if least != nil {
				o.MinLength = *least
			}
			return argument.NewString(o)
		}
}

func (r *reader) listFields() ([]field, build) {
	var o argument.ListOptions
	var least *int
	return []field{
			{
				name: "items", required: true, shape: shape{kind: "argument"}, doc: "the type of every item",
				read: func(n *node) { o.Items = r.item(n) },
			},
			r.countField("min_items", 0, "the least number of items", &least),
			r.countField("max_items", 0, "the greatest number of items", &o.MaxItems),
		},
		func() (argument.Type, []argument.Problem) {
			if least != nil {
				o.MinItems = *least
			}
			return argument.NewList(o)
		}
}

// item reads the type of a list's items, which cannot be optional.
func (r *reader) item(n *node) argument.Type {
	t, _ := r.argument(n, "items")
	if f := n.field("optional"); f != nil {
		r.failAt(f, "optional has no meaning for the items of a list")
	}
	return t
}

func (r *reader) objectFields() ([]field, build) {
	var set *argument.Set
	var additional bool
	return []field{
			{
				name: "allow", required: true, shape: shape{kind: "object", values: argumentShape()}, doc: "the members that the object may have, each with its type",
				read: func(n *node) { set = r.arguments(n, false) },
			},
			r.booleanField("additional", "members that allow does not name pass unchecked", &additional),
		},
		func() (argument.Type, []argument.Problem) {
			set.Additional = additional
			return argument.NewObject(set), nil
		}
}

func (r *reader) enumValues(n *node) (out []argument.EnumValue) {
	r.list(n, "values", func(item *node) {
		kind := jsontext.Kind('"')
		switch {
		case item.kind == kindText:
		case item.kind == kindNumber && number(item.text):
			kind = '0'
		case item.kind == kindBool:
			kind = jsontext.Kind(item.text[0])
		default:
			r.failAt(item, "a value has to be text, a plain decimal number, true or false, not %s", item.kind)
			return
		}
		out = append(out, argument.EnumValue{Kind: kind, Text: item.text})
	})
	return out
}

func (r *reader) textsField(name string, required bool, doc string, into *[]string) field {
	return field{
		name: name, required: required, doc: doc, shape: shape{kind: "array", nonempty: true, items: &shape{kind: "string"}},
		read: func(n *node) { *into = r.texts(n, name) },
	}
}

func (r *reader) booleanField(name, doc string, into *bool) field {
	return field{name: name, doc: doc + "; default: false", shape: shape{kind: "boolean"}, read: func(n *node) { *into = r.boolean(n, name) }}
}

func (r *reader) decimalField(name, doc string, into *string) field {
	return field{name: name, doc: doc, shape: shape{kind: "number"}, read: func(n *node) { *into, _ = r.decimal(n, name) }}
}

func (r *reader) countField(name string, least int, doc string, into **int) field {
	low := float64(least)
	return field{name: name, doc: doc, shape: shape{kind: "integer", min: &low}, read: func(n *node) {
		if v, ok := r.integer(n, name, least, 1<<30); ok {
			*into = &v
		}
	}}
}
