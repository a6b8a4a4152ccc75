package gateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

const messageAnswer = `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Hello."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`

func messageClient(b *testbed.Bed, opts ...option.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]option.RequestOption{
		option.WithBaseURL(b.URL + "/anthropic"), option.WithAPIKey("sk-ant-client"), option.WithMaxRetries(0),
		option.WithHTTPClient(b.Client), option.WithHeader(gateway.HeaderKey, testbed.Key), option.WithHeader(gateway.HeaderSession, "s-1"),
	}, opts...)...)
}

func tell(text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{Model: "claude-x", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}}
}

func messageStream(t *testing.T, b *testbed.Bed, p anthropic.MessageNewParams) (anthropic.Message, error) {
	t.Helper()
	client := messageClient(b)
	s := client.Messages.NewStreaming(context.Background(), p)
	defer s.Close()
	var m anthropic.Message
	for s.Next() {
		if err := m.Accumulate(s.Current()); err != nil {
			t.Fatalf("the SDK cannot follow the stream: %v", err)
		}
	}
	return m, s.Err()
}

func TestMessagesForwardsExactlyTheBytesThatWereScanned(t *testing.T) {
	up := &testbed.Upstream{JSON: messageAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	body := `{ "model":"claude-x","max_tokens":10, "system":[{"type":"text","text":"Be kind.","cache_control":{"type":"ephemeral"}}],
	"messages":[{"role":"user","content":[{"type":"text","text":"h\u0069"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}},
	{"type":"new_kind","x":[1.0e1]}]}], "metadata":{"user_id":"u"} }`
	resp, got := post(t, b, "/anthropic/v1/messages", body, "X-Api-Key", "sk-ant-mine", "Anthropic-Version", "2023-06-01")
	if resp.StatusCode != 200 || got != messageAnswer {
		t.Errorf("answer changed: %d %s", resp.StatusCode, got)
	}
	seen := up.Seen()[0]
	if seen.Body != body || seen.Header.Get("X-Api-Key") != "sk-ant-mine" || seen.Header.Get("Anthropic-Version") != "2023-06-01" {
		t.Errorf("sent up %s with %v", seen.Body, seen.Header)
	}
	roles := ""
	for _, d := range testbed.Decisions(t, b) {
		roles += string(d.Kind) + "/" + d.Role + " "
	}
	if roles != "input/system input/user input/ output/ " {
		t.Errorf("decisions on %s", roles)
	}
}

func TestMessagesBlockedInputIsAnsweredInTheProtocol(t *testing.T) {
	up := &testbed.Upstream{JSON: messageAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	client := messageClient(b)
	got, err := client.Messages.New(context.Background(), tell(testbed.Injection))
	if err != nil {
		t.Fatal(err)
	}
	checkBlocked(t, got.Content[0].Text, string(got.StopReason), "end_turn")
	streamed, err := messageStream(t, b, tell(testbed.Injection))
	if err != nil {
		t.Fatal(err)
	}
	checkBlocked(t, streamed.Content[0].Text, string(streamed.StopReason), "end_turn")
	if n := len(up.Seen()); n != 0 {
		t.Errorf("%d requests went upstream", n)
	}
}

func TestMessagesBlockedInputInErrorModeIs403WithoutRetry(t *testing.T) {
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: messageAnswer}, Gateway: gateway.Options{BlockMode: gateway.Error}})
	client := messageClient(b, option.WithMaxRetries(2))
	_, err := client.Messages.New(context.Background(), tell(testbed.Injection))
	var e *anthropic.Error
	if !errors.As(err, &e) || e.StatusCode != 403 || !strings.Contains(e.RawJSON(), `"permission_error"`) {
		t.Fatalf("got %v", err)
	}
	if n := len(testbed.Decisions(t, b)); n != 1 {
		t.Errorf("%d decisions: the client tried again", n)
	}
}

func TestMessagesBlockedToolResultIsReplacedAndTheAgentGoesOn(t *testing.T) {
	up := &testbed.Upstream{JSON: messageAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	_, text := post(t, b, "/anthropic/v1/messages", `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Look."},
	{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"abc"},{"type":"tool_use","id":"toolu_1","name":"get_time","input":{}}]},
	{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"`+testbed.Injection+`"}]},{"type":"text","text":"Go on."}]}]}`)
	if !strings.Contains(text, "Hello.") {
		t.Fatal(text)
	}
	sent := up.Seen()[0].Body
	if strings.Contains(sent, "gnore all") || !strings.Contains(sent, `"tool_use_id":"toolu_1","content":"[Blocked by policy billing-bot (ref `) {
		t.Errorf("sent up %s", sent)
	}
	var found bool
	for _, d := range testbed.Decisions(t, b) {
		if d.Kind == guardbook.KindToolResult {
			found = d.Tool.Name == "get_time" && d.Decision == guardbook.ActionBlock
		}
	}
	if !found {
		t.Error("no decision on the tool result")
	}
}

func TestMessagesToolsThatRunAtTheProviderNeedPermission(t *testing.T) {
	head := `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]`
	custom := `{"name":"get_time","description":"Tells the time.","input_schema":{"type":"object"}}`
	for name, c := range map[string]struct{ policy, in, want string }{
		"search":                    {"", head + `,"tools":[{"type":"web_search_20250305","name":"web_search"},` + custom + `]}`, head + `,"tools":[` + custom + `]}`},
		"search under another name": {"\n  - name: nice\n    allow: {}", head + `,"tools":[{"type":"web_search_20250305","name":"nice"}],"tool_choice":{"type":"auto"}}`, head + `}`},
		"allowed search":            {"\n  - name: web_search\n    allow: {}", head + `,"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, head + `,"tools":[{"type":"web_search_20250305","name":"web_search"}]}`},
		"runs at client":            {"", head + `,"tools":[{"type":"bash_20250124","name":"bash"}]}`, head + `,"tools":[{"type":"bash_20250124","name":"bash"}]}`},
		"mcp server":                {"", head + `,"mcp_servers":[{"type":"url","name":"x","url":"https://mcp.example.com"}],"tools":[{"type":"mcp_toolset","mcp_server_name":"x"},` + custom + `]}`, head + `,"tools":[` + custom + `]}`},
		"allowed mcp server": {"\n  - name: mcp_servers\n    allow: {name: {type: string}, url: {type: url, hosts: [mcp.example.com]}}",
			head + `,"mcp_servers":[{"type":"url","name":"x","url":"https://mcp.example.com","authorization_token":"t"}]}`, head + `,"mcp_servers":[{"type":"url","name":"x","url":"https://mcp.example.com","authorization_token":"t"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: messageAnswer}
			b := testbed.New(t, testbed.Options{Upstream: up, Policy: strings.Replace(testbed.Policy, "tools:", "tools:"+c.policy, 1)})
			if resp, text := post(t, b, "/anthropic/v1/messages", c.in); resp.StatusCode != 200 {
				t.Fatal(text)
			}
			if got := up.Seen()[0].Body; got != c.want {
				t.Errorf("sent up %s, want %s", got, c.want)
			}
		})
	}
}

var messageCalls = testbed.MessageEvents("tool_use",
	`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me see."}}`,
	`{"type":"content_block_stop","index":0}`,
	`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"drop_table","input":{}}}`,
	`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"t\":"}}`,
	`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"users\"}"}}`,
	`{"type":"content_block_stop","index":1}`,
	`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"get_time","input":{}}}`,
	`{"type":"content_block_stop","index":2}`,
	`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_3","name":"send_email","input":{}}}`,
	`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"to\":\"boss\",\"body\":\"ask jane.r"}}`,
	`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"oe@corp-mail.net\"}"}}`,
	`{"type":"content_block_stop","index":3}`)

const messageCallsWhole = `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Let me see."},` +
	`{"type":"tool_use","id":"toolu_1","name":"drop_table","input":{"t":"users"}},{"type":"tool_use","id":"toolu_2","name":"get_time","input":{}},` +
	`{"type":"tool_use","id":"toolu_3","name":"send_email","input":{"to":"boss","body":"ask ` + testbed.Mail + `"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`

func TestMessagesToolCallsAreDecidedOneByOne(t *testing.T) {
	for name, up := range map[string]*testbed.Upstream{"whole": {JSON: messageCallsWhole}, "streamed": {Events: messageCalls}} {
		t.Run(name, func(t *testing.T) {
			b := testbed.New(t, testbed.Options{Upstream: up})
			var m anthropic.Message
			var err error
			if up.Events != "" {
				m, err = messageStream(t, b, tell("go"))
			} else {
				client := messageClient(b)
				var p *anthropic.Message
				if p, err = client.Messages.New(context.Background(), tell("go")); p != nil {
					m = *p
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Content) != 4 || m.StopReason != "tool_use" {
				t.Fatalf("got %+v", m)
			}
			if c := m.Content[1]; c.Type != "text" || !strings.Contains(c.Text, "[Blocked by policy billing-bot") || !strings.Contains(c.Text, "drop_table") {
				t.Errorf("blocked call: %+v", c)
			}
			if c := m.Content[2]; c.Type != "tool_use" || c.ID != "toolu_2" || string(c.Input) != "{}" {
				t.Errorf("allowed call: %s %s %s", c.Type, c.ID, c.Input)
			}
			if c := m.Content[3]; string(c.Input) != `{"to":"boss","body":"ask [REDACTED:pii]"}` {
				t.Errorf("redacted call: %s", c.Input)
			}
		})
	}
}

func TestMessagesWithNoCallLeftEndsTheTurn(t *testing.T) {
	events := testbed.MessageEvents("tool_use",
		`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"drop_table","input":{}}}`,
		`{"type":"content_block_stop","index":0}`)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
	m, err := messageStream(t, b, tell("go"))
	if err != nil {
		t.Fatal(err)
	}
	checkBlocked(t, m.Content[0].Text, string(m.StopReason), "end_turn")
}

func TestMessagesEventsPassAsTheyAre(t *testing.T) {
	events := testbed.MessageEvents("end_turn",
		`{"type":"ping"}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Write to `+testbed.Mail+`?"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eq=="}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello. "},"new":1.0}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"cited_text":"A text."}}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"something_new","x":"y z"}`)
	events = strings.Replace(events, `data: {"type":"ping"}`, `data: {"type": "ping"}`, 1)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}, Policy: monitor})
	_, got := post(t, b, "/anthropic/v1/messages", `{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	if got != events {
		t.Errorf("got %s", got)
	}
	var thinking bool
	for _, d := range testbed.Decisions(t, b) {
		thinking = thinking || d.Role == "thinking" && len(d.Findings) > 0
	}
	if !thinking {
		t.Error("thinking was not read")
	}
}

func TestMessagesBlockedTextEndsTheStreamWellFormed(t *testing.T) {
	events := testbed.MessageEvents("end_turn",
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"The key is `+testbed.Secret[:6]+`"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`+testbed.Secret[6:]+` and more."}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" This must never come."}}`,
		`{"type":"content_block_stop","index":0}`)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
	m, err := messageStream(t, b, tell("go"))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Content) != 2 || strings.Contains(m.Content[0].Text, testbed.Secret[:6]) {
		t.Fatalf("got %+v", m.Content)
	}
	checkBlocked(t, m.Content[1].Text, string(m.StopReason), "end_turn")
	if e := testbed.Closing(t, b); e.Outcome != "blocked" {
		t.Errorf("closing entry %+v", e)
	}
}

func TestCountTokensIsReadToo(t *testing.T) {
	up := &testbed.Upstream{JSON: `{"input_tokens":7}`}
	b := testbed.New(t, testbed.Options{Upstream: up})
	body := `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	if _, got := post(t, b, "/anthropic/v1/messages/count_tokens", body); got != `{"input_tokens":7}` {
		t.Errorf("got %s", got)
	}
	resp, got := post(t, b, "/anthropic/v1/messages/count_tokens", strings.Replace(body, "hi", testbed.Injection, 1))
	if resp.StatusCode != 403 || !strings.Contains(got, "permission_error") || len(up.Seen()) != 1 {
		t.Errorf("blocked: %d %s", resp.StatusCode, got)
	}
}
