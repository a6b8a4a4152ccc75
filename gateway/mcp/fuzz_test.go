package mcp_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/internal/bed"
)

// FuzzHandle sends anything in either direction. Whatever goes on must be one strict
// message in one line, and mean the same to a parser that is less strict.
func FuzzHandle(f *testing.F) {
	for _, s := range []string{
		call("1", "time", "{}"), listTools, tools(tool("time", "x")),
		`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, `{"jsonrpc":"2.0","id":"1","method":"x","Method":"y"}`,
		`[{"jsonrpc":"2.0","method":"notifications/initialized"}]`, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":[]}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"resource","resource":{"blob":"aGVsbG8="}}],"structuredContent":{"a":123456789012}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create"}},"requestState":"s"}}`,
		"{\"jsonrpc\":\"2.0\",\n\"id\":1,\"method\":\"ping\"}", `{"a":`, "\xff", "",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	b := bed.New(f, "")
	f.Fuzz(func(t *testing.T, raw []byte, client bool) {
		s := b.Session("loose")
		from := mcp.FromServer
		if client {
			from = mcp.FromClient
		} else {
			s.Handle(bg, mcp.FromClient, []byte(call("1", "time", "{}")))
			s.Handle(bg, mcp.FromClient, []byte(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`))
		}
		r := s.Handle(bg, from, bytes.Clone(raw))
		for _, out := range [][]byte{r.Forward, r.Answer} {
			if out == nil {
				continue
			}
			if _, err := document.Parse(out); err != nil || bytes.ContainsAny(out, "\r\n") {
				t.Fatalf("%q: %v", out, err)
			}
		}
		if r.Forward == nil || r.Forward[0] == '[' {
			return
		}
		// encoding/json does not care for capitals and lets the last name win.
		var loose struct {
			Method  string
			ID      json.RawMessage
			Params  struct{ Name json.RawMessage }
			Result  json.RawMessage
			JSONRPC string
		}
		if json.Unmarshal(r.Forward, &loose) != nil {
			return // its types are not those: it reads nothing
		}
		v := value(t, r.Forward)
		if loose.Method != v.Get("method").Text() || string(loose.ID) != v.Get("id").Raw() || loose.JSONRPC != "2.0" {
			t.Fatalf("%s is read as %+v", r.Forward, loose)
		}
		if v.Get("method").Text() == "tools/call" && string(loose.Params.Name) != v.Get("params").Get("name").Raw() {
			t.Fatalf("%s is read as %+v", r.Forward, loose)
		}
	})
}
