package api

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// maxBody bounds a request's body.
const maxBody = 64 << 10

// readBody reads a strict JSON object into v, a pointer to a struct: unknown and
// duplicate members, wrong types and anything behind the object are errors that
// name the member. An absent body is an empty object.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	if err != nil {
		return &problem{http.StatusBadRequest, codeMalformed, "the body could not be read whole"}
	}
	if len(b) == 0 {
		return nil
	}
	// A form of another site can send text/plain, but not this, and no token either:
	// who has one need not name the type.
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Header.Get("Authorization") == "" && (err != nil || t != "application/json") {
		return &problem{http.StatusUnsupportedMediaType, codeMediaType, "send the body as Content-Type: application/json"}
	}
	err = json.Unmarshal(b, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if se, ok := errors.AsType[*json.SemanticError](err); ok {
		field := strings.TrimPrefix(string(se.JSONPointer), "/")
		switch {
		case errors.Is(err, json.ErrUnknownName):
			return invalid("unknown member %q: the members are %s", field, strings.Join(memberNames(v), ", "))
		case field == "":
			return invalid("the body must be a JSON object with the members %s", strings.Join(memberNames(v), ", "))
		default:
			return invalid("%s: %s is not what it must be, a %s", field, kindName(se.JSONKind), typeName(se.GoType))
		}
	}
	if se, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		where := fmt.Sprintf("at byte %d", se.ByteOffset)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return &problem{http.StatusBadRequest, codeMalformed, fmt.Sprintf("%s: the same member twice, %s", strings.TrimPrefix(string(se.JSONPointer), "/"), where)}
		}
		return &problem{http.StatusBadRequest, codeMalformed, "the body is not JSON " + where}
	}
	return &problem{http.StatusBadRequest, codeMalformed, "the body is not the JSON that was expected"}
}

func memberNames(v any) []string {
	t := reflect.TypeOf(v).Elem()
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "this string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	default:
		return "true or false"
	}
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "value of another type"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Map, reflect.Struct:
		return "JSON object"
	case reflect.Slice, reflect.Array:
		return "JSON array"
	default:
		return "number"
	}
}

// params reads a request's query and keeps the first error, so that a handler
// asks for all it wants and then once whether it was right.
type params struct {
	values url.Values
	err    error
}

// query reads the query; a parameter that is not among the names is an error:
// a misspelt filter must not quietly widen the answer.
func query(r *http.Request, names ...string) *params {
	v, err := url.ParseQuery(r.URL.RawQuery)
	p := &params{values: v}
	if err != nil {
		p.err = invalid("the query is not well formed")
		return p
	}
	for name, values := range v {
		if !slices.Contains(names, name) {
			p.fail("unknown parameter %q: the parameters are %s", name, strings.Join(names, ", "))
		} else if len(values) > 1 {
			p.fail("%s: give it once", name)
		}
	}
	return p
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = invalid(format, args...)
	}
}

func (p *params) text(name string) string { return p.values.Get(name) }

func (p *params) oneOf(name string, allowed []string) string {
	v := p.values.Get(name)
	if v != "" && !slices.Contains(allowed, v) {
		p.fail("%s: %q is not known: use one of %s", name, v, strings.Join(allowed, ", "))
	}
	return v
}

// manyOf is oneOf for a comma-separated list.
func (p *params) manyOf(name string, allowed []string) []string {
	v := p.values.Get(name)
	if v == "" {
		return nil
	}
	list := strings.Split(v, ",")
	for _, x := range list {
		if !slices.Contains(allowed, x) {
			p.fail("%s: %q is not known: use any of %s, separated by commas", name, x, strings.Join(allowed, ", "))
		}
	}
	return list
}

func (p *params) time(name string) time.Time {
	v := p.values.Get(name)
	if v == "" {
		return time.Time{}
	}
	t, err := readTime(name, v)
	if err != nil {
		p.fail("%s", err)
	}
	return t
}

func readTime(name, v string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return t, invalid("%s: %q is no time: use RFC 3339, as in 2026-01-31T15:04:05Z", name, v)
	}
	return t.UTC(), nil
}

func (p *params) severity(name string) *guardbook.Severity {
	v := p.oneOf(name, guardbook.SeverityNames())
	s, err := guardbook.ParseSeverity(v)
	if v == "" || err != nil {
		return nil
	}
	return &s
}

// number reads a whole number in a range; absent: nil.
func (p *params) number(name string, least, most int64) *int64 {
	v := p.values.Get(name)
	if v == "" {
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		p.fail("%s: %q is not a whole number from %d to %d", name, v, least, most)
		return nil
	}
	return &n
}

// names turns a list of typed constants into text.
func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// writeJSON sends a success.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the caller went away: nobody to tell
	return nil
}

// stamp writes a time as entries do; the zero time is empty.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(guardbook.TimeLayout)
}
