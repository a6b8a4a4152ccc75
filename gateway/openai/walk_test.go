package openai

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

var everything = `{"model":"gpt-5 turbo?","n":2,"stream":true,"stream_options":{"include_usage":true},"user":"u 1","metadata":{"a b":"c d"},
"messages":[{"role":"system","content":"Be good."},{"role":"developer","content":[{"type":"text","text":"Be brief."}]},
{"role":"user","name":"Bob B","content":[{"type":"text","text":"Look at this."},{"type":"image_url","image_url":{"url":"https://x.example/a b.png","detail":"low"}},
{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}},
{"type":"file","file":{"filename":"my report.pdf","file_data":"data:application/pdf;base64,AAAA"}},{"type":"new","deep":[{"x":"new text"}]}]},
{"role":"assistant","content":null,"refusal":"I will not.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"find","arguments":"{\"q\":\"where is it\"}"}},
{"id":"call_2","type":"custom","custom":{"name":"run","input":"ls -la /"}}]},{"role":"tool","tool_call_id":"call_1","content":"It is here."},
{"role":"assistant","function_call":{"name":"old","arguments":"not json"}},{"role":"function","name":"old","content":"old result"},{"role":"odd","content":{"strange":"a b"}},"bare text"],
"tools":[{"type":"function","function":{"name":"find","description":"Finds things.","parameters":{"type":"object","properties":{"q":{"type":"string","description":"What to find."}}}}},{"type":"web_search","user_location":{"city":"New York"}}],
"functions":[{"name":"old","description":"An old one."}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"description":"A schema text."}}},
"prediction":{"type":"content","content":"predicted text"},"unknown_field":{"k":["v w"]}}`

func TestEveryTextOfARequestIsRead(t *testing.T) {
	r := request(t, everything)
	type seen struct{ kind, role, tool, text string }
	var got []seen
	for _, it := range r.Items {
		name := ""
		if it.In.Tool != nil {
			name = it.In.Tool.Name
		}
		var texts []string
		for _, p := range it.In.Content {
			texts = append(texts, p.Type[:1]+":"+p.Text)
		}
		got = append(got, seen{string(it.In.Kind), it.In.Role, name, strings.Join(texts, "|")})
	}
	want := []seen{
		{"input", "system", "", "t:Be good."},
		{"input", "system", "", "t:Be brief."},
		{"input", "user", "", "t:Bob B|t:Look at this.|t:https://x.example/a b.png|i:|a:|t:my report.pdf|f:|t:new text"},
		{"input", "assistant", "", "t:I will not.|t:where is it|t:ls -la /"},
		{"tool_result", "", "find", "t:It is here."},
		{"input", "assistant", "", "t:not json"},
		{"tool_result", "", "old", "t:old|t:old result"},
		{"input", "", "", "t:a b"},
		{"tool_definition", "", "find", "t:Finds things.|t:What to find."},
		{"tool_call", "", "web_search", ""},
		{"tool_definition", "", "web_search", "t:New York"},
		{"tool_definition", "", "old", "t:An old one."},
		{"input", "", "", "t:gpt-5 turbo?|t:u 1|t:a b|t:c d|t:bare text|t:json_schema|t:x|t:A schema text.|t:content|t:predicted text|t:v w"},
	}
	if !slices.Equal(got, want) {
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Errorf("%d: got %+v", i, got[min(i, len(got)-1)])
			}
		}
	}
	if r.System != "Be good.\nBe brief." || !strings.HasPrefix(r.FirstUser, "Bob B\nLook at this.") || r.FirstUser != r.LastUser || !r.Stream {
		t.Errorf("system %q, first user %q", r.System, r.FirstUser)
	}
	if a := r.Protocol.(*asked); a.choices != 2 || !a.usage {
		t.Errorf("asked %+v", a)
	}
}

func request(t testing.TB, body string) *gateway.Request {
	t.Helper()
	doc, err := document.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := chat{}.Request(doc)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Whatever comes, no text goes up unread, and whatever is blocked or redacted, what
// goes up is JSON.
func FuzzRequest(f *testing.F) {
	f.Add(everything)
	f.Add(`{"messages":[{"role":"tool","tool_call_id":7,"content":null}],"tools":{"a b":"c d"},"tool_choice":{"function":{"name":"x y"}}}`)
	f.Add(`{"messages":{"a":[[["deep text"]]]},"functions":[["x y"]],"web_search_options":"a b"}`)
	f.Fuzz(func(t *testing.T, body string) { checkRequest(t, body) })
}

func TestNoTextGoesUpUnread(t *testing.T) {
	names := []string{"messages", "tools", "functions", "web_search_options", "tool_choice", "role", "content", "type", "text", "image_url", "url", "input_audio", "file", "file_data", "filename", "detail", "tool_calls", "tool_call_id", "function", "custom", "function_call", "name", "arguments", "input", "id", "description", "parameters", "refusal", "model", "metadata", "stream", "n", "authorization_token", "data", "surprise", "a name of words"}
	lists := []string{"messages", "tools", "content", "tool_calls"}
	words := []string{"system", "developer", "user", "assistant", "tool", "function", "custom", "text", "image_url", "input_audio", "file", "web_search"}
	for range 5 { // each tries a hundred texts
		rapid.Check(t, func(t *rapid.T) { checkRequest(t, jsongen.Object(t, names, lists, words)) })
	}
}

// fataler is a testing.T or a rapid.T.
type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

func checkRequest(t fataler, body string) {
	doc, err := document.Parse([]byte(body))
	if err != nil {
		return
	}
	r, err := chat{}.Request(doc)
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
// images, audio and files is named only; a text that is JSON is read as JSON.
func checkRead(t fataler, v document.Value, read map[string]bool) {
	if v.IsString() {
		s := v.Text()
		inner, err := document.Parse([]byte(s))
		switch name := v.Name(); {
		case document.Plain(s) || read[s] || name == "data" || strings.HasPrefix(strings.ToLower(s), "data:"):
		case err == nil && name == "arguments":
			checkRead(t, inner.Root(), read)
		default:
			t.Fatalf("%q was not read", s)
		}
	}
	for c := v.First(); c.Exists(); c = c.Next() {
		checkRead(t, c, read)
	}
}
