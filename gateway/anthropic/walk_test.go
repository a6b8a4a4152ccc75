package anthropic

import (
	"encoding/json/jsontext"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/internal/jsongen"
)

var everything = `{"model":"claude-x","max_tokens":10,"stream":true,"system":[{"type":"text","text":"Be good.","cache_control":{"type":"ephemeral"}}],"metadata":{"user_id":"u 1"},"stop_sequences":["the end"],
"messages":[{"role":"user","content":[{"type":"text","text":"Look."},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA+/=="}},
{"type":"document","title":"A title","context":"A context","source":{"type":"text","media_type":"text/plain","data":"document text"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JV=="}},
{"type":"search_result","source":"https://x.example/?a b","title":"Found it","content":[{"type":"text","text":"found text"}]},{"type":"new","deep":{"x":"new text"}}]},
{"role":"assistant","content":[{"type":"thinking","thinking":"Let me think.","signature":"sig=="},{"type":"redacted_thinking","data":"enc=="},{"type":"text","text":"I look."},{"type":"tool_use","id":"t1","name":"find","input":{"q":"where is it","n":["a b"]}},
{"type":"server_tool_use","id":"s1","name":"web_search","input":{"query":"some query"}},{"type":"web_search_tool_result","tool_use_id":"s1","content":[{"type":"web_search_result","url":"https://y.example/","title":"A page","encrypted_content":"enc enc"}]}]},
{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":false,"content":[{"type":"text","text":"It is here."},{"type":"image","source":{"type":"url","url":"https://z.example/a b.png"}}]},{"type":"text","text":"And now?"}]},
{"role":"user","content":"Plain words."}],
"tools":[{"name":"find","description":"Finds things.","input_schema":{"type":"object","properties":{"q":{"description":"What to find."}}}},{"type":"code_execution_20250825","name":"code_execution"}],
"mcp_servers":[{"type":"url","name":"crm","url":"https://mcp.example.com/x","authorization_token":"a token"}],"unknown_field":["v w"]}`

func TestEveryTextOfARequestIsRead(t *testing.T) {
	doc, err := document.Parse([]byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	r, err := messages{}.Request(doc)
	if err != nil {
		t.Fatal(err)
	}
	type seen struct{ kind, role, tool, text string }
	var got []seen
	for _, it := range r.Items {
		name := ""
		if it.In.Tool != nil {
			name = it.In.Tool.Name + string(it.In.Tool.Arguments)
		}
		var texts []string
		for _, p := range it.In.Content {
			texts = append(texts, p.Type[:1]+":"+p.Text)
		}
		got = append(got, seen{string(it.In.Kind), it.In.Role, name, strings.Join(texts, "|")})
	}
	want := []seen{
		{"input", "system", "", "t:Be good."},
		{"input", "user", "", "t:Look.|i:|t:A title|t:A context|t:document text|d:|t:https://x.example/?a b|t:Found it|t:found text|t:new text"},
		{"input", "assistant", "", "t:I look.|t:where is it|t:a b|t:some query"},
		{"input", "assistant", "", "t:Let me think."},
		{"tool_result", "", "web_search", "t:A page"},
		{"input", "user", "", "t:And now?"},
		{"tool_result", "", "find", "t:It is here.|t:https://z.example/a b.png"},
		{"input", "user", "", "t:Plain words."},
		{"tool_definition", "", "find", "t:Finds things.|t:What to find."},
		{"tool_call", "", "code_execution{}", ""},
		{"tool_definition", "", "code_execution", ""},
		{"tool_call", "", `mcp_servers{"name":"crm","url":"https://mcp.example.com/x"}`, ""},
		{"input", "", "", "t:u 1|t:the end|t:v w"},
	}
	if !slices.Equal(got, want) {
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Errorf("%d: got %+v", i, got[min(i, len(got)-1)])
			}
		}
	}
	if r.System != "Be good." || !strings.HasPrefix(r.FirstUser, "Look.") || r.LastUser != "Plain words." {
		t.Errorf("system %q, users %q, %q", r.System, r.FirstUser, r.LastUser)
	}
}

// Whatever comes, no text goes up unread, and whatever is blocked or redacted, what
// goes up is JSON.
func FuzzRequest(f *testing.F) {
	f.Add(everything)
	f.Add(`{"messages":[{"role":7,"content":{"type":"tool_result","content":"a b"}}],"tools":"a b","mcp_servers":["x y",{"name":3}],"system":{"a":["b c"]}}`)
	f.Fuzz(func(t *testing.T, body string) { checkRequest(t, messages{}, body) })
}

func TestNoTextGoesUpUnread(t *testing.T) {
	names := []string{"system", "messages", "tools", "mcp_servers", "tool_choice", "role", "content", "type", "text", "source", "media_type", "url", "title", "context", "thinking", "signature", "tool_use_id", "name", "input", "id", "description", "input_schema", "mcp_server_name", "cache_control", "encrypted_content", "metadata", "stream", "n", "authorization_token", "data", "tool", "definition", "skills", "skill_id", "container", "file_id", "tool_changes", "caller", "requests", "params", "custom_id", "surprise", "a name of words"}
	lists := []string{"messages", "tools", "content", "mcp_servers", "system", "skills", "tool_changes", "requests"}
	words := []string{"user", "assistant", "text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result", "mcp_tool_result", "web_search_tool_result", "server_tool_use", "base64", "url", "content", "tool", "mcp_toolset", "web_search_20250305", "tool_addition", "tool_definition", "tool_reference", "mcp_tool_listing", "compaction", "container_upload"}
	for range 5 { // each tries a hundred texts
		rapid.Check(t, func(t *rapid.T) {
			body := jsongen.Object(t, names, lists, words)
			checkRequest(t, messages{}, body)
			checkRequest(t, batches{}, body)
			checkRequest(t, batches{}, `{"requests":[{"custom_id":"a","params":`+body+`},`+body+`]}`)
		})
	}
}

// fataler is a testing.T or a rapid.T.
type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

func checkRequest(t fataler, e gateway.Endpoint, body string) {
	doc, err := document.Parse([]byte(body))
	if err != nil {
		return
	}
	r, err := e.Request(doc)
	if err != nil {
		return
	}
	read := map[string]bool{}
	for _, it := range r.Items {
		texts, err := it.In.Texts()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range texts {
			read[s.Text] = true
		}
	}
	checkRead(t, doc.Root(), read)
	for _, it := range r.Items {
		switch {
		case it.Redact != nil:
			it.Redact(guardbook.Decision{Arguments: jsontext.Value("{}")})
		case it.Block != nil:
			it.Block(guardbook.Decision{Message: "no"})
		}
	}
	r.Settled()
	if out := doc.String(); !jsontext.Value(out).IsValid() {
		t.Fatalf("%s became %s", body, out)
	}
}

// checkRead looks for every text of a document among those that were read. Data of
// images and files, what only the provider can read, and a server's token are not.
func checkRead(t fataler, v document.Value, read map[string]bool) {
	if v.IsString() {
		s := v.Text()
		switch name := v.Name(); {
		case document.Plain(s) || read[s] || strings.HasPrefix(strings.ToLower(s), "data:"):
		case name == "data" || name == "signature" || name == "authorization_token" || strings.HasPrefix(name, "encrypted_"):
		default:
			t.Fatalf("%q was not read", s)
		}
	}
	for c := v.First(); c.Exists(); c = c.Next() {
		checkRead(t, c, read)
	}
}
