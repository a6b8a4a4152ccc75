package argument_test

import (
	"context"
	"encoding/json/jsontext"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook/policy/argument"
)

func newURL(t testing.TB, o argument.URLOptions) *argument.URL {
	t.Helper()
	u, problems := argument.NewURL(o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return u
}

// cases are values with a part of the reason for which they are refused; "" is allowed.
type cases []struct {
	value any
	want  string
}

func (list cases) run(t *testing.T, typ argument.Type) {
	t.Helper()
	for _, c := range list {
		got := check(t, typ, c.value)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%#v\n got: %q\nwant: %q", c.value, got, c.want)
		}
	}
}

func TestURLLeadsToAListedHost(t *testing.T) {
	const notAmong = `is not among example.com, *.example.org`
	cases{
		{"https://example.com", ""},
		{"https://example.com/a/b?c=d#e", ""},
		{"HTTPS://EXAMPLE.COM/", ""},
		{"https://example.com.", ""},
		{"https://example.com:443/", ""},
		{"https://a.example.org/", ""},
		{"https://a.b.example.org/", ""},
		{"https://example.com/@evil.com", ""},
		{"https://example.com?u=https://evil.com", ""},

		{"https://evil.com", `host "evil.com" ` + notAmong},
		{"https://example.org", `host "example.org" ` + notAmong},
		{"https://notexample.org", notAmong},
		{"https://xexample.com", notAmong},
		{"https://example.com.evil.com", notAmong},
		{"https://example.comevil.com", notAmong},
		{"https://evil.com/example.com", notAmong},
		{"https://evil.com?example.com", notAmong},
		{"https://evil.com#@example.com", notAmong},
		{"https://example.org.evil.com/", notAmong},

		{"https://example.com@evil.com", "user information"},
		{"https://user:pw@example.com", "user information"},
		{"https://@example.com", "user information"},
		{"https://evil.com\\@example.com", "not a plain URL"},
		{"https://evil.com\\.example.org", "not a plain URL"},
		{"https:\\\\evil.com", "not a plain URL"},
		{"https:/\\evil.com", "not a plain URL"},
		{" https://example.com", "not a plain URL"},
		{"https://example.com ", "not a plain URL"},
		{"https://example.com\n", "not a plain URL"},
		{"https://exa\tmple.com", "not a plain URL"},
		{"https://example.com/\r\nHost: evil.com", "not a plain URL"},
		{"https://example.com\x00.evil.com", "not a plain URL"},
		{"https:example.com", "not an absolute URL"},
		{"https:/example.com", "not an absolute URL"},
		{"https:///example.com", "has no host"},
		{"https://", "has no host"},
		{"//example.com", "not an absolute URL"},
		{"/etc/passwd", "not an absolute URL"},
		{"example.com", "not an absolute URL"},
		{"", "not an absolute URL"},

		{"http://example.com", `scheme "http" is not among https`},
		{"ftp://example.com", `scheme "ftp"`},
		{"file:///etc/passwd", `scheme "file"`},
		{"javascript://example.com/%0aalert(1)", `scheme "javascript"`},
		{"gopher://example.com", `scheme "gopher"`},
		{"data:text/html,x", "not an absolute URL"},
		{"view-source:https://example.com", `scheme "view-source:https"`},
		{"https\u200b://example.com", "scheme"},

		{"https://ex%61mple.com", "not a valid URL"},
		{"https://example.com%2eevil.com", "not a valid URL"},
		{"https://example.com%00.evil.com", "not a valid URL"},
		{"https://ехample.com", "not in ASCII"}, // Cyrillic
		{"https://ｅxample.com", "not in ASCII"},
		{"https://example。com", "not in ASCII"},
		{"https://evil.com／.example.org", "not in ASCII"},
		{"https://example.com\u00ad", "not in ASCII"},
		{"https://xn--exmple-cua.com", notAmong},
		{"https://-a.example.org", "hyphen"},
		{"https://a..example.org", "empty"},
		{"https://.example.org", "empty"},
		{"https://example.com..", "empty"},
		{"https://exa'mple.com", "plain host name"},
		{"https://exa,mple.com", "plain host name"},
		{"https://exa;mple.com", "plain host name"},
		{"https://example.com:80:443", "not a valid URL"},
		{"https://example.com:", "broken port"},
		{"https://example.com:0443", "plain number"},
		{"https://example.com:+443", "not a valid URL"},
		{"https://example.com:8443", "port 8443 is not among 443"},
		{"https://example.com:99999", "port 99999 is not among 443"},
		{"https://" + strings.Repeat("a", 9000), "longer than 8192"},
		{1, "is not a string"},
		{nil, "is not a string"},
		{[]string{"https://example.com"}, "is not a string"},
	}.run(t, newURL(t, argument.URLOptions{Hosts: []string{"example.com", "*.example.org"}}))
}

func TestURLNeverReachesAnInnerAddressUnlessItIsListed(t *testing.T) {
	var list cases
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1.",
		"10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "100.64.0.1", "8.8.8.8",
		"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[fe80::1]", "[fd00::1]",
		"[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25eth0]", "[::1%eth0]", "[::1", "[127.0.0.1]", "[]",
		"localhost", "LOCALHOST", "a.localhost", "localhost.localdomain", "metadata", "metadata.google.internal", "instance-data", "printer.local", "db.corp",
		"router.lan", "127.0.0.1.nip.io", "10-0-0-1.sslip.io", "localtest.me", "1.1.1.1.1", "256.1.1.1", "1.2.3.0x", "127.0.0.1x.1",
	} {
		list = append(list, struct {
			value any
			want  string
		}{"https://" + host + "/", "arg"})
	}
	u := newURL(t, argument.URLOptions{Hosts: []string{"*"}})
	for _, c := range list {
		if got := check(t, u, c.value); got == "" {
			t.Errorf("%v is allowed", c.value)
		}
	}
	cases{
		{"https://example.com/", ""},
		{"https://en.wikipedia.org/wiki/Go", ""},
		{"https://10.example.com/", ""},
		{"https://1e100.net/", ""},
	}.run(t, u)

	cases{
		{"http://localhost:8080/x", ""},
		{"http://10.1.2.3:8080/", ""},
		{"http://192.0.2.7:8080/", ""},
		{"http://[::ffff:10.1.2.3]:8080/", ""},
		{"http://[fd00::7]:8080/", ""},
		{"http://11.1.2.3:8080/", "is not among"},
		{"http://192.0.2.8:8080/", "is not among"},
		{"http://012.1.2.3:8080/", "unusual spelling"},
		{"http://167838211:8080/", "unusual spelling"},
		{"http://0xa010203:8080/", "unusual spelling"},
		{"http://[fd01::7]:8080/", "is not among"},
		{"http://localhost:8081/", "port 8081 is not among 8080"},
		{"http://localhost/", "port 80 is not among 8080"},
	}.run(t, newURL(t, argument.URLOptions{Schemes: []string{"http"}, Hosts: []string{"localhost", "10.0.0.0/8", "192.0.2.7", "fd00::/16"}, Ports: []int{8080}}))
}

func TestURLPathsAreCompared(t *testing.T) {
	cases{
		{"https://example.com/v1/items", ""},
		{"https://example.com/v1/items/7?x=..", ""},
		{"https://example.com/health", ""},
		{"https://example.com/v1/a%20b", ""},
		{"https://example.com/", "the path of"},
		{"https://example.com", "the path of"},
		{"https://example.com/v2", "the path of"},
		{"https://example.com/health/x", "the path of"},
		{"https://example.com/V1/items", "the path of"},
		{"https://example.com/v1/../admin", "dot segment"},
		{"https://example.com/v1/./x", "dot segment"},
		{"https://example.com/v1/..;/admin", "dot segment"},
		{"https://example.com/v1/%2e%2e/admin", "escaped dot"},
		{"https://example.com/v1/..%2fadmin", "escaped dot"},
		{"https://example.com/v1/%2E./admin", "escaped dot"},
		{"https://example.com/v1/%252e%252e/admin", "escaped dot"},
		{"https://example.com/v1/%5c..%5cadmin", "escaped dot"},
		{"https://example.com/v1/%zz", "not a valid URL"},
	}.run(t, newURL(t, argument.URLOptions{Hosts: []string{"example.com"}, Paths: []string{"/v1/*", "/health"}}))
}

func TestURLOptionsAreChecked(t *testing.T) {
	_, problems := argument.NewURL(argument.URLOptions{
		Schemes: []string{"file"}, Hosts: []string{"https://x.com", "x.com:80", "x.com/a", "*x.com", "a.*.com", "ünï.de", ""}, Ports: []int{0}, Paths: []string{"v1", "/a%20b"},
	})
	want := map[string]int{"schemes": 1, "hosts": 7, "ports": 1, "paths": 2}
	got := map[string]int{}
	for _, p := range problems {
		got[p.Field]++
	}
	for f, n := range want {
		if got[f] != n {
			t.Errorf("%s: %d problems, want %d: %v", f, got[f], n, problems)
		}
	}
	if _, problems := argument.NewURL(argument.URLOptions{}); len(problems) != 1 {
		t.Errorf("without hosts: %v", problems)
	}
}

// Whatever is allowed, a client that follows Go's reading of the URL dials a host
// that is listed, and no other address.
func TestURLThatIsAllowedIsDialledWhereItSays(t *testing.T) {
	u := newURL(t, argument.URLOptions{Schemes: []string{"https", "http"}, Hosts: []string{"example.com", "*.example.org", "10.0.0.0/8"}, Ports: []int{80, 443}})
	hosts := []string{
		"example.com", "EXAMPLE.com.", "a.example.org", "evil.com", "10.0.0.1", "127.0.0.1", "0x0a000001", "012.0.0.1", "[::ffff:10.0.0.1]", "[::1]",
		"167772161", "example.com:80", "evil.com:443", ".", "@", "\\", "%2e", "user", "-", "。", "xn--", "ß", "/", "#", "?", ":", " ", "\t",
	}
	tails := []string{"", "", "/", "/a/b", ":80", ":443/", ":8080", "?x=@evil.com", "#@evil.com", "@evil.com", "\\@evil.com", "/..//evil.com", "%00", ".evil.com"}
	allowed := 0
	rapid.Check(t, func(rt *rapid.T) {
		raw := rapid.SampledFrom([]string{"https://", "https://", "http://", "ftp://", "https:/", "//"}).Draw(rt, "scheme") +
			strings.Join(rapid.SliceOfN(rapid.SampledFrom(hosts), 1, 3).Draw(rt, "host"), "") + rapid.SampledFrom(tails).Draw(rt, "tail")
		if check(t, u, raw) != "" {
			return
		}
		allowed++
		parsed, err := url.Parse(raw)
		if err != nil {
			rt.Fatalf("%q is allowed and does not parse: %v", raw, err)
		}
		host := strings.ToLower(strings.TrimSuffix(parsed.Hostname(), "."))
		addr, err := netip.ParseAddr(host)
		isAddr := err == nil
		switch {
		case isAddr && netip.MustParsePrefix("10.0.0.0/8").Contains(addr.Unmap()):
		case !isAddr && (host == "example.com" || strings.HasSuffix(host, ".example.org")):
		default:
			rt.Fatalf("%q is allowed and leads to %q", raw, host)
		}
		if parsed.User != nil || !slices.Contains([]string{"", "80", "443"}, parsed.Port()) {
			rt.Fatalf("%q is allowed: user %v, port %q", raw, parsed.User, parsed.Port())
		}
	})
	if allowed == 0 {
		t.Fatal("nothing was allowed: the property was not tested")
	}
}

func FuzzURL(f *testing.F) {
	f.Add("https://example.com/a?b#c")
	f.Add("https://example.com@evil.com:443")
	f.Add("https://[::ffff:127.0.0.1]/")
	u := newURL(f, argument.URLOptions{Hosts: []string{"example.com"}, Paths: []string{"/a/*"}})
	f.Fuzz(func(t *testing.T, raw string) {
		value, err := jsontext.AppendQuote(nil, raw)
		if err != nil || u.Check(context.Background(), "url", value) != "" {
			return
		}
		parsed, err := url.Parse(raw)
		if err != nil || strings.TrimSuffix(strings.ToLower(parsed.Hostname()), ".") != "example.com" || !strings.HasPrefix(parsed.Path, "/a/") {
			t.Fatalf("%q is allowed", raw)
		}
	})
}
