package document

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRefusesWhatTwoParsersCouldReadDifferently(t *testing.T) {
	for name, c := range map[string]struct {
		in, code     string
		line, column int
	}{
		"empty":              {"", CodeMalformed, 1, 1},
		"cut":                {`{"a": [1, 2`, CodeMalformed, 1, 12},
		"trailing data":      {"{}\n{}", CodeMalformed, 2, 1},
		"duplicate name":     {"{\"a\":1,\n \"a\":2}", CodeDuplicateName, 2, 2},
		"escaped duplicate":  {`{"a":1,"\u0061":2}`, CodeDuplicateName, 1, 8},
		"invalid UTF-8":      {"{\"a\":\"\xff\"}", CodeBadEncoding, 1, 7},
		"unpaired surrogate": {`{"a":"\ud800"}`, CodeMalformed, 1, 7},
		"comment":            {`{/**/}`, CodeMalformed, 1, 2},
		"NaN":                {`[NaN]`, CodeMalformed, 1, 2},
		"control character":  {"[\"\x01\"]", CodeMalformed, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.in))
			var s *SyntaxError
			if !errors.As(err, &s) {
				t.Fatalf("got %v", err)
			}
			if s.Code != c.code || s.Line != c.line || s.Column != c.column {
				t.Errorf("got %s at %d:%d (%v), want %s at %d:%d", s.Code, s.Line, s.Column, err, c.code, c.line, c.column)
			}
		})
	}
}

func TestParseBoundsTheNumberOfValues(t *testing.T) {
	_, err := Parse([]byte("[" + strings.Repeat("0,", MaxValues) + "0]"))
	var s *SyntaxError
	if !errors.As(err, &s) || s.Code != CodeTooLarge {
		t.Fatalf("got %v", err)
	}
}

func TestEditsLeaveEveryOtherByte(t *testing.T) {
	for name, c := range map[string]struct {
		in, want string
		edit     func(Value)
	}{
		"nothing":             {` { "a" : 1.0e0 } `, ` { "a" : 1.0e0 } `, func(Value) {}},
		"text":                {`{"a": "x", "b":2}`, `{"a": "y\"", "b":2}`, func(v Value) { v.Get("a").SetText(`y"`) }},
		"remove first":        {`[1, 2, 3]`, `[2, 3]`, func(v Value) { v.First().Remove() }},
		"remove last":         {`[1, 2, 3]`, `[1, 2]`, func(v Value) { v.First().Next().Next().Remove() }},
		"remove all":          {`[ 1, 2 ]`, `[  ]`, func(v Value) { v.First().Remove(); v.First().Next().Remove() }},
		"remove first two":    {`[1,2,3]`, `[3]`, func(v Value) { v.First().Remove(); v.First().Next().Remove() }},
		"remove outer two":    {`[1,2,3]`, `[2]`, func(v Value) { v.First().Remove(); v.First().Next().Next().Remove() }},
		"remove member":       {`{"a":1, "b":2, "c":3}`, `{"a":1, "c":3}`, func(v Value) { v.Get("b").Remove() }},
		"remove then add":     {`{"a":1}`, `{"b":2}`, func(v Value) { v.Get("a").Remove(); v.Add("b", "2") }},
		"add two":             {`{"a":1}`, `{"a":1,"b":2,"c":3}`, func(v Value) { v.Add("b", "2"); v.Add("c", "3") }},
		"add to empty":        {`{}`, `{"b":2,"c":3}`, func(v Value) { v.Add("b", "2"); v.Add("c", "3") }},
		"outer edit wins":     {`{"a":{"b":"x"}}`, `{"a":null}`, func(v Value) { v.Get("a").Get("b").SetText("y"); v.Get("a").SetRaw("null") }},
		"later edit wins":     {`{"a":"x"}`, `{"a":"z"}`, func(v Value) { v.Get("a").SetText("y"); v.Get("a").SetText("z") }},
		"removal wins":        {`{"a":"x","b":1}`, `{"b":1}`, func(v Value) { v.Get("a").SetText("y"); v.Get("a").Remove() }},
		"name":                {`{"a":{"x y":1}}`, `{"a":{"z":1}}`, func(v Value) { v.Get("a").First().NamePlace().SetText("z") }},
		"nested":              {`{"a":"{\"b\": \"x\"}"}`, `{"a":"{\"b\": \"y\"}"}`, func(v Value) { n, _ := v.Get("a").Nested(); n.Root().Get("b").SetText("y") }},
		"nested, not changed": {`{"a":"{\u0022b\": \"x\"}"}`, `{"a":"{\u0022b\": \"x\"}"}`, func(v Value) { _, _ = v.Get("a").Nested() }},
		"escaped name":        {`{"\u0061":"x"}`, `{"\u0061":"y"}`, func(v Value) { v.Get("a").SetText("y") }},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			c.edit(d.Root())
			if got := d.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if d.Changed() != (c.in != c.want) {
				t.Errorf("Changed() = %v", d.Changed())
			}
		})
	}
}

func TestStringsListsEveryTextAndEveryNameThatIsOne(t *testing.T) {
	d, err := Parse([]byte(`{"a":"one","b":["two",{"ignore all rules":"three"}],"c":7,"d":""}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	d.Root().Strings(func(_ Place, s string) { got = append(got, s) })
	if want := []string{"one", "two", "ignore all rules", "three"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is removed and replaced, what comes out is strict JSON and means what
// the same steps on the decoded value mean.
func TestEditsKeepTheDocumentWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "n")
		elems := make([]string, n)
		for i := range elems {
			elems[i] = rapid.SampledFrom([]string{`"x"`, ` {"a" : "b"}`, `[1 ,2]`, `null `}).Draw(t, "e")
		}
		d, err := Parse([]byte("[" + strings.Join(elems, ",") + "]"))
		if err != nil {
			t.Fatal(err)
		}
		want := []any{}
		for v := d.Root().First(); v.Exists(); v = v.Next() {
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0:
				v.Remove()
			case 1:
				v.SetText("new")
				want = append(want, "new")
			default:
				var a any
				if err := json.Unmarshal([]byte(v.Raw()), &a); err != nil {
					t.Fatal(err)
				}
				want = append(want, a)
			}
		}
		var got any
		if err := json.Unmarshal([]byte(d.String()), &got); err != nil {
			t.Fatalf("%v: %s", err, d)
		}
		if !reflect.DeepEqual(got, any(want)) {
			t.Fatalf("got %v, want %v from %s", got, want, d)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",{"b":null}],"c":"{\"d\":1}"}`, `[]`, `"x"`, `{"a":1,"a":2}`, "\xff", `{"a":"\u0041"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := Parse(in)
		if valid := jsontext.Value(in).IsValid(); valid != (err == nil) {
			t.Fatalf("jsontext says valid=%v, Parse says %v", valid, err)
		}
		if err != nil {
			return
		}
		d.Root().Strings(func(p Place, s string) { p.SetText(s) })
		if out := d.String(); !jsontext.Value(out).IsValid() {
			t.Fatalf("%q became %q", in, out)
		}
		for v := d.Root().First(); v.Exists(); v = v.Next() {
			v.Remove()
		}
		if out := d.String(); !jsontext.Value(out).IsValid() {
			t.Fatalf("%q emptied became %q", in, out)
		}
	})
}
