package gateway_test

import (
	"strings"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

// A client that asks about each tool call before it runs it gets the calls of an
// answer as they are: it hears of the denial when it asks, and tells the model.
func TestToolCallsThatTheClientAsksAbout(t *testing.T) {
	t.Parallel()
	const denied = "forbidden_tool"
	for _, c := range []struct{ name, path, request, answer string }{
		{"chat", "/openai/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"go"}]}`,
			`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,` +
				`"tool_calls":[{"id":"t1","type":"function","function":{"name":"` + denied + `","arguments":"{}"}}]}}]}`},
		{"responses", "/openai/v1/responses", `{"model":"m","input":"go","store":false}`,
			`{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"function_call","id":"fc_1","call_id":"t1","status":"completed","name":"` + denied + `","arguments":"{}"}]}`},
		{"anthropic", "/anthropic/v1/messages", `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"go"}]}`,
			`{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"type":"tool_use","id":"t1","name":"` + denied + `","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{JSON: c.answer}})
			if resp, body := post(t, b, c.path, c.request, gateway.HeaderBlock, "raise"); resp.StatusCode != 403 {
				t.Errorf("without asking: %d %s", resp.StatusCode, body)
			}
			resp, body := post(t, b, c.path, c.request, gateway.HeaderBlock, "raise", gateway.HeaderToolCalls, "asked")
			if resp.StatusCode != 200 || !strings.Contains(body, `"`+denied+`"`) {
				t.Errorf("asking: %d %s", resp.StatusCode, body)
			}
			ds := testbed.Decisions(t, b)
			if d := ds[len(ds)-1]; d.Kind != guardbook.KindToolCall || !d.Deferred || d.Decision != guardbook.ActionAllow || d.Would != guardbook.ActionBlock || d.Rule == "" {
				t.Errorf("what was not enforced is not recorded as such: %+v", d)
			}
			if resp, body := post(t, b, c.path, c.request, gateway.HeaderToolCalls, "yes"); resp.StatusCode != 400 || !strings.Contains(body, gateway.HeaderToolCalls) {
				t.Errorf("another value: %d %s", resp.StatusCode, body)
			}
		})
	}
}
