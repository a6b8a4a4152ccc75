package anthropic_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"
	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const answer = `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-20260101","content":[{"type":"text","text":"Hello."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`

func client(b *testbed.Bed) sdk.Client {
	return sdk.NewClient(option.WithBaseURL(b.URL+"/anthropic"), option.WithAPIKey("sk-ant-client"), option.WithMaxRetries(0),
		option.WithHTTPClient(b.Client), option.WithHeader(gateway.HeaderKey, testbed.Key), option.WithHeader(gateway.HeaderSession, "s-1"))
}

// user is a message that holds one block, as raw JSON.
func user(block string) sdk.MessageParam {
	return sdk.NewUserMessage(param.Override[sdk.ContentBlockParamUnion](json.RawMessage(block)))
}

func ask(messages ...sdk.MessageParam) sdk.MessageNewParams {
	return sdk.MessageNewParams{Model: "claude-x", MaxTokens: 100, Messages: messages}
}

// An address stands in every kind of block that the API knows, and is redacted in
// each: whatever goes up was read, in its own channel.
func TestEveryKindOfBlockIsRead(t *testing.T) {
	mail := testbed.Mail
	for name, c := range map[string]struct {
		block string
		kind  guardbook.Kind
	}{
		"text":                   {`{"type":"text","text":"M"}`, guardbook.KindInput},
		"text with citations":    {`{"type":"text","text":"x","citations":[{"type":"char_location","cited_text":"M","document_index":0,"document_title":"t","start_char_index":0,"end_char_index":1}]}`, guardbook.KindInput},
		"image by address":       {`{"type":"image","source":{"type":"url","url":"https://x.example/?to=M"}}`, guardbook.KindInput},
		"document of text":       {`{"type":"document","source":{"type":"text","media_type":"text/plain","data":"M"}}`, guardbook.KindInput},
		"document of content":    {`{"type":"document","source":{"type":"content","content":[{"type":"text","text":"M"}]}}`, guardbook.KindInput},
		"document's own content": {`{"type":"document","source":{"type":"content","content":"M"}}`, guardbook.KindInput},
		"document's title":       {`{"type":"document","title":"M","context":"c","source":{"type":"file","file_id":"file_1"}}`, guardbook.KindInput},
		"document's context":     {`{"type":"document","title":"t","context":"M","source":{"type":"url","url":"https://x.example/a.pdf"}}`, guardbook.KindInput},
		"search result":          {`{"type":"search_result","source":"https://x.example","title":"t","content":[{"type":"text","text":"M"}]}`, guardbook.KindInput},
		"search result's source": {`{"type":"search_result","source":"mailto:M","title":"t","content":[{"type":"text","text":"x"}]}`, guardbook.KindInput},
		"tool use":               {`{"type":"tool_use","id":"t1","name":"n","input":{"a":["M"]},"caller":{"type":"direct"}}`, guardbook.KindInput},
		"caller":                 {`{"type":"tool_use","id":"t1","name":"n","input":{},"caller":{"type":"code_execution_20260120","tool_id":"to M"}}`, guardbook.KindInput},
		"server tool use":        {`{"type":"server_tool_use","id":"s1","name":"web_search","input":{"query":"M"}}`, guardbook.KindInput},
		"mcp tool use":           {`{"type":"mcp_tool_use","id":"m1","name":"n","server_name":"crm","input":{"q":"M"}}`, guardbook.KindInput},
		"tool result":            {`{"type":"tool_result","tool_use_id":"t1","content":"M"}`, guardbook.KindToolResult},
		"tool result of blocks":  {`{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"M"}]}`, guardbook.KindToolResult},
		"nested document":        {`{"type":"tool_result","tool_use_id":"t1","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"M"}}]}`, guardbook.KindToolResult},
		"nested search result":   {`{"type":"tool_result","tool_use_id":"t1","content":[{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"M"}]}]}`, guardbook.KindToolResult},
		"tool reference":         {`{"type":"tool_result","tool_use_id":"t1","content":[{"type":"tool_reference","tool_name":"a M"}]}`, guardbook.KindToolResult},
		"toolset's result":       {`{"type":"tool_result","tool_use_id":"t1","toolset_name":"browser","content":[{"type":"browser_state","tabs":[{"title":"M"}]}]}`, guardbook.KindToolResult},
		"mcp tool result":        {`{"type":"mcp_tool_result","tool_use_id":"m1","is_error":false,"content":[{"type":"text","text":"M"}]}`, guardbook.KindToolResult},
		"web search result":      {`{"type":"web_search_tool_result","tool_use_id":"s1","content":[{"type":"web_search_result","url":"https://y.example","title":"by M","encrypted_content":"e"}]}`, guardbook.KindToolResult},
		"web fetch result":       {`{"type":"web_fetch_tool_result","tool_use_id":"s1","content":{"type":"web_fetch_result","url":"https://y.example","content":{"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"M"}}}}`, guardbook.KindToolResult},
		"code execution result":  {`{"type":"code_execution_tool_result","tool_use_id":"s1","content":{"type":"code_execution_result","stdout":"M","stderr":"","return_code":0,"content":[]}}`, guardbook.KindToolResult},
		"bash result":            {`{"type":"bash_code_execution_tool_result","tool_use_id":"s1","content":{"type":"bash_code_execution_result","stdout":"","stderr":"M","return_code":0,"content":[]}}`, guardbook.KindToolResult},
		"text editor result":     {`{"type":"text_editor_code_execution_tool_result","tool_use_id":"s1","content":{"type":"text_editor_code_execution_view_result","content":"M","file_type":"text"}}`, guardbook.KindToolResult},
		"tool search result":     {`{"type":"tool_search_tool_result","tool_use_id":"s1","content":{"type":"tool_search_tool_result_error","error_code":"unavailable","error_message":"M"}}`, guardbook.KindToolResult},
		"advisor's result":       {`{"type":"advisor_tool_result","tool_use_id":"s1","content":{"type":"advisor_result","text":"M"}}`, guardbook.KindToolResult},
		"container upload":       {`{"type":"container_upload","file_id":"M"}`, guardbook.KindInput},
		"compaction":             {`{"type":"compaction","content":"M","signature":"s","encrypted_content":"e"}`, guardbook.KindInput},
		"fallback":               {`{"type":"fallback","from":{"model":"a"},"to":{"model":"b"},"trigger":{"why":"M"}}`, guardbook.KindInput},
		"added tool":             {`{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"name":"n","description":"write to M","input_schema":{"type":"object"}}}}`, guardbook.KindToolDefinition},
		"listed tools":           {`{"type":"mcp_tool_listing","mcp_server_name":"crm","tools":[{"name":"n","description":"write to M","input_schema":{}}]}`, guardbook.KindToolDefinition},
		"changed tools":          {`{"type":"compaction","content":"c","tool_changes":[{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"name":"n","description":"M","input_schema":{}}}}]}`, guardbook.KindToolDefinition},
		"unknown":                {`{"type":"hologram","deep":[{"er":{"x":"M"}}]}`, guardbook.KindInput},
		"unknown in a result":    {`{"type":"tool_result","tool_use_id":"t1","content":[{"type":"hologram","x":"M"}]}`, guardbook.KindToolResult},
		"a result yet unknown":   {`{"type":"telepathy_tool_result","tool_use_id":"s1","content":{"thoughts":["of M"]}}`, guardbook.KindToolResult},
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: answer}
			b := testbed.New(t, testbed.Options{Upstream: up, Policy: strings.Replace(testbed.Policy, "tool_call, tool_result], threshold: 0.4", "tool_call, tool_result, tool_definition], threshold: 0.4", 1)})
			c9 := client(b)
			if _, err := c9.Messages.New(context.Background(), ask(user(strings.ReplaceAll(c.block, "M", mail)))); err != nil {
				t.Fatal(err)
			}
			if body := up.Seen()[0].Body; strings.Contains(body, mail) || !strings.Contains(body, testbed.Redacted) || !json.Valid([]byte(body)) {
				t.Errorf("went up: %s", body)
			}
			found := false
			for _, d := range testbed.Decisions(t, b) {
				found = found || d.Kind == c.kind && d.Decision == guardbook.ActionRedact && d.Path == "anthropic/messages"
			}
			if !found {
				t.Errorf("no redaction of a %s in %s", c.kind, testbed.Raw(t, b))
			}
		})
	}
}

func TestThinkingIsReadAndNeverChanged(t *testing.T) {
	up := &testbed.Upstream{JSON: answer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	block := `{"type":"thinking","thinking":"I write to ` + testbed.Mail + `","signature":"sig=="}`
	if _, err := c.Messages.New(context.Background(), ask(user(block), user(`{"type":"redacted_thinking","data":"enc=="}`))); err != nil {
		t.Fatal(err)
	}
	if body := up.Seen()[0].Body; !strings.Contains(body, block) || !strings.Contains(body, `{"type":"redacted_thinking","data":"enc=="}`) {
		t.Errorf("went up: %s", body)
	}
	if !strings.Contains(testbed.Raw(t, b), `"decision":"redact"`) {
		t.Error("it was not read")
	}
}

// Tools that run at the provider are asked for when they are offered, wherever that is.
func TestWhatRunsAtTheProviderIsAskedForWhereverItIsOffered(t *testing.T) {
	for name, c := range map[string]struct{ body, gone, stays string }{
		"in the middle of a conversation": {`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"},{"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"type":"web_fetch_20260318","name":"web_fetch"}}}]}]}`,
			"web_fetch_20260318", "Blocked by policy billing-bot"},
		"skills": {`{"model":"m","max_tokens":9,"container":{"id":"c1","skills":[{"type":"anthropic","skill_id":"xlsx","version":"latest"}]},"messages":[{"role":"user","content":"hi"}]}`,
			"xlsx", `"container":{"id":"c1","skills":[]}`},
		"an adviser":       {`{"model":"m","max_tokens":9,"tools":[{"type":"advisor_20260301","name":"advisor","model":"x"}],"messages":[{"role":"user","content":"hi"}]}`, "advisor_20260301", `"role":"user"`},
		"one yet unknown":  {`{"model":"m","max_tokens":9,"tools":[{"type":"telepathy_20270101","name":"t"}],"messages":[{"role":"user","content":"hi"}]}`, "telepathy", `"role":"user"`},
		"toolset at hands": {`{"model":"m","max_tokens":9,"tools":[{"type":"browser_toolset_20260801"}],"messages":[{"role":"user","content":"hi"}]}`, "\x00", "browser_toolset_20260801"},
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: answer}
			b := testbed.New(t, testbed.Options{Upstream: up})
			c9 := client(b)
			var got sdk.Message
			if err := c9.Post(context.Background(), "v1/messages", json.RawMessage(c.body), &got); err != nil {
				t.Fatal(err)
			}
			if body := up.Seen()[0].Body; strings.Contains(body, c.gone) || !strings.Contains(body, c.stays) || !json.Valid([]byte(body)) {
				t.Errorf("went up: %s", body)
			}
		})
	}
}

const poisoned = `{"type":"web_fetch_tool_result","tool_use_id":"s1","content":{"type":"web_fetch_result","url":"https://y.example/","retrieved_at":null,"content":{"type":"document","title":"t","citations":null,"source":{"type":"text","media_type":"text/plain","data":"` + testbed.Injection + `"}}}}`

// What a tool at the provider gave back is judged as a tool's result in the answer.
func TestResultsWithinAnAnswerAreToolResults(t *testing.T) {
	check := func(t *testing.T, b *testbed.Bed, m *sdk.Message, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if raw, _ := json.Marshal(m); bytes.Contains(raw, []byte("previous instructions")) || m.StopReason != sdk.StopReasonEndTurn {
			t.Errorf("%s %s", m.StopReason, raw)
		}
		for _, d := range testbed.Decisions(t, b) {
			if d.Kind == guardbook.KindToolResult && d.Decision == guardbook.ActionBlock && d.Tool.Name == "web_fetch" && d.Tool.Server == "anthropic" {
				return
			}
		}
		t.Errorf("no decision on the result: %s", testbed.Raw(t, b))
	}
	t.Run("whole", func(t *testing.T) {
		b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: strings.Replace(answer, `[{"type":"text"`,
			`[{"type":"server_tool_use","id":"s1","name":"web_fetch","input":{"url":"https://y.example/"}},`+poisoned+`,{"type":"text"`, 1)}})
		c := client(b)
		m, err := c.Messages.New(context.Background(), ask(user(`{"type":"text","text":"hi"}`)))
		check(t, b, m, err)
	})
	t.Run("streamed", func(t *testing.T) {
		b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: testbed.MessageEvents("end_turn",
			`{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s1","name":"web_fetch","input":{}}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"url\":\"https://y.example/\"}"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"content_block_start","index":1,"content_block":`+poisoned+`}`,
			`{"type":"content_block_stop","index":1}`,
			`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"I obey."}}`,
			`{"type":"content_block_stop","index":2}`)}})
		c := client(b)
		s := c.Messages.NewStreaming(context.Background(), ask(user(`{"type":"text","text":"hi"}`)))
		defer s.Close()
		var m sdk.Message
		for s.Next() {
			if err := m.Accumulate(s.Current()); err != nil {
				t.Fatalf("the SDK cannot follow the stream: %v", err)
			}
		}
		check(t, b, &m, s.Err())
	})
}

const batchAnswer = `{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress","request_counts":{"processing":2,"succeeded":0,"errored":0,"canceled":0,"expired":0},"created_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00Z","ended_at":null,"archived_at":null,"cancel_initiated_at":null,"results_url":null}`

func batch(texts ...string) sdk.MessageBatchNewParams {
	var p sdk.MessageBatchNewParams
	for i, text := range texts {
		p.Requests = append(p.Requests, sdk.MessageBatchNewParamsRequest{CustomID: "job-" + string(rune('a'+i)), Params: sdk.MessageBatchNewParamsRequestParams{
			Model: "claude-x", MaxTokens: 9, Messages: []sdk.MessageParam{sdk.NewUserMessage(sdk.NewTextBlock(text))}}})
	}
	return p
}

func TestABatchIsJudgedRequestByRequest(t *testing.T) {
	up := &testbed.Upstream{JSON: batchAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	got, err := c.Messages.Batches.New(context.Background(), batch("hello", "write to "+testbed.Mail))
	if err != nil || got.ID != "msgbatch_1" {
		t.Fatalf("%v, %+v", err, got)
	}
	if body := up.Seen()[0].Body; strings.Contains(body, testbed.Mail) || !strings.Contains(body, "hello") || !strings.Contains(body, `"custom_id":"job-b"`) {
		t.Errorf("went up: %s", body)
	}
	if calls := b.Guard.Calls(); len(calls) != 1 || calls[0] != (guardbook.ModelCalls{Path: "anthropic/batches", Model: "claude-x", Calls: 2}) {
		t.Errorf("calls: %+v", calls)
	}

	_, err = c.Messages.Batches.New(context.Background(), batch("hello", testbed.Injection, "more"))
	var api *sdk.Error
	if !errors.As(err, &api) || api.StatusCode != 403 || !strings.Contains(err.Error(), `request \"job-b\" of the batch`) || strings.Contains(err.Error(), "previous instructions") {
		t.Errorf("error %v", err)
	}
	if len(up.Seen()) != 1 {
		t.Error("a batch with a blocked request went up")
	}
	for _, d := range testbed.Decisions(t, b) {
		if d.Path != "anthropic/batches" {
			t.Errorf("path %q", d.Path)
		}
	}
}

func TestAModelCallIsCountedUnderTheNameThatTheAnswerGives(t *testing.T) {
	up := &testbed.Upstream{JSON: answer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	for range 3 {
		if _, err := c.Messages.New(context.Background(), ask(user(`{"type":"text","text":"hi"}`))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Messages.New(context.Background(), ask(user(`{"type":"text","text":"`+testbed.Injection+`"}`))); err != nil {
		t.Fatal(err)
	}
	up.JSON = `{"input_tokens":7}`
	if n, err := c.Messages.CountTokens(context.Background(), sdk.MessageCountTokensParams{Model: "claude-x", Messages: []sdk.MessageParam{user(`{"type":"text","text":"hi"}`)}}); err != nil || n.InputTokens != 7 {
		t.Fatal(err, n)
	}
	up.Events = testbed.MessageEvents("end_turn")
	s := c.Messages.NewStreaming(context.Background(), ask(user(`{"type":"text","text":"hi"}`)))
	for s.Next() {
	}
	if err := errors.Join(s.Err(), s.Close()); err != nil {
		t.Fatal(err)
	}
	testbed.Closing(t, b)
	up.Events, up.JSON, up.Status = "", `{"type":"error","error":{"type":"overloaded_error","message":"busy"}}`, 529
	if _, err := c.Messages.New(context.Background(), ask(user(`{"type":"text","text":"hi"}`))); err == nil {
		t.Fatal("no error")
	}
	want := []guardbook.ModelCalls{{Path: "anthropic/messages", Model: "claude-x", Calls: 1, OutputTokens: 9}, {Path: "anthropic/messages", Model: "claude-x-20260101", Calls: 3, OutputTokens: 3}}
	got := b.Guard.Calls()
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("calls: %+v", got)
	}
}

// What is not read is refused, and the refusal says why.
func TestWhatIsNotReadIsRefusedWithTheReason(t *testing.T) {
	up := &testbed.Upstream{JSON: `{}`}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	ctx := context.Background()
	for name, f := range map[string]struct {
		do  func() error
		why string
	}{
		"legacy completions": {func() error {
			return c.Post(ctx, "v1/complete", map[string]any{"model": "claude-2", "max_tokens_to_sample": 9, "prompt": "hi"}, nil)
		}, "legacy"},
		"results of a batch": {func() error {
			s := c.Messages.Batches.ResultsStreaming(ctx, "msgbatch_1", sdk.MessageBatchResultsParams{})
			for s.Next() {
			}
			return s.Err()
		}, "nobody decided on"},
		"a batch's state": {func() error {
			_, err := c.Messages.Batches.Get(ctx, "msgbatch_1", sdk.MessageBatchGetParams{})
			return err
		}, "endpoints: ["},
		"cancel a batch": {func() error {
			_, err := c.Messages.Batches.Cancel(ctx, "msgbatch_1", sdk.MessageBatchCancelParams{})
			return err
		}, "endpoints: ["},
		"files":            {func() error { _, err := c.Beta.Files.List(ctx, sdk.BetaFileListParams{}); return err }, "content is not read"},
		"skills":           {func() error { _, err := c.Beta.Skills.List(ctx, sdk.BetaSkillListParams{}); return err }, "run at the provider"},
		"managed sessions": {func() error { return c.Post(ctx, "v1/sessions?beta=true", map[string]string{"agent": "a"}, nil) }, "Managed agents run at the provider"},
		"session's events": {func() error { return c.Post(ctx, "v1/sessions/s1/events?beta=true", map[string]string{"x": "hi"}, nil) }, "Managed agents"},
		"organization":     {func() error { return c.Get(ctx, "v1/organizations/me", nil, nil) }, "no work for an agent"},
	} {
		t.Run(name, func(t *testing.T) {
			err := f.do()
			var api *sdk.Error
			if !errors.As(err, &api) || api.StatusCode != 403 || !strings.Contains(err.Error(), f.why) {
				t.Errorf("error %v", err)
			}
		})
	}
	if n := len(up.Seen()); n != 0 {
		t.Errorf("%d requests went up", n)
	}
	if n := len(testbed.Refusals(t, b)); n != 9 {
		t.Errorf("%d refusals are in the book", n)
	}
}
