// Package argument holds the typed constraints that a policy puts on a tool's
// arguments: sql, url, path, email, number, string, enum, boolean, list, object.
//
// Every type refuses what it does not understand. A reason for a refusal is for
// the agent that made the call and for the people who read the book: it names
// what would have been allowed, and of the argument's text at most an identifier
// (a table, a host, a domain), quoted and cut.
package argument

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is one constraint. Its values are immutable and safe for concurrent use.
type Type interface {
	// Check returns why value is refused as the argument called name, or "" if it
	// is allowed. The value is valid JSON without duplicate names.
	Check(ctx context.Context, name string, value jsontext.Value) string
}

// maxText bounds, in bytes, the text that a type looks at.
const maxText = 1 << 20

// text reads a JSON string. The second result is why it is refused.
func text(name string, value jsontext.Value) (string, string) {
	if value.Kind() != '"' {
		return "", Quote(name) + " is not a string"
	}
	if len(value) > maxText {
		return "", Quote(name) + " is longer than 1 MiB"
	}
	b, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return "", Quote(name) + " is not a valid string"
	}
	return string(b), ""
}

// Quote quotes a word of a call for a message: what is not printable is escaped,
// and a long one is cut.
func Quote(s string) string {
	const most = 64
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		return strconv.Quote(s[:cut]) + "..."
	}
	return strconv.Quote(s)
}

// Among joins the allowed values for a message; a long list is cut.
func Among(values []string) string {
	const most = 20
	if len(values) > most {
		return strings.Join(values[:most], ", ") + " and " + strconv.Itoa(len(values)-most) + " more"
	}
	return strings.Join(values, ", ")
}

// elements returns the values of a JSON array, which does not need to be kept.
func elements(value jsontext.Value) ([]jsontext.Value, error) {
	var out []jsontext.Value
	err := json.Unmarshal(value, &out)
	return out, err
}

func itoa(n int) string { return strconv.Itoa(n) }

// Problem is why the options of a type cannot be used, and where: the option's
// name as a policy file spells it, and the index within it if it is a list.
type Problem struct {
	Field   string
	Index   int // -1: the option as a whole
	Message string
}
