package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

const chatAnswer = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`

func chatClient(b *testbed.Bed, opts ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(b.URL + "/openai/v1"), option.WithAPIKey("sk-client"), option.WithMaxRetries(0),
		option.WithHTTPClient(b.Client), option.WithHeader(gateway.HeaderKey, testbed.Key), option.WithHeader(gateway.HeaderSession, "s-1"),
	}, opts...)...)
}

// chatStream runs a streamed completion and returns what the SDK makes of it.
func chatStream(t *testing.T, b *testbed.Bed, p openai.ChatCompletionNewParams) (openai.ChatCompletion, error) {
	t.Helper()
	client := chatClient(b)
	s := client.Chat.Completions.NewStreaming(context.Background(), p)
	defer s.Close()
	var acc openai.ChatCompletionAccumulator
	for s.Next() {
		acc.AddChunk(s.Current())
	}
	return acc.ChatCompletion, s.Err()
}

func say(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "gpt-5", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

func post(t *testing.T, b *testbed.Bed, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(gateway.HeaderKey, testbed.Key)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(t, b, req)
}

func TestChatForwardsExactlyTheBytesThatWereScanned(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	body := "{ \"model\":\"gpt-5\" ,\n\"messages\":[{\"role\":\"user\",\"content\":\"h\\u0069\"}], \"future_field\": {\"x\": 1.50e0}}"
	resp, got := post(t, b, "/openai/v1/chat/completions", body, "X-Other", "kept", "X-Guardbook-User", "u-7", "Authorization", "Bearer sk-mine", "Cookie", "session=1")
	if resp.StatusCode != 200 || got != chatAnswer {
		t.Errorf("answer changed: %d %s", resp.StatusCode, got)
	}
	if resp.Header.Get(gateway.HeaderDecision) != "allow" || resp.Header.Get(gateway.HeaderEntry) == "" {
		t.Errorf("headers: %v", resp.Header)
	}
	seen := up.Seen()[0]
	if seen.Body != body {
		t.Errorf("sent up %s", seen.Body)
	}
	if seen.Header.Get("X-Other") != "kept" || seen.Header.Get("Authorization") != "Bearer sk-mine" || seen.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("sent up headers %v", seen.Header)
	}
	for name := range seen.Header {
		if strings.HasPrefix(name, "X-Guardbook") || name == "Cookie" {
			t.Errorf("header %s went upstream", name)
		}
	}
	ds := testbed.Decisions(t, b)
	if len(ds) != 2 || ds[0].Kind != guardbook.KindInput || ds[0].User != "u-7" || ds[1].Kind != guardbook.KindOutput || ds[1].Path != "openai/chat" {
		t.Errorf("decisions: %+v", ds)
	}
	if !strings.HasPrefix(ds[0].Session, "auto-") {
		t.Errorf("session %q", ds[0].Session)
	}
}

func TestChatRedactsInputInPlace(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	before, after := `{"model":"gpt-5","messages":[{"role":"user","content":"Write to `, ` please."}],"n" : 1}`
	resp, _ := post(t, b, "/openai/v1/chat/completions", before+testbed.Mail+after)
	if got := up.Seen()[0].Body; got != before+testbed.Redacted+after {
		t.Errorf("sent up %s", got)
	}
	if resp.Header.Get(gateway.HeaderDecision) != "redact" {
		t.Errorf("decision %q", resp.Header.Get(gateway.HeaderDecision))
	}
}

func TestChatBlockedInputIsAnsweredInTheProtocol(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	client := chatClient(b)
	got, err := client.Chat.Completions.New(context.Background(), say(testbed.Injection))
	if err != nil {
		t.Fatal(err)
	}
	checkBlocked(t, got.Choices[0].Message.Content, string(got.Choices[0].FinishReason), "content_filter")
	p := say(testbed.Injection)
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	streamed, err := chatStream(t, b, p)
	if err != nil {
		t.Fatal(err)
	}
	checkBlocked(t, streamed.Choices[0].Message.Content, string(streamed.Choices[0].FinishReason), "content_filter")
	if n := len(up.Seen()); n != 0 {
		t.Errorf("%d requests went upstream", n)
	}
}

func TestChatBlockedInputInErrorModeIs403WithoutRetry(t *testing.T) {
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: chatAnswer}, Gateway: gateway.Options{BlockMode: gateway.Error}})
	client := chatClient(b, option.WithMaxRetries(2))
	_, err := client.Chat.Completions.New(context.Background(), say(testbed.Injection))
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != 403 || e.Code != "content_filter" || e.Type != "policy_violation" {
		t.Fatalf("got %v", err)
	}
	if e.Response.Header.Get("X-Should-Retry") != "false" || e.Response.Header.Get(gateway.HeaderDecision) != "block" {
		t.Errorf("headers %v", e.Response.Header)
	}
	if n := len(testbed.Decisions(t, b)); n != 1 {
		t.Errorf("%d decisions: the client tried again", n)
	}
}

func checkBlocked(t *testing.T, text, finish, wantFinish string) {
	t.Helper()
	if !strings.HasPrefix(text, "[Blocked by policy billing-bot (ref ") || !strings.Contains(text, "do not retry") || finish != wantFinish {
		t.Errorf("got %q, finish %q", text, finish)
	}
}

func TestChatBlockedToolResultIsReplacedAndTheAgentGoesOn(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	resp, _ := post(t, b, "/openai/v1/chat/completions", `{"model":"gpt-5","messages":[{"role":"user","content":"Look it up."},
		{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_time","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"`+testbed.Injection+`"}]}]}`)
	if resp.StatusCode != 200 || resp.Header.Get(gateway.HeaderDecision) != "block" {
		t.Errorf("got %d, %s", resp.StatusCode, resp.Header.Get(gateway.HeaderDecision))
	}
	sent := up.Seen()[0].Body
	if strings.Contains(sent, "gnore all") || !strings.Contains(sent, `"content":"[Blocked by policy billing-bot (ref `) {
		t.Errorf("sent up %s", sent)
	}
	for _, d := range testbed.Decisions(t, b) {
		if d.Kind == guardbook.KindToolResult && (d.Tool == nil || d.Tool.Name != "get_time" || d.Decision != guardbook.ActionBlock) {
			t.Errorf("tool result: %+v", d)
		}
	}
}

func TestChatBlockedToolDefinitionIsDropped(t *testing.T) {
	tool := func(name, text string) string {
		return `{"type":"function","function":{"name":"` + name + `","description":"` + text + `","parameters":{"type":"object","properties":{"x":{"type":"string","description":"` + text + `"}}}}}`
	}
	good, bad := tool("get_time", "Tells the time."), tool("evil", testbed.Injection)
	head := `{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]`
	for name, c := range map[string]struct{ in, want string }{
		"one of two":    {head + `,"tools":[` + bad + `, ` + good + `],"tool_choice":"auto"}`, head + `,"tools":[` + good + `],"tool_choice":"auto"}`},
		"the only one":  {head + `,"tools":[` + bad + `],"tool_choice":"auto","parallel_tool_calls":true}`, head + `}`},
		"the chosen":    {head + `,"tools":[` + good + `,` + bad + `],"tool_choice":{"type":"function","function":{"name":"evil"}}}`, head + `,"tools":[` + good + `]}`},
		"a hosted one":  {head + `,"tools":[{"type":"web_search"},` + good + `]}`, head + `,"tools":[` + good + `]}`},
		"search option": {head + `,"web_search_options":{"search_context_size":"low"}}`, head + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: chatAnswer}
			b := testbed.New(t, testbed.Options{Upstream: up})
			resp, text := post(t, b, "/openai/v1/chat/completions", c.in)
			if resp.StatusCode != 200 {
				t.Fatal(text)
			}
			if got := up.Seen()[0].Body; got != c.want {
				t.Errorf("sent up %s, want %s", got, c.want)
			}
		})
	}
}

func TestChatHostedToolPassesWhenPolicyAllowsIt(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up, Policy: strings.Replace(testbed.Policy, "tools:", "tools:\n  - name: web_search\n    allow: {}", 1)})
	body := `{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"web_search_options":{}}`
	post(t, b, "/openai/v1/chat/completions", body)
	if got := up.Seen()[0].Body; got != body {
		t.Errorf("sent up %s", got)
	}
}

// callsAnswer has an allowed call, a call of a forbidden tool, and one to redact.
const callsAnswer = `{"id":"c","object":"chat.completion","created":1,"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[` +
	`{"id":"call_1","type":"function","function":{"name":"drop_table","arguments":"{\"t\":\"users\"}"}},` +
	`{"id":"call_2","type":"function","function":{"name":"get_time","arguments":"{}"}},` +
	`{"id":"call_3","type":"function","function":{"name":"send_email","arguments":"{\"to\":\"boss\",\"body\":\"ask ` + testbed.Mail + `\"}"}}]},"finish_reason":"tool_calls"}]}`

var callsEvents = testbed.ChatEvents(
	`{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}`,
	`{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"drop_table","arguments":""}}]},"finish_reason":null}`,
	`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"t\":"}}]},"finish_reason":null}`,
	`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"users\"}"}}]},"finish_reason":null}`,
	`{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"get_time","arguments":"{}"}}]},"finish_reason":null}`,
	`{"index":0,"delta":{"tool_calls":[{"index":2,"id":"call_3","type":"function","function":{"name":"send_email","arguments":"{\"to\":\"boss\",\"body\":\"ask jane.r"}}]},"finish_reason":null}`,
	`{"index":0,"delta":{"tool_calls":[{"index":2,"function":{"arguments":"oe@corp-mail.net\"}"}}]},"finish_reason":null}`,
	`{"index":0,"delta":{},"finish_reason":"tool_calls"}`)

func TestChatToolCallsAreDecidedOneByOne(t *testing.T) {
	run := func(t *testing.T, up *testbed.Upstream, stream bool) openai.ChatCompletionChoice {
		b := testbed.New(t, testbed.Options{Upstream: up})
		var got openai.ChatCompletion
		var err error
		if stream {
			got, err = chatStream(t, b, say("go"))
		} else {
			var p *openai.ChatCompletion
			client := chatClient(b)
			if p, err = client.Chat.Completions.New(context.Background(), say("go")); p != nil {
				got = *p
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return got.Choices[0]
	}
	for name, stream := range map[string]bool{"whole": false, "streamed": true} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: callsAnswer}
			if stream {
				up = &testbed.Upstream{Events: callsEvents}
			}
			c := run(t, up, stream)
			calls := c.Message.ToolCalls
			if len(calls) != 2 || calls[0].Function.Name != "get_time" || calls[1].Function.Name != "send_email" {
				t.Fatalf("calls %+v", calls)
			}
			if calls[0].ID != "call_2" || calls[0].Function.Arguments != "{}" {
				t.Errorf("first call %+v", calls[0])
			}
			if want := `{"to":"boss","body":"ask [REDACTED:pii]"}`; calls[1].Function.Arguments != want {
				t.Errorf("arguments %s, want %s", calls[1].Function.Arguments, want)
			}
			if c.FinishReason != "tool_calls" || !strings.Contains(c.Message.Content, "[Blocked by policy billing-bot") || !strings.Contains(c.Message.Content, "drop_table") {
				t.Errorf("finish %q, content %q", c.FinishReason, c.Message.Content)
			}
		})
	}
}

func TestChatWithNoCallLeftEndsFiltered(t *testing.T) {
	events := testbed.ChatEvents(
		`{"index":0,"delta":{"role":"assistant","content":"Wait. ","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"drop_table","arguments":"{}"}}]},"finish_reason":null}`,
		`{"index":0,"delta":{},"finish_reason":"tool_calls"}`)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
	got, err := chatStream(t, b, say("go"))
	if err != nil {
		t.Fatal(err)
	}
	c := got.Choices[0]
	if len(c.Message.ToolCalls) != 0 || c.FinishReason != "content_filter" || !strings.HasPrefix(c.Message.Content, "Wait. ") || !strings.Contains(c.Message.Content, "[Blocked by") {
		t.Errorf("got %+v", c)
	}
}

// However the text beside a call is cut, and wherever the call begins in it, text and
// call arrive as they do unstreamed.
func TestChatTextBesideACallArrivesWholeAndInOrder(t *testing.T) {
	const answer, want = "Ask " + testbed.Mail + " now. ", "Ask " + testbed.Redacted + " now. "
	up := &testbed.Upstream{}
	b := testbed.New(t, testbed.Options{Upstream: up})
	for i := 1; i < len(answer); i++ {
		for _, within := range []string{"", `,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_time","arguments":"{}"}}]`} {
			events := []string{
				`{"index":0,"delta":{"role":"assistant","content":"` + answer[:i] + `"` + within + `},"finish_reason":null}`,
				`{"index":0,"delta":{"content":"` + answer[i:] + `"},"finish_reason":null}`,
				`{"index":0,"delta":{},"finish_reason":"tool_calls"}`}
			if within == "" {
				events[1] = strings.Replace(events[1], `"},"finish`, `","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_time","arguments":"{}"}}]},"finish`, 1)
			}
			up.Events = testbed.ChatEvents(events...)
			got, err := chatStream(t, b, say("go"))
			if err != nil {
				t.Fatal(err)
			}
			c := got.Choices[0]
			if c.Message.Content != want || len(c.Message.ToolCalls) != 1 || c.Message.ToolCalls[0].Function.Arguments != "{}" || c.FinishReason != "tool_calls" {
				t.Fatalf("cut at %d, %q: got %q, %+v, %s", i, within, c.Message.Content, c.Message.ToolCalls, c.FinishReason)
			}
		}
	}
}

func TestChatCallWithBrokenArgumentsIsNotReleased(t *testing.T) {
	for name, args := range map[string]string{"cut": `{\"query\":`, "duplicate": `{\"query\":\"a\",\"query\":\"b\"}`, "no object": `[]`} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: `{"choices":[{"index":0,"message":{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"query_database","arguments":"` + args + `"}}]},"finish_reason":"tool_calls"}]}`}
			b := testbed.New(t, testbed.Options{Upstream: up})
			client := chatClient(b)
			got, err := client.Chat.Completions.New(context.Background(), say("go"))
			if err != nil {
				t.Fatal(err)
			}
			if c := got.Choices[0]; len(c.Message.ToolCalls) != 0 || c.FinishReason != "content_filter" {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// monitor is the policy that only watches: nothing is held back.
var monitor = strings.Replace(testbed.Policy, "mode: enforce", "mode: monitor", 1)

func TestChatEventsPassAsTheyAre(t *testing.T) {
	events := testbed.ChatEvents(
		`{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null,"new":1}`,
		`{"index":0,"delta":{"content":"Hello"},"finish_reason":null}`,
		`{"index":1,"delta":{"content":"Other choice."},"finish_reason":null}`,
		`{"index":0,"delta":{"content":" there.\n"},"finish_reason":null}`,
		`{"index":0,"delta":{},"finish_reason":"stop"}`,
		`{"index":1,"delta":{},"finish_reason":"stop"}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-5","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}, Policy: monitor})
	_, got := post(t, b, "/openai/v1/chat/completions", `{"model":"gpt-5","stream":true,"n":2,"messages":[{"role":"user","content":"hi"}]}`)
	if got != events {
		t.Errorf("got %s", got)
	}
	if e := testbed.Closing(t, b); e.Outcome != "complete" || e.Released == 0 {
		t.Errorf("closing entry %+v", e)
	}
}

func TestChatBlockedTextEndsTheStreamWellFormed(t *testing.T) {
	events := testbed.ChatEvents(
		`{"index":0,"delta":{"role":"assistant","content":"The key is "},"finish_reason":null}`,
		`{"index":0,"delta":{"content":"`+testbed.Secret[:6]+`"},"finish_reason":null}`,
		`{"index":0,"delta":{"content":"`+testbed.Secret[6:]+` and more."},"finish_reason":null}`,
		`{"index":0,"delta":{"content":" This must never come."},"finish_reason":null}`,
		`{"index":0,"delta":{},"finish_reason":"stop"}`)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
	p := say("go")
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	got, err := chatStream(t, b, p)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Choices[0]
	if c.FinishReason != "content_filter" || strings.Contains(c.Message.Content, testbed.Secret[:6]) || strings.Contains(c.Message.Content, "never") || !strings.Contains(c.Message.Content, "[Blocked by policy") {
		t.Errorf("got %q, finish %q", c.Message.Content, c.FinishReason)
	}
	if e := testbed.Closing(t, b); e.Outcome != "blocked" {
		t.Errorf("closing entry %+v", e)
	}
}

func TestChatLogprobsGoWithTheTextTheyRepeat(t *testing.T) {
	up := &testbed.Upstream{JSON: `{"choices":[{"index":0,"message":{"role":"assistant","content":"mail ` + testbed.Mail + `"},"logprobs":{"content":[{"token":"jane"}]},"finish_reason":"stop"}]}`}
	b := testbed.New(t, testbed.Options{Upstream: up})
	_, got := post(t, b, "/openai/v1/chat/completions", `{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}`)
	if want := `{"choices":[{"index":0,"message":{"role":"assistant","content":"mail [REDACTED:pii]"},"logprobs":null,"finish_reason":"stop"}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func do(t *testing.T, b *testbed.Bed, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := b.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}
