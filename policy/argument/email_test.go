package argument_test

import (
	"context"
	"encoding/json/jsontext"
	"net/mail"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/policy/argument"
)

func newEmail(t testing.TB, o argument.EmailOptions) *argument.Email {
	t.Helper()
	e, problems := argument.NewEmail(o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return e
}

func TestEmailGoesToListedDomainsOnly(t *testing.T) {
	const notAmong = `is not among example.com, *.example.org, boss@partner.net`
	cases{
		{"a@example.com", ""},
		{"A.b+c@EXAMPLE.com", ""},
		{"o'neil@example.com", ""},
		{"a@x.example.org", ""},
		{"boss@partner.net", ""},
		{"boss@PARTNER.net", ""},
		{"Alice Smith <a@example.com>", ""},
		{"<a@example.com>", ""},
		{"a@example.com, b@example.com", ""},
		{"a@example.com; b@x.example.org", ""},
		{[]string{"a@example.com", "b@example.com"}, ""},

		{"a@evil.com", `domain "evil.com" ` + notAmong},
		{"a@example.org", notAmong},
		{"a@notexample.com", notAmong},
		{"a@example.com.evil.com", notAmong},
		{"a@example.comevil.com", notAmong},
		{"other@partner.net", notAmong},
		{"boss+x@partner.net", notAmong},
		{"Boss@partner.net", notAmong}, // the part before @ may be case-sensitive
		{"a@xn--exmple-cua.com", notAmong},

		{"a@example.com, b@evil.com", `domain "evil.com"`},
		{"a@example.com;b@evil.com", `domain "evil.com"`},
		{[]string{"a@example.com", "b@evil.com"}, `domain "evil.com"`},
		{[]string{"a@example.com, b@evil.com"}, `domain "evil.com"`},
		{"a@example.com b@evil.com", "more than one @"},
		{"a@example.com\tb@evil.com", "line break or a control"},
		{"a@example.com\r\nBcc: b@evil.com", "line break or a control"},
		{"a@example.com\nb@evil.com", "line break or a control"},
		{"a@example.com\x00@evil.com", "line break or a control"},
		{"a@example.com%0d%0aBcc:b@evil.com", "more than one @"},
		{"\"a@example.com\" <b@evil.com>", "not a plain e-mail address"},
		{"a@example.com <b@evil.com>", "not a plain e-mail address"},
		{"Alice <b@evil.com>", `domain "evil.com"`},
		{"Alice <b@evil.com> <a@example.com>", "not a plain e-mail address"},
		{"<b@evil.com>a@example.com", "not a plain e-mail address"},
		{"Alice <a@example.com", "not a plain e-mail address"},
		{"\"b@evil.com\"@example.com", "more than one @"},
		{"\"a b\"@example.com", "not plain"},
		{"a(comment)@example.com", "not plain"},
		{"a@example.com(comment)", "not plain"},
		{"a@(x)example.com", "not plain"},
		{"b%evil.com@example.com", "not plain"}, // once, mail was routed this way
		{"evil.com!b@example.com", "not plain"},
		{"@evil.com:b@example.com", "more than one @"},
		{"b@evil.com@example.com", "more than one @"},
		{"a@example.com@evil.com", "more than one @"},
		{"friends: a@example.com, b@evil.com;", "not plain"},
		{"a@[127.0.0.1]", "not plain"},
		{"a@127.0.0.1", "not a full name"},
		{"a@localhost", "not a full name"},
		{"a@example.com.", "not plain"},
		{"a@.example.com", "not plain"},
		{"a@exаmple.com", "not in ASCII"}, // Cyrillic
		{"a@example。com", "not in ASCII"},
		{"а@example.com", "not plain"},
		{"a@\u200bexample.com", "not in ASCII"},
		{".a@example.com", "a dot too many"},
		{"a..b@example.com", "a dot too many"},
		{"@example.com", "is empty"},
		{"a@", "not plain"},
		{"a", "has no @"},
		{"", "names no e-mail address"},
		{",;", "names no e-mail address"},
		{[]string{}, "names no e-mail address"},
		{strings.Repeat("a", 65) + "@example.com", "longer than 64"},
		{"mailto:a@example.com", "not plain"},
		{[]any{"a@example.com", 7}, "is not a string"},
		{map[string]string{"to": "a@example.com"}, "is not an e-mail address"},
		{nil, "is not an e-mail address"},
		{[]any{[]string{"a@example.com"}}, "is not a string"},
	}.run(t, newEmail(t, argument.EmailOptions{Domains: []string{"example.com", "*.example.org"}, Addresses: []string{"boss@partner.net"}}))

	cases{
		{"a@example.com, b@example.com", ""},
		{"a@example.com, b@example.com, c@example.com", "more than 2 recipients"},
		{[]string{"a@example.com", "b@example.com", "c@example.com"}, "more than 2 recipients"},
	}.run(t, newEmail(t, argument.EmailOptions{Domains: []string{"example.com"}, MaxRecipients: ptr(2)}))
}

func TestEmailOptionsAreChecked(t *testing.T) {
	_, problems := argument.NewEmail(argument.EmailOptions{Domains: []string{"@example.com", "a b", ""}, Addresses: []string{"x"}})
	if len(problems) != 4 {
		t.Error(problems)
	}
	if _, problems := argument.NewEmail(argument.EmailOptions{}); len(problems) != 1 {
		t.Error(problems)
	}
}

// What is allowed is, as Go's mail package reads it, addressed to the domain.
func FuzzEmail(f *testing.F) {
	f.Add("a@example.com, Bob <b@example.com>")
	f.Add("\"a@example.com\" <b@evil.com>")
	e := newEmail(f, argument.EmailOptions{Domains: []string{"example.com"}})
	f.Fuzz(func(t *testing.T, raw string) {
		value, err := jsontext.AppendQuote(nil, raw)
		if err != nil || e.Check(context.Background(), "to", value) != "" {
			return
		}
		if strings.ContainsAny(raw, "\r\n") {
			t.Fatalf("%q is allowed", raw)
		}
		list, err := mail.ParseAddressList(strings.ReplaceAll(raw, ";", ","))
		if err != nil {
			return // stricter than we are about names
		}
		for _, a := range list {
			if !strings.HasSuffix(strings.ToLower(a.Address), "@example.com") {
				t.Fatalf("%q is allowed and goes to %q", raw, a.Address)
			}
		}
	})
}
