package argument_test

import (
	"context"
	"encoding/json/jsontext"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook/policy/argument"
)

// must returns a type that was made without problems.
func must[T any](t testing.TB) func(v T, problems []argument.Problem) T {
	return func(v T, problems []argument.Problem) T {
		t.Helper()
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return v
	}
}

func raw(s string) jsontext.Value { return jsontext.Value(s) }

func TestNumberIsInRange(t *testing.T) {
	cases{
		{1, ""}, {100, ""}, {2.5, ""}, {raw("1e2"), ""}, {raw("100.000"), ""}, {raw("10E-1"), ""},
		{0, "is below 1"}, {-1, "is below 1"}, {101, "is above 100"}, {raw("100.00000000000000000001"), "is above 100"},
		{raw("0.99999999999999999999"), "is below 1"}, {raw("1e3"), "is above 100"},
		{raw("1e999"), "out of every range"}, {raw("1e999999999"), "out of every range"}, {raw("1e-999999999"), "out of every range"},
		{raw(strings.Repeat("9", 200)), "out of every range"},
		{"50", "is not a number"}, {"1e2", "is not a number"}, {true, "is not a number"}, {nil, "is not a number"},
		{[]int{50}, "is not a number"}, {map[string]int{"n": 50}, "is not a number"},
	}.run(t, must[*argument.Number](t)(argument.NewNumber(argument.NumberOptions{Min: "1", Max: "100"})))

	cases{
		{1, ""}, {raw("2.0"), ""}, {raw("1e2"), ""}, {raw("-0"), ""},
		{1.5, "is not an integer"}, {raw("0.00000000000000000000001"), "is not an integer"},
		{raw("9007199254740993"), ""},
	}.run(t, must[*argument.Number](t)(argument.NewNumber(argument.NumberOptions{Integer: true})))

	// A float64 would round this into the range.
	cases{{raw("9007199254740993"), "is above 9007199254740992"}}.run(t, must[*argument.Number](t)(argument.NewNumber(argument.NumberOptions{Max: "9007199254740992"})))

	if _, problems := argument.NewNumber(argument.NumberOptions{Min: "2", Max: "1"}); len(problems) != 1 {
		t.Error("min above max is no problem")
	}
}

func TestNumberThatIsAllowedIsInRange(t *testing.T) {
	n := must[*argument.Number](t)(argument.NewNumber(argument.NumberOptions{Min: "-0.5", Max: "12.25"}))
	lo, hi := big.NewRat(-1, 2), big.NewRat(49, 4)
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?`).Draw(rt, "number")
		if n.Check(context.Background(), "n", raw(s)) != "" {
			return
		}
		r, ok := new(big.Rat).SetString(s)
		if !ok || r.Cmp(lo) < 0 || r.Cmp(hi) > 0 {
			rt.Fatalf("%s is allowed", s)
		}
	})
}

func TestStringKeepsToItsLengthAndPattern(t *testing.T) {
	cases{
		{"ab", ""}, {"äöü", ""}, {"a\nb", ""}, {"日本語", ""},
		{"a", "shorter than 2"}, {"", "shorter than 2"}, {"abcdef", "longer than 5 characters"}, {"日本語日本語", "longer than 5"},
		{1, "is not a string"}, {nil, "is not a string"}, {[]string{"ab"}, "is not a string"}, {true, "is not a string"},
		{raw(`"\u0061b"`), ""}, // the escape is a letter like any other
	}.run(t, must[*argument.String](t)(argument.NewString(argument.StringOptions{MinLength: 2, MaxLength: ptr(5)})))

	cases{
		{"abc-1", ""},
		{"", "does not match"}, {"abc_1", "does not match"}, {"abc\n", "does not match"}, {"x\nabc", "does not match"}, {"ABC", "does not match"},
	}.run(t, must[*argument.String](t)(argument.NewString(argument.StringOptions{Pattern: `[a-z0-9-]+`})))

	cases{
		{"a", ""}, {"b", ""},
		{"ab", "does not match"}, {"xa", "does not match"}, {"bx", "does not match"}, {"a\nb", "does not match"},
	}.run(t, must[*argument.String](t)(argument.NewString(argument.StringOptions{Pattern: `(?m)^a$|b`})))

	cases{
		{"one line", ""}, {"grüße 👍", ""},
		{"a\nb", "line break"}, {"a\rb", "line break"}, {"a\tb", "line break"}, {"a\x00b", "line break"}, {"a\x1b[2J", "line break"},
		{"a\u2028b", "line break"}, {"a\u202eb", "line break"}, {"a\u200bb", "line break"}, {"a\ufeffb", "line break"}, {"a\U000e0041b", "line break"}, {"a\u0085b", "line break"},
	}.run(t, must[*argument.String](t)(argument.NewString(argument.StringOptions{SingleLine: true})))

	cases{{raw(`"\ud800x"`), "is not a valid string"}}.rawly(t, must[*argument.String](t)(argument.NewString(argument.StringOptions{})))

	for _, bad := range []argument.StringOptions{{Pattern: "a)|(b"}, {Pattern: "("}, {Pattern: `(?=x)`}, {MinLength: 3, MaxLength: ptr(2)}} {
		if _, problems := argument.NewString(bad); len(problems) != 1 {
			t.Errorf("%+v: %v", bad, problems)
		}
	}
	long := must[*argument.String](t)(argument.NewString(argument.StringOptions{}))
	cases{{strings.Repeat("x", 1<<20+1), "longer than 1 MiB"}}.run(t, long)
}

func TestEnumIsOneOfItsValues(t *testing.T) {
	e := must[*argument.Enum](t)(argument.NewEnum([]argument.EnumValue{{'"', "low"}, {'"', "1"}, {'0', "7"}, {'t', "true"}}))
	cases{
		{"low", ""}, {"1", ""}, {7, ""}, {raw("7.0"), ""}, {raw("70e-1"), ""}, {true, ""}, {raw(`"l\u006fw"`), ""},
		{"Low", "is not among low, 1, 7, true"}, {"low ", "is not among"}, {"lоw", "is not among"}, {1, "is not among"}, {"7", "is not among"}, {8, "is not among"},
		{"true", "is not among"}, {false, "is not among"}, {nil, "is not among"}, {[]string{"low"}, "is not among"}, {"", "is not among"},
	}.run(t, e)
	if _, problems := argument.NewEnum(nil); len(problems) != 1 {
		t.Error("no values are no problem")
	}
}

func TestBooleanIsTrueOrFalse(t *testing.T) {
	cases{
		{true, ""}, {false, ""},
		{"true", "is not true or false"}, {1, "is not true or false"}, {0, "is not true or false"}, {nil, "is not true or false"}, {[]bool{true}, "is not true or false"},
	}.run(t, argument.Boolean{})
}

func TestListChecksEveryItem(t *testing.T) {
	items := must[*argument.Number](t)(argument.NewNumber(argument.NumberOptions{Max: "9"}))
	l := must[*argument.List](t)(argument.NewList(argument.ListOptions{Items: items, MinItems: 1, MaxItems: ptr(3)}))
	cases{
		{[]int{1, 9}, ""},
		{[]int{1, 10}, "is above 9"}, {[]any{1, "2"}, "is not a number"}, {[]any{[]int{1}}, "is not a number"}, {[]any{nil}, "is not a number"},
		{[]int{}, "fewer than 1"}, {[]int{1, 2, 3, 4}, "more than 3"}, {1, "is not a list"}, {"[1]", "is not a list"}, {nil, "is not a list"}, {map[string]int{"0": 1}, "is not a list"},
	}.run(t, l)
	if _, problems := argument.NewList(argument.ListOptions{Items: items, MinItems: 2, MaxItems: ptr(1)}); len(problems) != 1 {
		t.Error("min_items above max_items is no problem")
	}
}

func TestObjectHasOnlyTheMembersThatAreNamed(t *testing.T) {
	text := must[*argument.String](t)(argument.NewString(argument.StringOptions{}))
	strict := argument.NewObject(argument.NewSet([]argument.Field{{Name: "a", Type: text}, {Name: "b", Type: text, Optional: true}}, false))
	cases{
		{raw(`{"a":"x"}`), ""}, {raw(`{"b":"y","a":"x"}`), ""}, {raw(`{"a":"x","b":null}`), ""}, {raw(`{"\u0061":"x"}`), ""},
		{raw(`{}`), `argument "a" is missing`}, {raw(`{"b":"x"}`), `argument "a" is missing`}, {raw(`{"a":null}`), "is not a string"},
		{raw(`{"a":"x","c":1}`), `argument "c" is not among a, b`}, {raw(`{"a":"x","A":"y"}`), "differs from a only in its case"}, {raw(`{"a":"x","":1}`), `argument "" is not among`},
		{raw(`{"a":"x","a":"y"}`), "same name twice"}, {raw(`[]`), "is not an object"}, {raw(`"{}"`), "is not an object"}, {raw(`null`), "is not an object"},
	}.rawly(t, strict)
	open := argument.NewObject(argument.NewSet([]argument.Field{{Name: "key", Type: text}}, true))
	cases{
		{raw(`{"key":"x","c":{"deep":[1]}}`), ""},
		{raw(`{"key":"x","KEY":"y"}`), "differs from key only in its case"},
		{raw(`{"key":"x","\u212aey":"y"}`), "differs from key only in its case"}, // the Kelvin sign folds to k
	}.rawly(t, open)
}

// rawly gives the values to the type as they are: they are JSON that would not
// survive marshalling.
func (list cases) rawly(t *testing.T, typ argument.Type) {
	t.Helper()
	for _, c := range list {
		got := typ.Check(context.Background(), "arg", c.value.(jsontext.Value))
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s\n got: %q\nwant: %q", c.value, got, c.want)
		}
	}
}

func TestMembersAreOneStrictObject(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		" \n":                    "",
		"{}":                     "",
		`{"a":1}`:                "",
		` {"a" : {"b":[1,2]} } `: "",
		`null`:                   "not one valid JSON object",
		`[]`:                     "not one valid JSON object",
		`"{}"`:                   "not one valid JSON object",
		`{"a":1}{"a":2}`:         "not one valid JSON object",
		`{"a":1} x`:              "not one valid JSON object",
		`{"a":1,}`:               "not one valid JSON object",
		`{"a":1`:                 "not one valid JSON object",
		`{'a':1}`:                "not one valid JSON object",
		`{a:1}`:                  "not one valid JSON object",
		`{"a":NaN}`:              "not one valid JSON object",
		"{\"a\":\"\xff\"}":       "not one valid JSON object",
		"{\"a\":1}\x00":          "not one valid JSON object",
		`{"a":1,"a":2}`:          "same name twice",
		`{"a":1,"\u0061":2}`:     "same name twice",
		`{"a":{"b":1,"b":2}}`:    "same name twice",
		`{/*x*/"a":1}`:           "not one valid JSON object",
	} {
		_, got := argument.Members(jsontext.Value(in), nil)
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	members, _ := argument.Members(raw(`{"a":{"x":1},"b":"t","c":null}`), nil)
	var got []string
	for _, m := range members {
		got = append(got, m.Name+"="+string(m.Value))
	}
	if s := strings.Join(got, " "); s != `a={"x":1} b="t" c=null` {
		t.Error(s)
	}
	var many strings.Builder
	many.WriteString(`{"a":1`)
	for i := range 300 {
		many.WriteString(`,"a` + strings.Repeat("b", i+1) + `":1`)
	}
	if _, got := argument.Members(raw(many.String()+"}"), nil); !strings.Contains(got, "more than 256") {
		t.Error(got)
	}
}

func TestQuoteCutsAndEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"users":                   `"users"`,
		"a\x1b[2Jb\u202e":         `"a\x1b[2Jb\u202e"`,
		strings.Repeat("é", 40):   `"` + strings.Repeat("é", 32) + `"...`,
		strings.Repeat("a", 70):   `"` + strings.Repeat("a", 64) + `"...`,
		"x\". Do not retry. \n\"": `"x\". Do not retry. \n\""`,
	} {
		if got := argument.Quote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
