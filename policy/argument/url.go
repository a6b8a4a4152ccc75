package argument

import (
	"context"
	"encoding/json/jsontext"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const maxURL = 8 << 10 // bytes

// urlPorts holds the schemes that a URL constraint can allow, with their default ports.
var urlPorts = map[string]int{"http": 80, "https": 443, "ws": 80, "wss": 443}

// URLSchemes lists the schemes that a URL constraint can allow.
func URLSchemes() []string { return []string{"https", "http", "wss", "ws"} }

// URL is an absolute URL that leads to an allowed host.
//
// It decides on the text alone: neither where a name resolves to nor where a
// server redirects to is known here. What two readers of URLs could read
// differently (backslashes, user information, spaces, escapes or other alphabets
// in the host, odd spellings of addresses) is refused, so that every client
// dials the host that was checked.
type URL struct {
	schemes []string
	hosts   []string       // lower case; may begin with "*."
	any     bool           // "*": every public name
	nets    []netip.Prefix // addresses that may be written as such
	ports   []int          // empty: the scheme's own
	paths   []string
	shown   string
}

// URLOptions configures a URL.
type URLOptions struct {
	Schemes []string // of URLSchemes; empty: https
	Hosts   []string // "example.com", "*.example.com" (every name below it), "*", "10.0.0.7", "10.0.0.0/8"
	Ports   []int    // empty: the scheme's default port
	Paths   []string // globs; empty: any
}

// NewURL returns the constraint that a value is a URL.
func NewURL(o URLOptions) (*URL, []Problem) {
	u := &URL{schemes: o.Schemes, ports: o.Ports, paths: o.Paths, shown: Among(o.Hosts)}
	var problems []Problem
	if len(u.schemes) == 0 {
		u.schemes = []string{"https"}
	}
	for i, s := range o.Schemes {
		if urlPorts[s] == 0 {
			problems = append(problems, Problem{"schemes", i, "unknown scheme " + Quote(s) + ": allowed: " + strings.Join(URLSchemes(), ", ")})
		}
	}
	if len(o.Hosts) == 0 {
		problems = append(problems, Problem{"hosts", -1, "hosts is empty: no URL fits"})
	}
	for i, h := range o.Hosts {
		if prefix, err := netip.ParsePrefix(h); err == nil {
			u.nets = append(u.nets, prefix.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil && addr.Zone() == "" {
			u.nets = append(u.nets, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if h == "*" {
			u.any = true
			continue
		}
		if why := badDomain(strings.TrimPrefix(h, "*.")); why != "" {
			problems = append(problems, Problem{"hosts", i, "bad host " + Quote(h) + ": " + why + "; use a name (example.com), every name below one (*.example.com), an address (10.0.0.7) or a network (10.0.0.0/8), without scheme, port and path"})
			continue
		}
		u.hosts = append(u.hosts, strings.ToLower(h))
	}
	for i, p := range o.Ports {
		if p < 1 || p > 65535 {
			problems = append(problems, Problem{"ports", i, "a port is between 1 and 65535"})
		}
	}
	for i, p := range o.Paths {
		if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "%\\?#") {
			problems = append(problems, Problem{"paths", i, "a path begins with / and is written without escapes, query and fragment; * stands for any run of characters"})
		}
	}
	return u, problems
}

// Check implements Type.
func (u *URL) Check(_ context.Context, name string, value jsontext.Value) string {
	raw, problem := text(name, value)
	if problem != "" {
		return problem
	}
	return u.check(name, raw)
}

func (u *URL) check(name, raw string) string {
	if len(raw) > maxURL {
		return Quote(name) + " is longer than 8192 bytes"
	}
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c == '\\' || c == 0x7f || c == '<' || c == '>' || c == '"' || c == '^' || c == '`' || c == '{' || c == '|' || c == '}' {
			return Quote(name) + " is not a plain URL: it holds a space, a backslash or another character that has to be escaped"
		}
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	if !ok {
		return Quote(name) + " is not an absolute URL (https://host/path)"
	}
	if !slices.Contains(u.schemes, scheme) {
		return "scheme " + Quote(scheme) + " is not among " + Among(u.schemes)
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if strings.Contains(authority, "@") {
		return Quote(name) + " holds user information before its host"
	}
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Opaque != "" || parsed.User != nil || parsed.Host != authority {
		return Quote(name) + " is not a valid URL"
	}
	host, port, problem := splitAuthority(authority)
	if problem != "" {
		return Quote(name) + " " + problem
	}
	if problem := u.checkHost(host); problem != "" {
		return problem
	}
	n := urlPorts[scheme]
	if port != "" {
		n, err = strconv.Atoi(port)
		if err != nil || strconv.Itoa(n) != port {
			return Quote(name) + " has a port that is not a plain number"
		}
	}
	switch {
	case len(u.ports) == 0 && n != urlPorts[scheme]:
		return "port " + strconv.Itoa(n) + " is not among " + strconv.Itoa(urlPorts[scheme])
	case len(u.ports) > 0 && !slices.Contains(u.ports, n):
		return "port " + strconv.Itoa(n) + " is not among " + Among(numbers(u.ports))
	}
	if len(u.paths) > 0 {
		return u.checkPath(name, parsed)
	}
	return ""
}

// splitAuthority takes host and port apart; an IPv6 address keeps its brackets.
func splitAuthority(authority string) (host, port, problem string) {
	host = authority
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return "", "", "has a broken IPv6 address"
		}
		host, port = authority[:end+1], authority[end+1:]
		if port == "" {
			return host, "", ""
		}
		if port[0] != ':' || len(port) == 1 {
			return "", "", "has a broken port"
		}
		return host, port[1:], ""
	}
	if i := strings.IndexByte(authority, ':'); i >= 0 {
		host, port = authority[:i], authority[i+1:]
		if port == "" {
			return "", "", "has a broken port"
		}
	}
	if host == "" {
		return "", "", "has no host"
	}
	return host, port, ""
}

func (u *URL) checkHost(host string) string {
	refuse := "host " + Quote(host) + " is not among " + u.shown
	if strings.HasPrefix(host, "[") {
		addr, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || addr.Zone() != "" {
			return "host " + Quote(host) + " is not a valid address"
		}
		return u.checkAddr(addr, refuse)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if endsInNumber(host) {
		// A client would take it for an IPv4 address, in one of many spellings.
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "host " + Quote(host) + " is an address in an unusual spelling"
		}
		return u.checkAddr(addr, refuse)
	}
	if why := badDomain(host); why != "" {
		return "host " + Quote(host) + " is not a plain host name: " + why
	}
	if hostAmong(host, u.hosts) || u.any && publicName(host) {
		return ""
	}
	return refuse
}

// checkAddr allows an address only if the policy lists it: an address says
// nothing about whose it is, and private, loopback, link-local and metadata
// addresses are what an attacker wants the agent to reach.
func (u *URL) checkAddr(addr netip.Addr, refuse string) string {
	addr = addr.Unmap()
	for _, n := range u.nets {
		if n.Contains(addr) {
			return ""
		}
	}
	return refuse
}

func (u *URL) checkPath(name string, parsed *url.URL) string {
	escaped := strings.ToLower(parsed.EscapedPath())
	for _, odd := range []string{"%2e", "%2f", "%5c", "%25", "%00"} {
		if strings.Contains(escaped, odd) {
			return Quote(name) + " has an escaped dot, slash, percent sign or NUL in its path"
		}
	}
	path := parsed.Path
	if path == "" {
		path = "/"
	}
	for segment := range strings.SplitSeq(path, "/") {
		if s, _, _ := strings.Cut(segment, ";"); s == "." || s == ".." {
			return Quote(name) + " has a dot segment in its path"
		}
	}
	for _, p := range u.paths {
		if Match(p, path) {
			return ""
		}
	}
	return "the path of " + Quote(name) + " is not among " + Among(u.paths)
}

// hostAmong reports whether a lower-case name is in a list of names and "*.names".
func hostAmong(host string, list []string) bool {
	for _, h := range list {
		if below, ok := strings.CutPrefix(h, "*"); ok {
			if len(host) > len(below) && strings.HasSuffix(host, below) {
				return true
			}
		} else if h == host {
			return true
		}
	}
	return false
}

// publicName reports whether a name can be a public one: not a name of the
// machine itself, of its network or of a cloud's metadata service.
func publicName(host string) bool {
	if !strings.Contains(host, ".") {
		return false
	}
	for _, private := range []string{"localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa", "test", "invalid", "onion"} {
		if strings.HasSuffix(host, "."+private) {
			return false
		}
	}
	// Public names that lead to whatever address is written in them.
	for _, rebind := range []string{"nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me", "vcap.me", "lacolhost.com"} {
		if host == rebind || strings.HasSuffix(host, "."+rebind) {
			return false
		}
	}
	return true
}

// endsInNumber reports whether clients take a host for an IPv4 address: its last
// label is a number in some base (WHATWG URL, "ends in a number").
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return false
	}
	if rest, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// badDomain says why a text is not a host name in ASCII, or "".
func badDomain(s string) string {
	if s == "" || len(s) > 253 {
		return "it is empty or longer than 253 characters"
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "" || len(label) > 63:
			return "a label is empty or longer than 63 characters"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "a label begins or ends with a hyphen"
		}
		for i := range len(label) {
			c := label[i]
			switch {
			case c >= 0x80:
				return "it is not in ASCII, write an international name as xn--"
			case c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			default:
				return "it holds " + Quote(string(c))
			}
		}
	}
	return ""
}

func numbers(list []int) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = strconv.Itoa(n)
	}
	return out
}
