package openai

import (
	"encoding/json/jsontext"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/internal/jsongen"
)

const everyItem = `{"model":"gpt-5","instructions":"Be good.","stream":true,"previous_response_id":"resp_0","conversation":{"id":"conv 1"},"metadata":{"a b":"c d"},
"prompt":{"id":"pmpt_1","version":"2","variables":{"city":"New York","doc":{"type":"input_text","text":"a variable"}}},"text":{"format":{"type":"json_schema","name":"x","schema":{"description":"A schema text."}}},
"input":[{"role":"developer","content":"Be brief."},{"type":"message","role":"user","content":[{"type":"input_text","text":"Look at this."},{"type":"input_image","image_url":"https://x.example/a b.png","detail":"low"},
{"type":"input_image","image_url":"data:image/png;base64,AAAA"},{"type":"input_file","filename":"my report.pdf","file_data":"data:application/pdf;base64,AAAA"},{"type":"input_file","file_id":"file-1"},{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}}]},
{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Said before.","annotations":[{"type":"url_citation","title":"A title"}]},{"type":"refusal","refusal":"I will not."}]},
{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"I thought."}],"content":[{"type":"reasoning_text","text":"In full."}],"encrypted_content":"gAAA AA"},
{"type":"function_call","call_id":"c1","name":"find","arguments":"{\"q\":\"where is it\"}"},{"type":"function_call_output","call_id":"c1","output":"It is here."},
{"type":"function_call","call_id":"c2","name":"look","arguments":"not json"},{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"a list of"},{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]},
{"type":"custom_tool_call","call_id":"c3","name":"run","input":"ls -la /"},{"type":"custom_tool_call_output","call_id":"c3","output":"a custom result"},
{"type":"computer_call","call_id":"c4","action":{"type":"type","text":"typed text"},"pending_safety_checks":[{"id":"s","code":"x","message":"a check's message"}]},{"type":"computer_call_output","call_id":"c4","output":{"type":"computer_screenshot","image_url":"data:image/png;base64,AA"}},
{"type":"local_shell_call","id":"ls_1","call_id":"c5","action":{"type":"exec","command":["rm","-rf /"],"env":{"A B":"c d"}}},{"type":"local_shell_call_output","id":"ls_1","output":"removed all"},
{"type":"shell_call","call_id":"c6","action":{"commands":["cat it all"]}},{"type":"shell_call_output","call_id":"c6","output":[{"stdout":"some output","stderr":"an error","outcome":{"type":"exit","exit_code":0}}]},
{"type":"apply_patch_call","call_id":"c7","operation":{"type":"update_file","path":"a b.txt","diff":"- x\n+ y"}},{"type":"apply_patch_call_output","call_id":"c7","status":"completed","output":"patched it"},
{"type":"mcp_list_tools","server_label":"crm","tools":[{"name":"lookup","description":"Looks it up.","input_schema":{"type":"object"}}]},{"type":"mcp_approval_request","id":"mr_1","server_label":"crm","name":"lookup","arguments":"{\"who\":\"all of them\"}"},
{"type":"mcp_approval_response","approval_request_id":"mr_1","approve":true,"reason":"a good reason"},{"type":"mcp_call","id":"m_1","server_label":"crm","name":"lookup","arguments":"{\"who\":\"just one\"}","output":"found one","error":null},
{"type":"web_search_call","id":"w_1","status":"completed","action":{"type":"search","query":"some query"}},{"type":"file_search_call","id":"f_1","queries":["a file query"],"results":[{"file_id":"file-2","filename":"x y.txt","text":"found text"}]},
{"type":"code_interpreter_call","id":"ci_1","container_id":"cntr_1","code":"print('hi there')","outputs":[{"type":"logs","logs":"hi there"}]},{"type":"image_generation_call","id":"ig_1","status":"completed","result":"AAAA BB","revised_prompt":"a nicer cat"},
{"type":"tool_search_output","tools":[{"type":"function","name":"later","description":"Comes later."},{"type":"web_search"}]},{"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"more","description":"One more."}]},
{"type":"program","id":"p_1","call_id":"c8","code":"do it all","fingerprint":"f"},{"type":"program_output","id":"po_1","call_id":"c8","result":"all done","status":"completed"},
{"type":"item_reference","id":"msg_0"},{"type":"compaction","id":"cmp_1","encrypted_content":"gAAA AA"},{"type":"novelty","deep":[{"x":"new text"}]},{"type":"odd_call_output","call_id":"c1","output":{"y":"odd text"}},"bare text"],
"tools":[{"type":"function","name":"find","description":"Finds things.","parameters":{"type":"object","properties":{"q":{"description":"What to find."}}}},{"type":"custom","name":"run","description":"Runs it."},
{"type":"namespace","name":"crm","description":"All of CRM.","tools":[{"type":"function","name":"inner","description":"Inside it."}]},{"type":"web_search_preview_2025_03_11","user_location":{"city":"New York"}},
{"type":"mcp","server_label":"crm","server_url":"https://mcp.example.com/x","server_description":"Knows customers.","authorization":"a secret token","headers":{"X-Key":"another token"},"require_approval":"never"},
{"type":"mcp","server_label":"drive","connector_id":"connector_googledrive"},{"type":"shell"},{"type":"shell","environment":{"type":"container_auto"}},{"type":"computer_use_preview","environment":"linux"},{"type":"file_search","vector_store_ids":["vs_1"]}]}`

func TestEveryTextOfAResponsesRequestIsRead(t *testing.T) {
	r := responsesRequest(t, everyItem)
	var got []string
	for _, it := range r.Items {
		line := string(it.In.Kind)
		if it.In.Role != "" {
			line += " " + it.In.Role
		}
		if tool := it.In.Tool; tool != nil {
			line += " " + tool.Server + "/" + tool.Name + string(tool.Arguments)
		}
		for _, p := range it.In.Content {
			line += "|" + p.Text
			if p.Type != "text" {
				line += "<" + p.Type + ">"
			}
		}
		got = append(got, line)
	}
	want := []string{
		"input system|Be good.",
		`tool_call openai/prompt{"id":"pmpt_1","version":"2"}`,
		"input user|New York|a variable",
		"input system|Be brief.",
		"input user|Look at this.|https://x.example/a b.png|<image>|my report.pdf|<file>|<file>|<audio>",
		"input assistant|Said before.|A title|I will not.",
		"input assistant|I thought.|In full.",
		"input assistant|find|where is it",
		"tool_result /find|It is here.",
		"input assistant|look|not json",
		"tool_result /look|a list of|<image>",
		"input assistant|run|ls -la /",
		"tool_result /run|a custom result",
		"input assistant|typed text|x|a check's message",
		"tool_result /computer|<image>",
		"input assistant|rm|-rf /|A B|c d",
		"tool_result /local_shell|removed all",
		"input assistant|cat it all",
		"tool_result /shell|some output|an error",
		"input assistant|a b.txt|- x\n+ y",
		"tool_result /apply_patch|patched it",
		"tool_definition crm/lookup|Looks it up.",
		"input|crm",
		"input assistant|crm|lookup|all of them",
		"input|mr_1|a good reason",
		"input assistant|crm|lookup|just one",
		"tool_result crm/lookup|found one",
		"input assistant|some query",
		"input assistant|a file query",
		"tool_result /file_search|<file>|x y.txt|found text",
		"input assistant|print('hi there')",
		"tool_result /code_interpreter|hi there",
		"input assistant|<image>|a nicer cat",
		"tool_definition /later|Comes later.",
		"tool_call openai/web_search{}",
		"tool_definition /web_search",
		"tool_definition /more|One more.",
		"input assistant|do it all|f",
		"tool_result /program|all done",
		"input|new text",
		"tool_result /find|odd text",
		"tool_definition /find|Finds things.|What to find.",
		"tool_definition /run|Runs it.",
		"tool_definition /inner|Inside it.",
		"tool_definition /crm|All of CRM.",
		"tool_call openai/web_search{}",
		"tool_definition /web_search|New York",
		`tool_call openai/mcp{"server_label":"crm","server_url":"https://mcp.example.com/x","require_approval":"never"}`,
		"tool_definition crm/mcp|Knows customers.",
		`tool_call openai/mcp{"server_label":"drive","connector_id":"connector_googledrive","require_approval":"always"}`,
		"tool_definition drive/mcp",
		"tool_definition /shell",
		"tool_call openai/shell{}",
		"tool_definition /shell",
		"tool_definition /computer_use",
		"tool_call openai/file_search{}",
		"tool_definition /file_search",
		"input|conv 1|a b|c d|A schema text.|bare text",
	}
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%d: got %q, want %q", i, g, w)
		}
	}
	if r.System != "Be good.\nBe brief." || r.FirstUser != "conv 1" || !strings.HasPrefix(r.LastUser, "Look at this.") || !r.Stream || r.Model != "gpt-5" {
		t.Errorf("system %q, users %q, %q", r.System, r.FirstUser, r.LastUser)
	}
}

func responsesRequest(t testing.TB, body string) *gateway.Request {
	t.Helper()
	doc, err := document.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := responses{}.Request(doc)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Whatever comes, no text goes up unread, and whatever is blocked or redacted, what
// goes up is JSON.
func FuzzResponsesRequest(f *testing.F) {
	f.Add(everyItem)
	f.Add(`{"input":{"a":"b c"},"tools":[[{"x":"y z"}]],"prompt":"a b","instructions":[{"role":"user","content":"c d"}],"conversation":"e f"}`)
	f.Add(`{"input":[{"type":"message","content":7},{"type":[],"tools":[{"type":"namespace","tools":[{"type":"namespace","tools":"a b"}]}]}]}`)
	f.Fuzz(func(t *testing.T, body string) { checkResponsesRequest(t, body) })
}

func TestNoTextOfAResponsesRequestGoesUpUnread(t *testing.T) {
	names := []string{"input", "tools", "instructions", "prompt", "variables", "tool_choice", "conversation", "role", "content", "type", "text", "output", "result", "results", "outputs", "error", "image_url", "url", "input_audio", "file_data", "file_url", "file_id", "filename", "detail", "call_id", "name", "arguments", "id", "description", "parameters", "refusal", "summary", "encrypted_content", "server_label", "server_url", "headers", "authorization", "require_approval", "action", "operation", "logprobs", "metadata", "stream", "data", "surprise", "a name of words"}
	lists := []string{"input", "tools", "content", "output", "summary"}
	words := []string{"system", "developer", "user", "assistant", "message", "reasoning", "function", "custom", "namespace", "mcp", "web_search", "input_text", "input_image", "function_call", "function_call_output", "mcp_call", "mcp_list_tools", "shell_call_output", "computer_call_output", "image_generation_call", "code_interpreter_call", "additional_tools", "strange_call", "strange_call_output", "item_reference", "compaction"}
	for range 5 { // each tries a hundred texts
		rapid.Check(t, func(t *rapid.T) { checkResponsesRequest(t, jsongen.Object(t, names, lists, words)) })
	}
}

func checkResponsesRequest(t fataler, body string) {
	doc, err := document.Parse([]byte(body))
	if err != nil {
		return
	}
	r, err := responses{}.Request(doc)
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
	checkResponsesRead(t, doc.Root(), read, "")
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

// checkResponsesRead looks for every text of a document among those that were read.
// Not read are data of images, audio and files, what is encrypted for the provider,
// and what an MCP server is told to let the provider in.
func checkResponsesRead(t fataler, v document.Value, read map[string]bool, kind string) {
	if v.IsString() {
		s := v.Text()
		inner, err := document.Parse([]byte(s))
		switch name := v.Name(); {
		case document.Plain(s) || read[s] || name == "data" || name == "encrypted_content" || strings.HasPrefix(strings.ToLower(s), "data:"):
		case kind == "image_generation_call" && name == "result", kind == "mcp" && (name == "authorization" || v.Name() == "headers"):
		case err == nil && name == "arguments":
			checkResponsesRead(t, inner.Root(), read, "")
		default:
			t.Fatalf("%q was not read", s)
		}
	}
	if v.Name() == "headers" && kind == "mcp" {
		return
	}
	kind = v.Get("type").Text()
	for c := v.First(); c.Exists(); c = c.Next() {
		checkResponsesRead(t, c, read, kind)
	}
}

// Whatever an answer holds, no text of it is released unread, and whatever is blocked
// or redacted, what is released is JSON.
func TestNoTextOfAResponsesAnswerIsReleasedUnread(t *testing.T) {
	names := []string{"output", "content", "type", "id", "text", "refusal", "annotations", "logprobs", "summary", "encrypted_content", "arguments", "input", "name", "call_id", "namespace", "server_label", "action", "actions", "operation", "status", "error", "result", "results", "outputs", "queries", "code", "instructions", "tools", "metadata", "surprise", "a name of words"}
	lists := []string{"output", "content", "summary", "results"}
	words := []string{"message", "output_text", "refusal", "reasoning", "function_call", "custom_tool_call", "shell_call", "computer_call", "apply_patch_call", "mcp_call", "mcp_approval_request", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "strange_call", "strange", "function_call_output"}
	for range 5 { // each tries a hundred texts
		rapid.Check(t, func(t *rapid.T) { checkResponsesAnswer(t, jsongen.Object(t, names, lists, words)) })
	}
}

func FuzzResponsesAnswer(f *testing.F) {
	f.Add(`{"output":["a b",{"type":"message","content":"c d"},{"type":"message","content":[{"type":"output_text","text":{"x":"e f"}},"g h"]}]}`)
	f.Add(`{"output":{"a":"b c"},"status":7}`)
	f.Fuzz(func(t *testing.T, body string) { checkResponsesAnswer(t, body) })
}

func checkResponsesAnswer(t fataler, body string) {
	doc, err := document.Parse([]byte(body))
	if err != nil {
		return
	}
	ans, err := responses{}.Answer(doc, &gateway.Call{Request: &gateway.Request{}})
	if err != nil {
		return
	}
	read := map[string]bool{}
	for _, it := range ans.Items {
		texts, err := it.In.Texts()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range texts {
			read[s.Text] = true
			if inner, err := document.Parse([]byte(s.Text)); err == nil && it.Unreadable != "" { // read as it stands
				inner.Root().Strings(func(_ document.Place, text string) { read[text] = true })
			}
		}
		if it.In.Tool != nil {
			for _, s := range []string{it.In.Tool.Name, it.In.Tool.Server, it.In.Tool.CallID} {
				read[s] = true
			}
		}
	}
	checkAnswerRead(t, doc.Root(), read, "")
	for i, it := range ans.Items {
		switch {
		case it.Redact != nil && i%2 == 0:
			d := guardbook.Decision{Arguments: jsontext.Value("{}")}
			for range it.In.Content {
				d.Content = append(d.Content, guardbook.TextPart("other"))
			}
			it.Redact(d)
		case it.Block != nil:
			it.Block(guardbook.Decision{Message: "no"})
		}
	}
	ans.Settled()
	if out := doc.String(); !jsontext.Value(out).IsValid() {
		t.Fatalf("%s became %s", body, out)
	}
}

// checkAnswerRead looks for every text of an answer among those that were read. Not
// read are what repeats a text token by token, data of images, and what is encrypted
// for the provider.
func checkAnswerRead(t fataler, v document.Value, read map[string]bool, kind string) {
	if v.Name() == "logprobs" && (kind == "output_text" || kind == "refusal") {
		return
	}
	if v.IsString() {
		s := v.Text()
		inner, err := document.Parse([]byte(s))
		switch name := v.Name(); {
		case document.Plain(s) || read[s] || name == "encrypted_content" || kind == "image_generation_call" && name == "result":
		case err == nil && name == "arguments":
			checkAnswerRead(t, inner.Root(), read, "")
		default:
			t.Fatalf("%q was not read", s)
		}
	}
	kind = v.Get("type").Text()
	for c := v.First(); c.Exists(); c = c.Next() {
		checkAnswerRead(t, c, read, kind)
	}
}
