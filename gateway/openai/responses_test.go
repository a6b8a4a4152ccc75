package openai_test

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

// answers are answers with something to decide in each.
var answers = map[string]string{
	"text":           reply(message("Hello, and good day.")),
	"redacted text":  reply(message("Ask " + testbed.Mail + " now. ")),
	"two parts":      reply(message("Ask "+testbed.Mail+" now. ", "And "+testbed.Mail)),
	"secret":         reply(message("Here is " + testbed.Secret + " for you.")),
	"refusal":        reply(`{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"refusal","refusal":"No, ask ` + testbed.Mail + `."}]}`),
	"calls":          reply(functionCall(1, "drop_table", `{"t":"users"}`), functionCall(2, "get_time", `{}`), functionCall(3, "send_email", `{"to":"boss","body":"ask `+testbed.Mail+`"}`)),
	"text and call":  reply(message("I look it up for "+testbed.Mail+"."), functionCall(1, "get_time", "{}")),
	"blocked call":   reply(functionCall(1, "drop_table", `{}`)),
	"broken call":    reply(functionCall(1, "query_database", `{"query":`)),
	"twice in call":  reply(functionCall(1, "query_database", `{"query":"a","query":"b"}`)),
	"custom call":    reply(`{"id":"ct_1","type":"custom_tool_call","status":"completed","call_id":"call_1","name":"note","input":"tell ` + testbed.Mail + `"}`),
	"shell call":     reply(`{"id":"sh_1","type":"shell_call","status":"completed","call_id":"call_1","action":{"commands":["ls","rm -rf /"],"timeout_ms":1,"max_output_length":9},"environment":null}`),
	"patch call":     reply(`{"id":"ap_1","type":"apply_patch_call","status":"completed","call_id":"call_1","operation":{"type":"update_file","path":"a","diff":"+ b c"}}`),
	"unknown call":   reply(`{"id":"x_1","type":"teleport_call","status":"completed","where":"to the moon"}`),
	"approval":       reply(`{"id":"mcpr_1","type":"mcp_approval_request","server_label":"crm","name":"delete_all","arguments":"{}"}`),
	"mcp call":       reply(`{"id":"mcp_1","type":"mcp_call","status":"completed","server_label":"crm","name":"find","arguments":"{\"q\":\"x y\"}","output":"Ask `+testbed.Mail+`","error":null,"approval_request_id":null}`, message("Found it.")),
	"poisoned mcp":   reply(`{"id":"mcp_1","type":"mcp_call","status":"completed","server_label":"crm","name":"find","arguments":"{}","output":"`+testbed.Injection+`","error":null,"approval_request_id":null}`, message("Found it.")),
	"reasoning":      reply(`{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"I could ask `+testbed.Mail+` first."}],"encrypted_content":"gAAA"}`, message("Hello there.")),
	"secret thought": reply(`{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"The key is `+testbed.Secret+` I think."}]}`, message("Hello there.")),
	"search":         reply(`{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"who is `+testbed.Mail+`"}}`, message("Hello there.")),
	"unknown item":   reply(`{"id":"y_1","type":"surprise","status":"completed","deep":{"says":"ask ` + testbed.Mail + `"}}`),
	"incomplete":     strings.Replace(strings.Replace(reply(message("Ask "+testbed.Mail)), `"completed","background"`, `"incomplete","background"`, 1), `"incomplete_details":null`, `"incomplete_details":{"reason":"max_output_tokens"}`, 1),
}

// However an answer is cut into pieces, the client gets what it gets unstreamed, and
// the book holds the same decisions.
func TestResponsesHoweverAnAnswerIsCutItIsTheSame(t *testing.T) {
	for name, whole := range answers {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: whole}
			b := testbed.New(t, testbed.Options{Upstream: up})
			c := client(b)
			got, err := c.Responses.New(context.Background(), ask("go"))
			if err != nil {
				t.Fatal(err)
			}
			want, wantDecided := plain(got), decided(t, b, 0)
			if strings.Contains(want, testbed.Secret) {
				t.Fatalf("unstreamed: %s", want)
			}
			longest := 0
			cut := func(i int) func(string) []string {
				return func(s string) []string {
					longest = max(longest, len(s))
					if i == 0 || i >= len(s) {
						return []string{s}
					}
					return []string{s[:i], s[i:]}
				}
			}
			check := func(events string) {
				t.Helper()
				before := len(testbed.Decisions(t, b))
				up.Events = events
				h, err := listen(t, b, ask("go"))
				if err != nil {
					t.Fatal(err)
				}
				text, ds := plain(h.response), decided(t, b, before)
				if cutOff := h.response.Usage.TotalTokens == 0; cutOff {
					// What was released before the block stays, and what came after it was
					// not decided on.
					if !strings.HasSuffix(text, want[strings.Index(want, "{"):]) || strings.Contains(text, testbed.Secret) || !strings.Contains(want, "Blocked by") {
						t.Errorf("streamed: %s\nunstreamed: %s", text, want)
					}
					for _, d := range ds {
						if !slices.Contains(wantDecided, d) {
							t.Errorf("streamed: %q\nunstreamed: %q", ds, wantDecided)
						}
					}
					return
				}
				if text != want {
					t.Errorf("streamed: %s\nunstreamed: %s", text, want)
				}
				if !slices.Equal(ds, wantDecided) {
					t.Errorf("streamed: %q\nunstreamed: %q", ds, wantDecided)
				}
			}
			check(streamed(t, whole, cut(0)))
			for i := 1; i < longest && !t.Failed(); i++ {
				check(streamed(t, whole, cut(i)))
			}
			if !t.Failed() {
				check(streamed(t, whole, func(s string) []string { return strings.Split(s, "") }))
			}
		})
	}
}

func TestResponsesBlockedInputIsAnsweredInTheProtocol(t *testing.T) {
	up := &testbed.Upstream{JSON: answers["text"]}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	got, err := c.Responses.New(context.Background(), ask(testbed.Injection))
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != "completed" || !strings.HasPrefix(got.OutputText(), "[Blocked by policy billing-bot (ref ") {
		t.Errorf("got %s", got.RawJSON())
	}
	h, err := listen(t, b, ask(testbed.Injection))
	if err != nil || h.response == nil || !strings.HasPrefix(h.response.OutputText(), "[Blocked by policy billing-bot (ref ") || h.texts["0/0"] != h.response.OutputText() {
		t.Errorf("streamed: %v, %+v", err, h)
	}
	want := []string{"response.created", "response.in_progress", "response.output_item.added", "response.content_part.added", "response.output_text.delta",
		"response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"}
	if !slices.Equal(h.events, want) {
		t.Errorf("events %q", h.events)
	}
	if n := len(up.Seen()); n != 0 {
		t.Errorf("%d requests went upstream", n)
	}
}

func TestResponsesBlockedInputInErrorModeIs403(t *testing.T) {
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: answers["text"]}, Gateway: gateway.Options{BlockMode: gateway.Error}})
	c := client(b)
	_, err := c.Responses.New(context.Background(), ask(testbed.Injection))
	if e := apiError(t, err); e.StatusCode != 403 || e.Code != "content_filter" {
		t.Errorf("got %v", err)
	}
}

// sent is the request that went upstream.
func sent(t *testing.T, up *testbed.Upstream) string {
	t.Helper()
	all := up.Seen()
	if len(all) == 0 {
		t.Fatal("nothing went upstream")
	}
	return all[len(all)-1].Body
}

func TestResponsesForwardsExactlyTheBytesThatWereScanned(t *testing.T) {
	up := &testbed.Upstream{JSON: answers["text"]}
	b := testbed.New(t, testbed.Options{Upstream: up})
	body := "{ \"model\":\"gpt-5\" ,\n\"input\":[{\"role\":\"user\",\"content\":\"h\\u0069\"},{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[],\"encrypted_content\":\"gA==\"}], \"future_field\": {\"x\": 1.50e0}}"
	resp, got := post(t, b, "/openai/v1/responses", body)
	if resp.StatusCode != 200 || got != answers["text"] || sent(t, up) != body {
		t.Errorf("%d, answer %s\nsent up %s", resp.StatusCode, got, sent(t, up))
	}
	if resp.Header.Get(gateway.HeaderDecision) != "allow" {
		t.Errorf("decision %q", resp.Header.Get(gateway.HeaderDecision))
	}
	ds := testbed.Decisions(t, b)
	if d := ds[len(ds)-1]; d.Path != "openai/responses" {
		t.Errorf("path %q", d.Path)
	}
	// Streamed, too, event for event.
	up.Events = streamed(t, answers["text"], func(s string) []string { return []string{s[:5], s[5:]} })
	b.SetPolicy(t, strings.Replace(testbed.Policy, "mode: enforce", "mode: monitor", 1))
	if _, got = post(t, b, "/openai/v1/responses", strings.Replace(body, "{", `{"stream":true,`, 1)); got != up.Events {
		t.Errorf("got %s\nwant %s", got, up.Events)
	}
}

func TestResponsesBlockedToolResultsAreReplaced(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"function":    {`{"type":"function_call_output","call_id":"c","output":"X"}`, `"output":"[Blocked by policy billing-bot (ref `},
		"list":        {`{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"X"},{"type":"input_text","text":"more of it"}]}`, `"output":"[Blocked by policy billing-bot (ref `},
		"custom":      {`{"type":"custom_tool_call_output","call_id":"c","output":"X"}`, `"output":"[Blocked by policy billing-bot (ref `},
		"shell":       {`{"type":"shell_call_output","call_id":"c","output":[{"stdout":"X","stderr":"","outcome":{"type":"exit","exit_code":0}}]}`, `"output":[{"stdout":"","stderr":"[Blocked by policy billing-bot (ref `},
		"mcp":         {`{"type":"mcp_call","id":"m","server_label":"crm","name":"find","arguments":"{}","output":"X","error":null}`, `"output":"[Blocked by policy billing-bot (ref `},
		"file search": {`{"type":"file_search_call","id":"f","queries":[],"results":[{"text":"X"}]}`, `"results":null`},
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: answers["text"]}
			b := testbed.New(t, testbed.Options{Upstream: up})
			resp, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":[{"role":"user","content":"Look it up."},`+strings.Replace(c.in, "X", testbed.Injection, 1)+`]}`)
			if resp.StatusCode != 200 || resp.Header.Get(gateway.HeaderDecision) != "block" {
				t.Fatalf("%d %s", resp.StatusCode, text)
			}
			if got := sent(t, up); strings.Contains(got, "gnore all") || !strings.Contains(got, c.want) || strings.Contains(got, "more of it") {
				t.Errorf("sent up %s", got)
			}
		})
	}
}

// What nothing can stand in the place of ends the request.
func TestResponsesBlockedScreenshotEndsTheRequest(t *testing.T) {
	up := &testbed.Upstream{JSON: answers["text"]}
	b := testbed.New(t, testbed.Options{Upstream: up})
	_, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":[{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","image_url":"https://x.example/`+strings.ReplaceAll(testbed.Injection, " ", "%20")+`"},"acknowledged_safety_checks":[{"id":"s","message":"`+testbed.Injection+`"}]}]}`)
	if !strings.Contains(text, "[Blocked by policy billing-bot") || len(up.Seen()) != 0 {
		t.Errorf("got %s", text)
	}
}

func TestResponsesToolsAreJudgedWhenTheyAreOffered(t *testing.T) {
	function := func(name, text string) string {
		return `{"type":"function","name":"` + name + `","description":"` + text + `","parameters":{"type":"object","properties":{}},"strict":true}`
	}
	good, bad := function("get_time", "Tells the time."), function("evil", testbed.Injection)
	mcp := func(url, more string) string {
		return `{"type":"mcp","server_label":"crm","server_url":"` + url + `","authorization":"a token"` + more + `}`
	}
	const allowed = "tools:\n  - name: web_search\n    allow: {}\n  - name: mcp\n    allow: {server_label: {type: string}, server_url: {type: url, hosts: [mcp.example.com]}, require_approval: {type: enum, values: [always]}}"
	head := `{"model":"gpt-5","input":"hi"`
	for name, c := range map[string]struct{ policy, in, want string }{
		"one of two":       {"", head + `,"tools":[` + bad + `,` + good + `],"tool_choice":"auto"}`, head + `,"tools":[` + good + `],"tool_choice":"auto"}`},
		"the only one":     {"", head + `,"tools":[` + bad + `],"tool_choice":"required","parallel_tool_calls":true}`, head + `}`},
		"the chosen":       {"", head + `,"tools":[` + good + `,` + bad + `],"tool_choice":{"type":"function","name":"evil"}}`, head + `,"tools":[` + good + `]}`},
		"one of allowed":   {"", head + `,"tools":[` + good + `,` + bad + `],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"evil"},{"type":"function","name":"get_time"}]}}`, head + `,"tools":[` + good + `],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"get_time"}]}}`},
		"hosted":           {"", head + `,"tools":[{"type":"web_search_preview"},` + good + `],"tool_choice":{"type":"web_search_preview"}}`, head + `,"tools":[` + good + `]}`},
		"hosted allowed":   {allowed, head + `,"tools":[{"type":"web_search_2025_08_26"}]}`, head + `,"tools":[{"type":"web_search_2025_08_26"}]}`},
		"run by itself":    {allowed, head + `,"tools":[` + good + `,` + mcp("https://mcp.example.com/x", `,"require_approval":"never"`) + `]}`, head + `,"tools":[` + good + `]}`},
		"elsewhere":        {allowed, head + `,"tools":[` + mcp("https://evil.example.net/x", "") + `,` + good + `]}`, head + `,"tools":[` + good + `]}`},
		"mcp allowed":      {allowed, head + `,"tools":[` + mcp("https://mcp.example.com/x", "") + `]}`, head + `,"tools":[` + mcp("https://mcp.example.com/x", "") + `]}`},
		"in a namespace":   {"", head + `,"tools":[{"type":"namespace","name":"n","description":"Some.","tools":[` + bad + `]},` + good + `]}`, head + `,"tools":[` + good + `]}`},
		"at the client":    {"", head + `,"tools":[{"type":"local_shell"},{"type":"apply_patch"},{"type":"shell"},{"type":"computer"}]}`, head + `,"tools":[{"type":"local_shell"},{"type":"apply_patch"},{"type":"shell"},{"type":"computer"}]}`},
		"in a container":   {"", head + `,"tools":[{"type":"shell","environment":{"type":"container_auto"}},` + good + `]}`, head + `,"tools":[` + good + `]}`},
		"brought in later": {"", `{"model":"gpt-5","input":[{"type":"additional_tools","role":"developer","tools":[{"type":"code_interpreter","container":{"type":"auto"}}]},{"role":"user","content":"hi"}]}`, `{"model":"gpt-5","input":[{"role":"user","content":"hi"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: answers["text"]}
			p := testbed.Policy
			if c.policy != "" {
				p = strings.Replace(p, "tools:", c.policy, 1)
			}
			b := testbed.New(t, testbed.Options{Upstream: up, Policy: p})
			if resp, text := post(t, b, "/openai/v1/responses", c.in); resp.StatusCode != 200 {
				t.Fatal(text)
			}
			if got := sent(t, up); got != c.want {
				t.Errorf("sent up %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestResponsesStoredPromptNeedsPolicy(t *testing.T) {
	up := &testbed.Upstream{JSON: answers["text"]}
	b := testbed.New(t, testbed.Options{Upstream: up})
	body := `{"model":"gpt-5","prompt":{"id":"pmpt_1","variables":{"name":"Ann B"}}}`
	if _, text := post(t, b, "/openai/v1/responses", body); !strings.Contains(text, "[Blocked by policy billing-bot") || len(up.Seen()) != 0 {
		t.Errorf("got %s", text)
	}
	b.SetPolicy(t, strings.Replace(testbed.Policy, "tools:", "tools:\n  - name: prompt\n    allow: {id: {type: enum, values: [pmpt_1]}}", 1))
	if post(t, b, "/openai/v1/responses", body); sent(t, up) != body {
		t.Errorf("sent up %s", sent(t, up))
	}
}

func TestResponsesInTheBackgroundNeedALineOfPolicy(t *testing.T) {
	up := &testbed.Upstream{JSON: strings.Replace(reply(), `"status":"completed"`, `"status":"queued"`, 1)}
	b := testbed.New(t, testbed.Options{Upstream: up})
	body := `{"model":"gpt-5","input":"hi","background":true}`
	resp, text := post(t, b, "/openai/v1/responses", body)
	if resp.StatusCode != 403 || !strings.Contains(text, "endpoint_refused") || !strings.Contains(text, `endpoints: [\"POST /v1/responses:background\"]`) || len(up.Seen()) != 0 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	b.SetPolicy(t, testbed.Policy+"endpoints: [\"POST /v1/responses:background\"]\n")
	if resp, text = post(t, b, "/openai/v1/responses", body); resp.StatusCode != 200 || sent(t, up) != body {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if !strings.Contains(testbed.Raw(t, b), `"type":"passthrough"`) {
		t.Error("no entry of the passage")
	}
}

func TestWhatIsNotGuardedIsRefusedWithTheReason(t *testing.T) {
	up := &testbed.Upstream{JSON: answers["text"]}
	b := testbed.New(t, testbed.Options{Upstream: up})
	for path, want := range map[string]string{
		"GET /v1/responses/resp_1":             "fetched later",
		"POST /v1/responses/resp_1/cancel":     "fetched later",
		"GET /v1/responses/resp_1/input_items": "fetched later",
		"DELETE /v1/responses/resp_1":          "fetched later",
		"POST /v1/batches":                     "one by one",
		"POST /v1/files":                       "Send text in the request itself",
		"POST /v1/assistants":                  "Use /v1/responses",
		"POST /v1/threads/t_1/runs":            "Use /v1/responses",
		"POST /v1/conversations":               "previous_response_id",
		"POST /v1/realtime/client_secrets":     "WebSocket",
		"POST /v1/audio/transcriptions":        "Audio is not read",
		"POST /v1/chat/completions/c_1":        "Stored completions",
	} {
		method, at, _ := strings.Cut(path, " ")
		resp, text := call(t, b, method, "/openai"+at)
		if resp.StatusCode != 403 || !strings.Contains(text, "endpoint_refused") || !strings.Contains(text, want) || !strings.Contains(text, `endpoints: [\"`+path+`\"]`) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
	b.SetPolicy(t, testbed.Policy+"endpoints: [\"GET /v1/*\"]\n")
	for _, path := range []string{"/openai/v1/realtime", "/openai/v1/responses"} {
		resp, text := call(t, b, "GET", path, "Connection", "Upgrade", "Upgrade", "websocket")
		if resp.StatusCode < 400 || !strings.Contains(text, "WebSocket") && resp.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
	if len(up.Seen()) != 0 {
		t.Errorf("%+v went upstream", up.Seen())
	}
}

func call(t *testing.T, b *testbed.Bed, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, b.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, b, req, header...)
}

// A provider that keeps the conversation wants a result for every call that it made,
// also for those that the client never saw.
func TestResponsesGoesOnBehindABlockedCall(t *testing.T) {
	whole := reply(functionCall(1, "drop_table", `{}`), functionCall(2, "get_time", `{}`), `{"id":"ct_1","type":"custom_tool_call","status":"completed","call_id":"call_3","name":"nothing","input":"x"}`)
	up := &testbed.Upstream{JSON: whole}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	got, err := c.Responses.New(context.Background(), ask("go"))
	if err != nil {
		t.Fatal(err)
	}
	up.Events = streamed(t, whole, func(s string) []string { return []string{s} })
	h, err := listen(t, b, ask("go"))
	if err != nil || h.response.ID != got.ID {
		t.Fatalf("%v, streamed %q, unstreamed %q", err, h.response.ID, got.ID)
	}
	owed := `{"type":"function_call_output","call_id":"call_1","output":"[Blocked]"},{"type":"custom_tool_call_output","call_id":"call_3","output":"[Blocked]"},`
	for in, want := range map[string]string{
		`"input":[{"type":"function_call_output","call_id":"call_2","output":"` + testbed.Mail + `"}]`: `"input":[` + owed + `{"type":"function_call_output","call_id":"call_2","output":"` + testbed.Redacted + `"}]`,
		`"input":"Ask ` + testbed.Mail + `"`: `"input":[` + owed + `{"role":"user","content":"Ask ` + testbed.Redacted + `"}]`,
		`"input":[ ]`:                        `"input":[` + strings.TrimSuffix(owed, ",") + ` ]`,
	} {
		post(t, b, "/openai/v1/responses", `{"model":"gpt-5","previous_response_id":"`+got.ID+`",`+in+`}`)
		s := regexp.MustCompile(`\[Blocked by policy [^\]]*\]`).ReplaceAllString(sent(t, up), "[Blocked]")
		if s != `{"model":"gpt-5","previous_response_id":"resp_1",`+want+`}` {
			t.Errorf("sent up %s", s)
		}
	}
	// Other answers owe nothing.
	body := `{"model":"gpt-5","previous_response_id":"resp_2","input":"hi"}`
	if post(t, b, "/openai/v1/responses", body); sent(t, up) != body {
		t.Errorf("sent up %s", sent(t, up))
	}
}
