package argument

import (
	"context"
	"encoding/json/jsontext"
	"slices"
	"strings"
)

// Email is one e-mail address or more, each in an allowed domain. Several come
// as a list, or in one text with commas or semicolons between them.
//
// It reads a strict subset of RFC 5321: no quoted local parts, comments, source
// routes, address literals or group syntax, which mail programs read differently
// from each other.
type Email struct {
	domains   []string
	addresses []string
	max       int // recipients; < 0: no bound
	shown     string
}

// EmailOptions configures an Email.
type EmailOptions struct {
	Domains       []string // "example.com", "*.example.com" (every name below it)
	Addresses     []string // addresses that are allowed besides
	MaxRecipients *int
}

// NewEmail returns the constraint that a value is one or more e-mail addresses.
func NewEmail(o EmailOptions) (*Email, []Problem) {
	e := &Email{max: -1, shown: Among(slices.Concat(o.Domains, o.Addresses))}
	var problems []Problem
	if len(o.Domains)+len(o.Addresses) == 0 {
		problems = append(problems, Problem{"domains", -1, "domains is empty: no address fits"})
	}
	for i, d := range o.Domains {
		if why := badDomain(strings.TrimPrefix(d, "*.")); why != "" {
			problems = append(problems, Problem{"domains", i, "bad domain " + Quote(d) + ": " + why})
		}
		e.domains = append(e.domains, strings.ToLower(d))
	}
	for i, a := range o.Addresses {
		local, domain, why := splitAddress(a)
		if why != "" {
			problems = append(problems, Problem{"addresses", i, "bad address " + Quote(a) + ": " + why})
		}
		e.addresses = append(e.addresses, local+"@"+domain)
	}
	if o.MaxRecipients != nil {
		e.max = *o.MaxRecipients
	}
	return e, problems
}

// Check implements Type.
func (e *Email) Check(_ context.Context, name string, value jsontext.Value) string {
	var recipients []string
	switch value.Kind() {
	case '[':
		items, err := elements(value)
		if err != nil {
			return Quote(name) + " is not a valid list"
		}
		for _, item := range items {
			raw, problem := text(name, item)
			if problem != "" {
				return problem
			}
			recipients = append(recipients, raw)
		}
	case '"':
		raw, problem := text(name, value)
		if problem != "" {
			return problem
		}
		recipients = append(recipients, raw)
	default:
		return Quote(name) + " is not an e-mail address or a list of them"
	}
	count := 0
	for _, r := range recipients {
		// A quoted comma would be no separator, but quotes are refused below.
		for one := range strings.FieldsFuncSeq(r, func(c rune) bool { return c == ',' || c == ';' }) {
			if problem := e.check(name, one); problem != "" {
				return problem
			}
			count++
		}
	}
	if count == 0 {
		return Quote(name) + " names no e-mail address"
	}
	if e.max >= 0 && count > e.max {
		return Quote(name) + " names more than " + itoa(e.max) + " recipients"
	}
	return ""
}

// check reads one recipient: an address, or a plain name and an address in angle
// brackets.
func (e *Email) check(name, s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return Quote(name) + " holds a line break or a control character"
		}
	}
	s = strings.Trim(s, " ")
	if display, rest, ok := strings.Cut(s, "<"); ok {
		address, after, closed := strings.Cut(rest, ">")
		if !closed || strings.Trim(after, " ") != "" || strings.ContainsAny(display, "@\"()<>:[]\\") {
			return Quote(name) + " is not a plain e-mail address"
		}
		s = address
	}
	local, domain, why := splitAddress(s)
	if why != "" {
		return Quote(name) + " is not a plain e-mail address: " + why
	}
	if hostAmong(domain, e.domains) || slices.Contains(e.addresses, local+"@"+domain) {
		return ""
	}
	return "domain " + Quote(domain) + " is not among " + e.shown
}

// splitAddress takes an address apart: a dot-atom without the characters that
// once routed mail (%, !), and a host name. The domain comes back in lower case.
func splitAddress(s string) (local, domain, why string) {
	local, domain, ok := strings.Cut(s, "@")
	switch {
	case !ok:
		return "", "", "it has no @"
	case strings.Contains(domain, "@"):
		return "", "", "it has more than one @"
	case local == "" || len(local) > 64:
		return "", "", "the part before @ is empty or longer than 64 characters"
	case local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, ".."):
		return "", "", "the part before @ has a dot too many"
	}
	for i := range len(local) {
		c := local[i]
		plain := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("#$&'*+-/=?^_`{|}~.", c) >= 0
		if !plain {
			return "", "", "the part before @ holds a character that is not plain"
		}
	}
	domain = strings.ToLower(domain)
	if why := badDomain(domain); why != "" {
		return "", "", "the domain is not plain: " + why
	}
	if !strings.Contains(domain, ".") || endsInNumber(domain) {
		return "", "", "the domain is not a full name"
	}
	return local, domain, ""
}
