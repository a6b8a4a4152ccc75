package argument

import (
	"context"
	"encoding/json/jsontext"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Boolean is true or false, not text and not 0 or 1.
type Boolean struct{}

// Check implements Type.
func (Boolean) Check(_ context.Context, name string, value jsontext.Value) string {
	if k := value.Kind(); k != 't' && k != 'f' {
		return Quote(name) + " is not true or false"
	}
	return ""
}

// Number is a JSON number; digits in a string are not one.
type Number struct {
	min, max *big.Rat
	minText  string
	maxText  string
	integer  bool
}

// NumberOptions configures a Number. Min and Max are decimal numbers, inclusive;
// an empty one is no bound.
type NumberOptions struct {
	Min, Max string
	Integer  bool // without a fraction; 2.0 is an integer
}

// NewNumber returns the constraint that a value is a number.
func NewNumber(o NumberOptions) (*Number, []Problem) {
	n := &Number{minText: o.Min, maxText: o.Max, integer: o.Integer}
	var problems []Problem
	bound := func(field, s string) *big.Rat {
		if s == "" {
			return nil
		}
		r, ok := rational(s)
		if !ok {
			problems = append(problems, Problem{field, -1, field + " is not a decimal number"})
		}
		return r
	}
	n.min, n.max = bound("min", o.Min), bound("max", o.Max)
	if n.min != nil && n.max != nil && n.min.Cmp(n.max) > 0 {
		problems = append(problems, Problem{"min", -1, "min is above max: no number fits"})
	}
	return n, problems
}

// Check implements Type. It compares exactly: no number is rounded into a bound.
func (n *Number) Check(_ context.Context, name string, value jsontext.Value) string {
	if value.Kind() != '0' {
		return Quote(name) + " is not a number"
	}
	r, ok := rational(string(value))
	switch {
	case !ok:
		return Quote(name) + " is a number out of every range"
	case n.integer && !r.IsInt():
		return Quote(name) + " is not an integer"
	case n.min != nil && r.Cmp(n.min) < 0:
		return Quote(name) + " is below " + n.minText
	case n.max != nil && r.Cmp(n.max) > 0:
		return Quote(name) + " is above " + n.maxText
	}
	return ""
}

// rational reads a decimal number exactly. Lengths and exponents are bounded, so
// that 1e999999999 does not become a gigabyte of digits.
func rational(s string) (*big.Rat, bool) {
	if len(s) > 100 || strings.ContainsAny(s, "_/xXpP") {
		return nil, false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(s[i+1:]); err != nil || e < -400 || e > 400 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// String is text.
type String struct {
	min, max   int // characters; max < 0: no bound
	pattern    *regexp.Regexp
	text       string // the pattern as it was written
	singleLine bool
}

// StringOptions configures a String.
type StringOptions struct {
	MinLength  int  // in characters
	MaxLength  *int // in characters
	Pattern    string
	SingleLine bool // no line break, no other control character, nothing invisible
}

// NewString returns the constraint that a value is text. Pattern (RE2) has to
// match the whole text.
func NewString(o StringOptions) (*String, []Problem) {
	s := &String{min: o.MinLength, max: -1, text: o.Pattern, singleLine: o.SingleLine}
	var problems []Problem
	if o.MaxLength != nil {
		s.max = *o.MaxLength
		if s.min > s.max {
			problems = append(problems, Problem{"min_length", -1, "min_length is above max_length: no text fits"})
		}
	}
	if o.Pattern != "" {
		// Compiled alone first: "a)|(b" would close the group around it.
		_, err := regexp.Compile(o.Pattern)
		if err == nil {
			s.pattern, err = regexp.Compile(`\A(?:` + o.Pattern + `)\z`)
		}
		if err != nil {
			problems = append(problems, Problem{"pattern", -1, "pattern is not a regular expression (RE2): " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")})
		}
	}
	return s, problems
}

// Check implements Type.
func (s *String) Check(_ context.Context, name string, value jsontext.Value) string {
	t, problem := text(name, value)
	if problem != "" {
		return problem
	}
	switch n := utf8.RuneCountInString(t); {
	case n < s.min:
		return Quote(name) + " is shorter than " + itoa(s.min) + " characters"
	case s.max >= 0 && n > s.max:
		return Quote(name) + " is longer than " + itoa(s.max) + " characters"
	}
	if s.singleLine && strings.ContainsFunc(t, invisible) {
		return Quote(name) + " holds a line break, a control character or an invisible character"
	}
	if s.pattern != nil && !s.pattern.MatchString(t) {
		return Quote(name) + " does not match the pattern " + s.text
	}
	return ""
}

// invisible reports what does not show on one line: control and format
// characters, line and paragraph separators.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) || r == utf8.RuneError
}

// Enum is one of a list of values.
type Enum struct {
	texts    []string
	numbers  []*big.Rat
	booleans []jsontext.Kind
	shown    string
}

// EnumValue is one value of an enum; Number and Text are as written.
type EnumValue struct {
	Kind jsontext.Kind // '"', '0', 't' or 'f'
	Text string
}

// NewEnum returns the constraint that a value is one of these.
func NewEnum(values []EnumValue) (*Enum, []Problem) {
	e := &Enum{}
	var problems []Problem
	var shown []string
	for i, v := range values {
		switch v.Kind {
		case '0':
			r, ok := rational(v.Text)
			if !ok {
				problems = append(problems, Problem{"values", i, "the value is not a decimal number"})
				continue
			}
			e.numbers = append(e.numbers, r)
		case 't', 'f':
			e.booleans = append(e.booleans, v.Kind)
		default:
			e.texts = append(e.texts, v.Text)
		}
		shown = append(shown, v.Text)
	}
	if len(values) == 0 {
		problems = append(problems, Problem{"values", -1, "values is empty: no value fits"})
	}
	e.shown = Among(shown)
	return e, problems
}

// Check implements Type. Text is compared exactly, numbers by value.
func (e *Enum) Check(_ context.Context, name string, value jsontext.Value) string {
	fits := false
	switch k := value.Kind(); k {
	case '"':
		t, problem := text(name, value)
		if problem != "" {
			return problem
		}
		fits = slices.Contains(e.texts, t)
	case '0':
		r, ok := rational(string(value))
		fits = ok && slices.ContainsFunc(e.numbers, func(n *big.Rat) bool { return n.Cmp(r) == 0 })
	case 't', 'f':
		fits = slices.Contains(e.booleans, k)
	}
	if !fits {
		return Quote(name) + " is not among " + e.shown
	}
	return ""
}
