package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	check "github.com/santhosh-tekuri/jsonschema/v6"
)

// schema writes the JSON Schema of a policy file from the same lists of fields
// that the reader uses.
func schema() *jsonschema.Schema {
	r := &reader{}
	root := object(r.policyFields(&Policy{}))
	root.Version = jsonschema.Version
	root.ID = "https://github.com/guardbook/guardbook/policy/schema.json"
	root.Title = "Guardbook policy, version 1"
	argument := &jsonschema.Schema{Type: "object", Required: []string{"type"}}
	variants := r.argumentVariants()
	for _, name := range argumentTypes {
		v := object(variants[name].fields)
		kind, _ := v.Properties.Get("type")
		kind.Enum, kind.Const = nil, name
		argument.OneOf = append(argument.OneOf, v)
	}
	root.Definitions = jsonschema.Definitions{"argument": argument}
	return root
}

func object(fields []field) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema}
	for _, f := range fields {
		p := describe(&f.shape)
		p.Description = f.doc
		s.Properties.Set(f.name, p)
		if f.required {
			s.Required = append(s.Required, f.name)
		}
	}
	return s
}

func describe(s *shape) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: s.kind, Pattern: s.pattern, Const: s.one}
	for _, e := range s.enum {
		out.Enum = append(out.Enum, e)
	}
	number := func(v *float64) json.Number {
		if v == nil {
			return ""
		}
		b, _ := json.Marshal(*v)
		return json.Number(b)
	}
	out.Minimum, out.Maximum = number(s.min), number(s.max)
	switch {
	case s.kind == "argument":
		return &jsonschema.Schema{Ref: "#/$defs/argument"}
	case s.kind == "scalar":
		out.Type = ""
		for _, t := range []string{"string", "number", "boolean"} {
			out.OneOf = append(out.OneOf, &jsonschema.Schema{Type: t})
		}
	case s.kind == "array":
		out.Items = describe(s.items)
		if s.nonempty {
			one := uint64(1)
			out.MinItems = &one
		}
	case s.kind == "object" && s.values != nil:
		out.AdditionalProperties = describe(s.values)
	case s.kind == "object":
		return object(s.fields)
	}
	return out
}

func TestTheSchemaIsThatOfTheReader(t *testing.T) {
	got, err := json.MarshalIndent(schema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile("schema.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("schema.json is out of date, run: go test ./policy -update (-want +got):\n%s", d)
	}
}

func TestTheSchemaAcceptsWhatTheReaderAcceptsAndRefusesWhatItRefuses(t *testing.T) {
	f, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := check.UnmarshalJSON(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	compiler := check.NewCompiler()
	if err := compiler.AddResource("policy.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(root *node) error {
		var w strings.Builder
		writeFlow(&w, root, jsonString)
		v, err := check.UnmarshalJSON(strings.NewReader(w.String()))
		if err != nil {
			return err
		}
		return compiled.Validate(v)
	}
	for _, pattern := range []string{"testdata/valid/*.yaml", "../policies/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, path := range files {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(path, src)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(p.root); err != nil {
				t.Error(path, err)
			}
			if err := validate(p.effective()); err != nil {
				t.Error(path, "with its defaults:", err)
			}
		}
	}
	// What only the reader can see: relations between values, and what a host, a
	// pattern or a table has to look like.
	beyond := []string{"arguments.yaml", "denied-anyway.yaml", "names-and-globs.yaml", "nonsense.yaml"}
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, path := range files {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{file: path, src: src}
		root := r.read()
		if root == nil || len(r.errs) > 0 || slices.Contains(beyond, filepath.Base(path)) || path == "testdata/bad/long-line.yaml" {
			continue
		}
		if validate(root) == nil {
			t.Error(path, "is refused by the reader and accepted by the schema")
		}
	}
}
