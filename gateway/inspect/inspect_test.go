package inspect_test

import (
	"encoding/json/v2"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func post(t *testing.T, b *testbed.Bed, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(gateway.HeaderKey, testbed.Key)
	req.Header.Set(gateway.HeaderSession, "s-header")
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

type answer struct {
	Decision, Entry, Rule, Severity, Message string
	Findings                                 []map[string]any
	Content, Arguments                       any
}

func TestInspectAnswersWithADecision(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	for name, c := range map[string]struct {
		body, decision, rule, message string
		content, arguments            string
	}{
		"allowed input":     {body: `{"kind":"input","content":"Hello there."}`, decision: "allow"},
		"blocked input":     {body: `{"kind":"input","content":"` + testbed.Injection + `"}`, decision: "block", rule: "billing-bot/findings/prompt_injection", message: "billing-bot"},
		"redacted string":   {body: `{"kind":"output","content":"Ask ` + testbed.Mail + `."}`, decision: "redact", rule: "billing-bot/findings/pii", content: `"Ask [REDACTED:pii]."`},
		"redacted parts":    {body: `{"kind":"output","content":[{"type":"image"},{"type":"text","text":"Ask ` + testbed.Mail + `."}]}`, decision: "redact", content: `[{"type":"image"},{"type":"text","text":"Ask [REDACTED:pii]."}]`},
		"allowed call":      {body: `{"kind":"tool_call","session":"s-17","tool":{"server":"crm","name":"query_database","arguments":{"query":"SELECT 1"}},"client_seq":12}`, decision: "allow"},
		"call without args": {body: `{"kind":"tool_call","tool":{"name":"get_time"}}`, decision: "allow"},
		"blocked call":      {body: `{"kind":"tool_call","tool":{"name":"drop_table","arguments":{}}}`, decision: "block", message: "drop_table"},
		"redacted call":     {body: `{"kind":"tool_call","tool":{"name":"send_email","arguments":{"to":"x", "body":"Ask ` + testbed.Mail + `."}}}`, decision: "redact", arguments: `{"to":"x","body":"Ask [REDACTED:pii]."}`},
		"result":            {body: `{"kind":"tool_result","tool":{"name":"get_time"},"content":"noon","context":"What time is it?"}`, decision: "allow"},
		"definition":        {body: `{"kind":"tool_definition","tool":{"name":"get_time"},"content":"Tells the time."}`, decision: "allow"},
		"memory":            {body: `{"kind":"memory","content":"The customer likes tea.","user":"u","parent":"p"}`, decision: "allow"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, text := post(t, b, "/v1/inspect", c.body)
			if resp.StatusCode != 200 {
				t.Fatal(text)
			}
			var a answer
			if err := json.Unmarshal([]byte(text), &a, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			if a.Decision != c.decision || c.rule != "" && a.Rule != c.rule || !strings.Contains(a.Message, c.message) || a.Entry == "" || a.Findings == nil {
				t.Errorf("got %s", text)
			}
			if resp.Header.Get(gateway.HeaderDecision) != a.Decision || resp.Header.Get(gateway.HeaderEntry) != a.Entry {
				t.Errorf("headers %v", resp.Header)
			}
			for member, pair := range map[string][2]any{"content": {a.Content, c.content}, "arguments": {a.Arguments, c.arguments}} {
				got, _ := json.Marshal(pair[0], json.Deterministic(true))
				var want any
				if s := pair[1].(string); s != "" {
					if err := json.Unmarshal([]byte(s), &want); err != nil {
						t.Fatal(err)
					}
				}
				if w, _ := json.Marshal(want, json.Deterministic(true)); string(w) != string(got) {
					t.Errorf("%s: got %s, want %s", member, got, w)
				}
			}
		})
	}
	var seq, session bool
	for _, d := range testbed.Decisions(t, b) {
		seq = seq || d.ClientSeq == 12 && d.Session == "s-17" && d.Path == "inspect"
		session = session || d.Session == "s-header"
	}
	if !seq || !session {
		t.Error("client_seq or session did not reach the book")
	}
}

func TestInspectRefusesWhatItDoesNotKnow(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	for name, c := range map[string]struct {
		body, code, message string
	}{
		"broken":            {`{"kind":`, "malformed_json", "offset 8"},
		"duplicate name":    {`{"kind":"input","kind":"output"}`, "duplicate_name", "offset 16"},
		"no object":         {`[]`, "malformed_request", "JSON object"},
		"no kind":           {`{}`, "malformed_request", "kind must be one of input, output, tool_call, tool_result, tool_definition, memory"},
		"unknown kind":      {`{"kind":"thought","content":"x"}`, "malformed_request", "kind must be one of input"},
		"unknown member":    {`{"kind":"input","contents":"x"}`, "malformed_request", "unknown member contents: use kind, session"},
		"unknown in tool":   {`{"kind":"tool_call","tool":{"name":"x","args":{}}}`, "malformed_request", "unknown member tool.args: use server, name, call_id, arguments"},
		"no content":        {`{"kind":"output"}`, "malformed_request", "content is required for kind output"},
		"content type":      {`{"kind":"output","content":7}`, "malformed_request", "content must be a string or a list of parts"},
		"part":              {`{"kind":"output","content":[{"text":"x"}]}`, "malformed_request", "content[0].type is required"},
		"no tool":           {`{"kind":"tool_call"}`, "malformed_request", "tool is required"},
		"no tool name":      {`{"kind":"tool_call","tool":{}}`, "malformed_request", "tool.name is required"},
		"arguments":         {`{"kind":"tool_call","tool":{"name":"x","arguments":"{}"}}`, "malformed_request", "tool.arguments must be an object"},
		"content of a call": {`{"kind":"tool_call","tool":{"name":"x"},"content":"y"}`, "malformed_request", "content does not go with a tool_call"},
		"client_seq":        {`{"kind":"input","content":"x","client_seq":"1"}`, "malformed_request", "client_seq must be an integer"},
		"role":              {`{"kind":"input","content":"x","role":"king"}`, "malformed_request", "role must be one of system, user, assistant"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, text := post(t, b, "/v1/inspect", c.body)
			var e struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(text), &e, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 400 || e.Error.Code != c.code || !strings.Contains(e.Error.Message, c.message) {
				t.Errorf("got %d %s", resp.StatusCode, text)
			}
			rs := testbed.Refusals(t, b)
			if r := rs[len(rs)-1]; r.Code != c.code || r.Path != "inspect" || r.Agent != testbed.Agent {
				t.Errorf("entry %+v", r)
			}
		})
	}
	if len(testbed.Decisions(t, b)) != 0 {
		t.Error("something was decided")
	}
}

func TestABatchIsDecidedInOrder(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	_, text := post(t, b, "/v1/inspect/batch", `{"interactions":[{"kind":"input","content":"Hello."},{"kind":"tool_call","tool":{"name":"drop_table"}},{"kind":"output","content":"Bye."}]}`)
	var a struct{ Decisions []answer }
	if err := json.Unmarshal([]byte(text), &a, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, d := range a.Decisions {
		got += d.Decision + " "
	}
	if got != "allow block allow " {
		t.Errorf("got %s", text)
	}
	for name, c := range map[string]struct{ body, message string }{
		"too many": {`{"interactions":[` + strings.Repeat(`{"kind":"input","content":"x"},`, 256) + `{"kind":"input","content":"x"}]}`, "257 interactions, more than 256"},
		"none":     {`{"interactions":[]}`, "a list of 1 to 256"},
		"bad one":  {`{"interactions":[{"kind":"input","content":"x"},{"kind":"nothing"}]}`, "interactions[1].kind must be one of"},
	} {
		resp, text := post(t, b, "/v1/inspect/batch", c.body)
		if resp.StatusCode != 400 || !strings.Contains(text, c.message) {
			t.Errorf("%s: got %d %s", name, resp.StatusCode, text)
		}
	}
}

func TestInspectNeedsAnAgentsKeyAndABook(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	for _, key := range []string{"", "gbk_wrong", "gbo_operator"} {
		req, err := http.NewRequest(http.MethodPost, b.URL+"/v1/inspect", strings.NewReader(`{"kind":"input","content":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := b.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("key %q: %d", key, resp.StatusCode)
		}
	}
	b.Broken.Store(true)
	resp, text := post(t, b, "/v1/inspect", `{"kind":"input","content":"x"}`)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(text, "not_durable") {
		t.Errorf("got %d %s", resp.StatusCode, text)
	}
}
