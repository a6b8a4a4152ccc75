package api_test

import (
	"bytes"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/api"
	"github.com/guardbook/guardbook/respond"
)

// document is the OpenAPI document, read once.
type document struct {
	root     map[string]any
	compiler *jsonschema.Compiler
	mu       sync.Mutex
}

var readDocument = sync.OnceValues(func() (*document, error) {
	j, err := yaml.YAMLToJSON(api.OpenAPI())
	if err != nil {
		return nil, err
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openapi.json", root); err != nil {
		return nil, err
	}
	return &document{root: root.(map[string]any), compiler: c}, nil
})

func openDocument(t *testing.T) *document {
	t.Helper()
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// at walks the document; nil if there is nothing.
func (d *document) at(names ...string) any {
	var v any = d.root
	for _, n := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[n]
	}
	return v
}

// operation finds the path of the document that a request's path belongs to: the
// one with the fewest parameters.
func (d *document) operation(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	best, fewest := "", 1000
	for pattern, item := range d.root["paths"].(map[string]any) {
		if _, ok := item.(map[string]any)[strings.ToLower(method)]; !ok {
			continue
		}
		if n := strings.Count(pattern, "{"); n < fewest && fits(pattern, path) {
			best, fewest = pattern, n
		}
	}
	return best
}

func fits(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		if w == "{path}" { // the one parameter that spans segments
			return len(got) > i
		}
		if i >= len(got) || !strings.HasPrefix(w, "{") && w != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}

// checkAnswer holds an answer of the server against the document.
func checkAnswer(t *testing.T, method, path string, a answer) {
	t.Helper()
	d := openDocument(t)
	pattern := d.operation(method, path)
	if pattern == "" {
		if a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s answered %d, and the document has no such operation", method, path, a.status)
		}
		return
	}
	responses := []string{"paths", pattern, strings.ToLower(method), "responses"}
	status := strconv.Itoa(a.status)
	if d.at(append(responses, status)...) == nil {
		if a.status < 400 {
			t.Errorf("%s %s answered %d, which the document does not name", method, path, a.status)
			return
		}
		responses, status = []string{"components", "responses"}, "Error"
	}
	content := append(slices.Clone(responses), status, "content")
	if d.at(content...) == nil {
		if len(a.body) > 0 {
			t.Errorf("%s %s answered with a body, and the document has none: %s", method, path, a.body)
		}
		return
	}
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || d.at(append(content, media)...) == nil {
		t.Errorf("%s %s answered %q, which the document does not name", method, path, a.header.Get("Content-Type"))
		return
	}
	if media != "application/json" {
		return
	}
	at := "openapi.json#"
	for _, n := range append(content, media, "schema") {
		at += "/" + escape(n)
	}
	d.mu.Lock()
	schema, err := d.compiler.Compile(at)
	d.mu.Unlock()
	if err != nil {
		t.Fatalf("compile %s: %v", at, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		t.Errorf("%s %s: the answer is not what the document says: %v\n%s", method, path, err, a.body)
	}
}

func TestTheDocumentAndTheServerHaveTheSameRoutes(t *testing.T) {
	d := openDocument(t)
	var documented []string
	for path, item := range d.root["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	served := api.RouteList()
	for i, r := range served {
		served[i] = strings.ReplaceAll(r, "{path...}", "{path}")
	}
	slices.Sort(documented)
	slices.Sort(served)
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Errorf("document (-) and server (+) differ:\n%s", diff)
	}
}

func TestEverySchemaAndReferenceOfTheDocumentIsSound(t *testing.T) {
	d := openDocument(t)
	for name := range d.at("components", "schemas").(map[string]any) {
		if _, err := d.compiler.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
	ids := map[string]bool{}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...) == nil {
					t.Errorf("%s refers to %s, which is not there", at, ref)
				}
			}
			if id, ok := v["operationId"].(string); ok {
				if ids[id] {
					t.Errorf("operationId %s twice", id)
				}
				ids[id] = true
			}
			for k, x := range v {
				walk(at+"/"+k, x)
			}
		case []any:
			for _, x := range v {
				walk(at, x)
			}
		}
	}
	walk("", d.root)
}

func TestPathParametersOfTheDocumentAreDescribed(t *testing.T) {
	d := openDocument(t)
	for path, item := range d.root["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			described := map[string]bool{}
			params, _ := op.(map[string]any)["parameters"].([]any)
			for _, p := range params {
				m := p.(map[string]any)
				if ref, ok := m["$ref"].(string); ok {
					m = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
				}
				if m["in"] == "path" {
					described[m["name"].(string)] = true
				}
			}
			for part := range strings.SplitSeq(path, "/") {
				if name, ok := strings.CutPrefix(part, "{"); ok && !described[strings.TrimSuffix(name, "}")] {
					t.Errorf("%s %s: parameter %s is not described", method, path, part)
				}
			}
		}
	}
}

// The document's lists of allowed values are those of the code.
func TestTheDocumentNamesTheSameValuesAsTheCode(t *testing.T) {
	d := openDocument(t)
	for schema, want := range map[string][]string{
		"Class": texts(guardbook.Classes), "Severity": guardbook.SeverityNames(), "Action": texts(guardbook.Actions),
		"State": texts(respond.States), "Disposition": respond.Dispositions,
	} {
		var got []string
		for _, v := range d.at("components", "schemas", schema, "enum").([]any) {
			got = append(got, v.(string))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", schema, diff)
		}
	}
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

func TestTheDocumentIsServedToAnybody(t *testing.T) {
	w := newWorld(t)
	a := w.callAs(t, nil, "GET", "/api/openapi.yaml", nil).want(t, 200)
	if !bytes.Equal(a.body, api.OpenAPI()) {
		t.Error("another document is served")
	}
}
