package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Upstream is a provider's API.
type Upstream struct {
	// Name is the name of a further upstream, "" for a protocol's own.
	Name string
	// URL is the base URL without "/v1"; one with it means the same. A URL that ends
	// in "/" stands in the place of "/v1": for APIs that have another version in their
	// path, or none.
	URL string
	Key string // the provider's key for clients that bring none; may be empty
}

// target is where requests go.
type target struct {
	scheme, host, path string
	whole              bool // path stands in the place of "/v1"
	key                string
}

// target reads the upstream's URL.
func (up Upstream) target(name string) (target, error) {
	if up.Name != "" {
		name = up.Name
	}
	if up.URL == "" {
		return target{}, nil // there is none: clients must name theirs
	}
	t, err := parseTarget(up.URL)
	if err != nil {
		return t, fmt.Errorf("%s upstream %w", name, err)
	}
	t.key = up.Key
	return t, nil
}

func parseTarget(base string) (target, error) {
	u, err := url.Parse(base)
	if err != nil {
		return target{}, fmt.Errorf("%q: must be http://HOST or https://HOST", "unreadable URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return target{}, fmt.Errorf("%q: must be http://HOST or https://HOST, perhaps with a path, and without user, query and fragment", u.Redacted())
	}
	t := target{scheme: u.Scheme, host: u.Host, path: u.Path}
	t.whole = strings.HasSuffix(u.Path, "/") && !strings.HasSuffix(u.Path, "/v1/")
	t.path = strings.TrimRight(t.path, "/")
	if !t.whole {
		t.path = strings.TrimRight(strings.TrimSuffix(t.path, "/v1"), "/")
	}
	return t, nil
}

// same reports whether two targets are one place, whatever the key.
func (t target) same(o target) bool {
	o.key = t.key
	return t == o
}

// url is the address of a path of the API.
func (t target) url(api, query string) *url.URL {
	if t.whole {
		api = strings.TrimPrefix(api, "/v1")
	}
	return &url.URL{Scheme: t.scheme, Host: t.host, Path: t.path + api, RawQuery: query}
}

// targetOf finds where a caller's request goes: where the handler's requests go, or
// to the upstream that the caller names, when that is allowed.
func (h *handler) targetOf(c Caller) (target, *Refusal) {
	if c.Upstream == "" && h.to.host == "" {
		return target{}, &Refusal{Status: http.StatusForbidden, Code: "upstream_refused",
			Message: "No upstream is configured for " + h.mount + ". Name one under upstreams in the server's config file and use /up/NAME, or send " + HeaderUpstream + "."}
	}
	if c.Upstream == "" {
		return h.to, nil
	}
	asked, err := parseTarget(c.Upstream)
	if err != nil {
		return target{}, &Refusal{Status: http.StatusBadRequest, Code: "bad_header", Message: HeaderUpstream + " " + err.Error() + "."}
	}
	if asked.same(h.to) {
		return h.to, nil
	}
	for _, t := range h.known {
		if asked.same(t) {
			return t, nil
		}
	}
	if h.o.AnyUpstream {
		return asked, nil // without a key of ours: it is the client's place, not the server's
	}
	return target{}, &Refusal{Status: http.StatusForbidden, Code: "upstream_refused",
		Message: fmt.Sprintf("The upstream %s is not configured here. Name it under upstreams in the server's config file, or let clients choose with client_upstreams: any.", asked.scheme+"://"+asked.host)}
}
