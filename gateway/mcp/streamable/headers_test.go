package streamable_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/gateway/mcp/internal/bed"
	"github.com/guardbook/guardbook/gateway/mcp/streamable"
)

const (
	callTime = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"time","arguments":{}}}`
	answer1  = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
)

func says(contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
}

func TestHeadersAreHeldAgainstTheBody(t *testing.T) {
	w := newWorld(t, "crm", says("application/json", answer1), nil)
	modern := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query","arguments":{"query":"a","region":"Köln"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for name, headers := range map[string][]string{
		"another method":   {"Mcp-Method", "tools/list"},
		"another name":     {"Mcp-Name", "time"},
		"another revision": {"Mcp-Protocol-Version", "2025-11-25"},
		"another argument": {"Mcp-Param-Region", "Bonn"},
		"not base64":       {"Mcp-Param-Region", "=?base64?%%%?="},
		"a header twice":   {"Mcp-Name", "query", "Mcp-Name", "query"},
	} {
		if resp, body := w.post(t, modern, headers...); resp.StatusCode != http.StatusBadRequest || !root(t, body).Get("error").Exists() {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	if n := len(w.seen.all()); n != 0 {
		t.Fatalf("%d of them went on", n)
	}
	good := []string{"Mcp-Method", "tools/call", "Mcp-Name", "query", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Param-Region", "=?base64?S8O2bG4=?=", "Mcp-Param-Query", "a"}
	if resp, body := w.post(t, modern, good...); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if got := w.seen.all()[0]; got.body != modern || got.header.Get("Mcp-Param-Region") != "=?base64?S8O2bG4=?=" {
		t.Errorf("%+v", got)
	}
}

func TestAMirroredArgumentIsRedactedInItsHeaderToo(t *testing.T) {
	w := newWorld(t, "crm", says("application/json", answer1), nil)
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query","arguments":{"query":"x","region":"` + bed.Mail + `"}}}`
	if resp, b := w.post(t, body, "Mcp-Method", "tools/call", "Mcp-Param-Region", bed.Mail, "Mcp-Param-Query", "x"); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, b)
	}
	got := w.seen.all()[0]
	if got.header.Get("Mcp-Param-Region") != bed.Redacted || got.header.Get("Mcp-Param-Query") != "x" || !strings.Contains(got.body, bed.Redacted) {
		t.Errorf("%+v", got)
	}
}

func TestAuthorizationIsTheServers(t *testing.T) {
	challenge := `Bearer resource_metadata="https://crm.example/.well-known/oauth-protected-resource/mcp"`
	metadata := `{"resource":"https://crm.example/mcp","authorization_servers":["https://login.example"]}`
	asked := 0
	w := newWorld(t, "crm", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			asked++
			if r.URL.Path != "/.well-known/oauth-protected-resource/mcp" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, metadata)
			return
		}
		if r.Header.Get("Authorization") != "Bearer user-token" {
			rw.Header().Set("WWW-Authenticate", challenge)
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(rw, `{"error":"invalid_token"}`)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, answer1)
	}), nil)
	resp, body := w.post(t, callTime)
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != challenge || body != `{"error":"invalid_token"}` {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if resp, body := w.post(t, callTime, "Authorization", "Bearer user-token"); resp.StatusCode != http.StatusOK || body != answer1 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	for range 3 {
		r, err := http.Get(w.root + "/.well-known/oauth-protected-resource/mcp/crm")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if string(b) != metadata {
			t.Errorf("%d %s", r.StatusCode, b)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if asked != 1 {
		t.Errorf("the server was asked %d times", asked)
	}
	for _, e := range w.All(t, "") {
		if bytes.Contains(e.Raw, []byte("user-token")) {
			t.Errorf("the token stands in the book: %s", e.Raw)
		}
	}
	if strings.Contains(w.log.String(), "user-token") {
		t.Error("the token stands in the log")
	}
}

func TestConfiguredHeadersTakeThePlaceOfTheClients(t *testing.T) {
	w := newWorld(t, "crm", says("application/json", answer1), func(o *streamable.Options) {
		s := o.Servers["crm"]
		s.Headers = map[string]string{"authorization": "Bearer held-here"}
		o.Servers["crm"] = s
	})
	w.post(t, callTime, "Authorization", "Bearer user-token")
	if got := w.seen.all()[0].header["Authorization"]; len(got) != 1 || got[0] != "Bearer held-here" {
		t.Errorf("%v", got)
	}
}

func TestWhoIsNotAnAgentIsRefused(t *testing.T) {
	w := newWorld(t, "crm", says("application/json", answer1), nil)
	w.client.Transport = withKey{key: "gbk_wrong", next: w.client.Transport.(withKey).next}
	if resp, body := w.post(t, callTime); resp.StatusCode != http.StatusForbidden || !root(t, body).Get("error").Exists() {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if n := len(w.seen.all()); n != 0 {
		t.Errorf("%d requests went on", n)
	}
}

func TestTheKeyInThePath(t *testing.T) {
	w := newWorld(t, "crm", says("application/json", answer1), nil)
	w.client.Transport = w.client.Transport.(withKey).next
	w.url = w.root + "/k/" + bed.Key + "/mcp/crm"
	if resp, body := w.post(t, callTime); resp.StatusCode != http.StatusOK || body != answer1 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestASessionBelongsToOneAgent(t *testing.T) {
	w := newWorld(t, "crm", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), "initialize") {
			rw.Header().Set("Mcp-Session-Id", "abc")
			_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`)
			return
		}
		_, _ = io.WriteString(rw, answer1)
	}), nil)
	resp, _ := w.post(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`)
	if resp.Header.Get("Mcp-Session-Id") != "abc" {
		t.Fatalf("%v", resp.Header)
	}
	if resp, body := w.post(t, callTime, "Mcp-Session-Id", "abc"); resp.StatusCode != http.StatusOK {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	mine := w.client.Transport.(withKey)
	w.client.Transport = withKey{key: bed.OtherKey, next: mine.next}
	if resp, _ := w.post(t, callTime, "Mcp-Session-Id", "abc"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another agent uses the session: %d", resp.StatusCode)
	}
}
