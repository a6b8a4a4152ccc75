package gateway_test

import (
	"encoding/json/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

// requestOf is a request that each protocol's endpoint reads.
func requestOf(p protocol, text string, stream bool) string {
	return `{"model":"m","max_tokens":9,"stream":` + strconv.FormatBool(stream) + `,"messages":[{"role":"user","content":` + strconv.Quote(text) + `}]}`
}

// raisedIn reads the decision out of an error body.
func raisedIn(t *testing.T, body string) map[string]any {
	t.Helper()
	var e struct {
		Error map[string]any `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	d, _ := e.Error["guardbook"].(map[string]any)
	if d == nil || e.Error["message"] == "" {
		t.Fatalf("no decision in %s", body)
	}
	return d
}

func checkRaised(t *testing.T, d map[string]any, rule string) {
	t.Helper()
	if d["decision"] != "block" || d["entry"] == "" || d["rule"] != rule || d["message"] == "" || d["severity"] == "" {
		t.Errorf("got %v", d)
	}
}

// A client that raises blocks itself gets each as an error with the decision in it.
func TestABlockIsRaised(t *testing.T) {
	const injection, secret = "billing-bot/findings/prompt_injection", "billing-bot/findings/secret"
	each(t, func(t *testing.T, p protocol) {
		t.Run("of the request", func(t *testing.T) {
			up := &testbed.Upstream{JSON: p.whole("Hello.")}
			b := testbed.New(t, testbed.Options{Upstream: up})
			for _, stream := range []bool{false, true} {
				resp, body := post(t, b, p.path, requestOf(p, testbed.Injection, stream), gateway.HeaderBlock, "raise")
				if resp.StatusCode != 403 || resp.Header.Get("X-Should-Retry") != "false" {
					t.Errorf("stream %v: %d %v", stream, resp.StatusCode, resp.Header)
				}
				checkRaised(t, raisedIn(t, body), injection)
			}
			if len(up.Seen()) != 0 {
				t.Error("it went upstream")
			}
		})
		t.Run("of the answer", func(t *testing.T) {
			b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: p.whole("The key is " + testbed.Secret + ".")}})
			resp, body := post(t, b, p.path, requestOf(p, "go", false), gateway.HeaderBlock, "raise")
			if resp.StatusCode != 403 || strings.Contains(body, testbed.Secret) {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			checkRaised(t, raisedIn(t, body), secret)
		})
		t.Run("within a stream", func(t *testing.T) {
			events := p.begin() + p.piece("The key is ") + p.piece(testbed.Secret[:6]) + p.piece(testbed.Secret[6:]+" and more.") + p.piece("This must never come.") + p.end()
			b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
			resp, body := post(t, b, p.path, requestOf(p, "go", true), gateway.HeaderBlock, "raise")
			if resp.StatusCode != 200 || !strings.Contains(body, "The key") || strings.Contains(body, testbed.Secret[:6]) || strings.Contains(body, "never") {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			_, after, ok := strings.Cut(body, "\n: guardbook ")
			line, rest, _ := strings.Cut(after, "\n")
			var d map[string]any
			if !ok || json.Unmarshal([]byte(line), &d) != nil {
				t.Fatalf("no comment with the decision in %s", body)
			}
			checkRaised(t, d, secret)
			if !strings.Contains(rest, `"error"`) || strings.Count(rest, "data:") != 1 {
				t.Errorf("after the comment comes %q", rest)
			}
			if e := testbed.Closing(t, b); e.Outcome != "blocked" {
				t.Errorf("closing entry %+v", e)
			}
		})
	})
}

func TestABlockedCallIsRaised(t *testing.T) {
	for name, up := range map[string]*testbed.Upstream{"whole": {JSON: callsAnswer}, "streamed": {Events: callsEvents}} {
		t.Run(name, func(t *testing.T) {
			b := testbed.New(t, testbed.Options{Upstream: up})
			_, body := post(t, b, "/openai/v1/chat/completions", requestOf(protocols[0], "go", name == "streamed"), gateway.HeaderBlock, "raise")
			if strings.Contains(body, `"tool_calls":[`) || !strings.Contains(body, `"guardbook"`) && !strings.Contains(body, ": guardbook ") || !strings.Contains(body, "drop_table") {
				t.Errorf("got %s", body)
			}
		})
	}
}

// A client may name the upstream that its request is for; only places that are
// configured are reached, and the server's own provider key goes to none but its own.
func TestAClientNamesItsUpstream(t *testing.T) {
	p := protocols[0]
	own, second, third := &testbed.Upstream{JSON: p.whole("own")}, &testbed.Upstream{JSON: p.whole("second")}, &testbed.Upstream{JSON: p.whole("third")}
	secondServer, thirdServer := httptest.NewServer(second), httptest.NewServer(third)
	defer secondServer.Close()
	defer thirdServer.Close()
	ownServer := httptest.NewServer(own)
	defer ownServer.Close()
	for name, c := range map[string]struct {
		upstream, want string
		any            bool
		auth           string // what reaches the upstream
		path           string
	}{
		"none":             {"", "own", false, "Bearer sk-own", "/v1/chat/completions"},
		"the server's own": {ownServer.URL, "own", false, "Bearer sk-own", "/v1/chat/completions"},
		"the same with v1": {ownServer.URL + "/v1", "own", false, "Bearer sk-own", "/v1/chat/completions"},
		"a configured one": {secondServer.URL + "/api", "second", false, "Bearer sk-second", "/api/v1/chat/completions"},
		"another version":  {secondServer.URL + "/v4/", "second", true, "", "/v4/chat/completions"},
		"an unknown one":   {thirdServer.URL, "upstream_refused", false, "", ""},
		"any is allowed":   {thirdServer.URL, "third", true, "", "/v1/chat/completions"},
		"with a user":      {"http://u:p@" + strings.TrimPrefix(thirdServer.URL, "http://"), "bad_header", true, "", ""},
		"not http":         {"file:///etc/passwd", "bad_header", true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := testbed.New(t, testbed.Options{URL: ownServer.URL, Key: "sk-own", Gateway: gateway.Options{
				AnyUpstream: c.any, Upstreams: []gateway.Upstream{{Name: "second", URL: secondServer.URL + "/api", Key: "sk-second"}},
			}})
			var header []string
			if c.upstream != "" {
				header = []string{gateway.HeaderUpstream, c.upstream}
			}
			before := map[*testbed.Upstream]int{own: len(own.Seen()), second: len(second.Seen()), third: len(third.Seen())}
			resp, body := post(t, b, p.path, requestOf(p, "hi", false), header...)
			if !strings.Contains(body, c.want) {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			for up, n := range before {
				for _, seen := range up.Seen()[n:] {
					if seen.Header.Get("Authorization") != c.auth || seen.Path != c.path {
						t.Errorf("%s got %q at %s, want %q at %s", c.want, seen.Header.Get("Authorization"), seen.Path, c.auth, c.path)
					}
				}
			}
			if resp.StatusCode >= 400 && testbed.Refusals(t, b)[0].Code != c.want {
				t.Errorf("refusal %+v", testbed.Refusals(t, b))
			}
		})
	}
}

// Whatever the server answers to a numbered request, the number is in the book.
func TestANumberedRequestIsInTheBook(t *testing.T) {
	p := protocols[0]
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: p.whole("Hello.")}})
	header := func(n string) []string { return []string{gateway.HeaderClient, "c-1", gateway.HeaderClientSeq, n} }
	post(t, b, p.path, requestOf(p, "hi", false), header("1")...)
	post(t, b, p.path, requestOf(p, testbed.Injection, false), header("2")...)
	post(t, b, p.path, `{"model":`, header("3")...)
	post(t, b, "/openai/v1/files", `{}`, header("4")...)
	if resp, _ := post(t, b, p.path, requestOf(p, "hi", false), header("0")...); resp.StatusCode != http.StatusBadRequest {
		t.Error("number 0 was taken")
	}
	seen := map[int64]bool{}
	for _, d := range testbed.Decisions(t, b) {
		if d.Client == "c-1" {
			seen[d.ClientSeq] = true
		}
	}
	for _, r := range testbed.Entries[guardbook.RefusalEntry](t, b, guardbook.TypeRefusal) {
		if r.Client == "c-1" {
			seen[r.ClientSeq] = true
		}
	}
	for n := int64(1); n <= 4; n++ {
		if !seen[n] {
			t.Errorf("number %d is in no entry", n)
		}
	}
}
