package openai_test

import (
	"context"
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
