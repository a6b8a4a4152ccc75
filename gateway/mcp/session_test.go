package mcp_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/internal/bed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// ask sends a request of the client through, and the server's answer back.
func ask(t *testing.T, s *mcp.Session, request, answer string) mcp.Result {
	t.Helper()
	r := s.Handle(bg, mcp.FromClient, []byte(request))
	if r.Forward == nil {
		t.Fatalf("the request does not go on: %s", r.Answer)
	}
	return s.Handle(bg, mcp.FromServer, []byte(answer))
}

func value(t *testing.T, raw []byte, path ...string) document.Value {
	t.Helper()
	doc, err := document.Parse(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	v := doc.Root()
	for _, p := range path {
		if v.Kind() == '[' {
			n := 0
			fmt.Sscan(p, &n)
			v = v.First()
			for range n {
				v = v.Next()
			}
			continue
		}
		v = v.Get(p)
	}
	return v
}

func result(id, body string) string { return `{"jsonrpc":"2.0","id":` + id + `,"result":` + body + `}` }

func call(id, name, args string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"` + name + `","arguments":` + args + `}}`
}

func TestWhatIsNotChangedIsForwardedByteForByte(t *testing.T) {
	s := bed.New(t, "").Session("crm")
	for _, m := range []string{
		`{"jsonrpc":"2.0","id":"a\u0062","method":"tools/call","params":{"name":"query","arguments":{"query":"one  two","region":"e\u0075"},"_meta":{"progressToken":7,"x.example/trace":{"a":[1.0,1e2]}}},"x-unknown":{"deep":[null,true]}}`,
		` {"method":"unknown/method" , "jsonrpc" : "2.0","id": 12345678901234567,"params":{"Zahl":1.50}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":0.5,"total":1}}`,
		`{"jsonrpc":"2.0","id":0,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":-7,"method":"tools/list","params":{"cursor":"b3BhcXVl"}}`,
	} {
		if r := s.Handle(bg, mcp.FromClient, []byte(m)); string(r.Forward) != strings.TrimSpace(m) || r.Edited {
			t.Errorf("%s\nbecame %s (answer %s)", m, r.Forward, r.Answer)
		}
	}
	for _, m := range []string{
		`{"jsonrpc":"2.0","id":-7,"result":{"tools":[{"name":"query","inputSchema":{"type":"object"},"x-new":1.0}],"_meta":{"k":"v"},"somethingNew":[1]}}`,
		`{"jsonrpc":"2.0","id":0,"result":{}}`,
		`{"jsonrpc":"2.0","id":"ab","result":{"content":[{"type":"text","text":"fine","annotations":{"audience":["user"]},"extra":1}],"structuredContent":{"n":1.0},"isError":false,"x":"y"}}`,
		`{"jsonrpc":"2.0","id":12345678901234567,"error":{"code":-32601,"message":"no such method","data":{"a":1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`,
	} {
		if r := s.Handle(bg, mcp.FromServer, []byte(m)); string(r.Forward) != m || r.Edited {
			t.Errorf("%s\nbecame %s (%+v)", m, r.Forward, r.Refusal)
		}
	}
}

func TestALineEndWithinAMessageBecomesASpace(t *testing.T) {
	s := bed.New(t, "").Session("crm")
	r := s.Handle(bg, mcp.FromClient, []byte("{\"jsonrpc\":\"2.0\",\r\n\"id\":1,\n\"method\":\"ping\"}"))
	if string(r.Forward) != `{"jsonrpc":"2.0",   "id":1, "method":"ping"}` && string(r.Forward) != `{"jsonrpc":"2.0",  "id":1, "method":"ping"}` {
		t.Errorf("%q", r.Forward)
	}
}

func TestWhatTwoParsersWouldReadInTwoWaysIsRefused(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	for name, m := range map[string]string{
		"a name twice":                 `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"drop"}}`,
		"a name twice in arguments":    call("1", "query", `{"query":"a","query":"b"}`),
		"a name twice, once escaped":   `{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"x"}`,
		"other capitals":               `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`,
		"a letter that folds to k":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"time","argumentſ":{}}}`,
		"capitals in a call":           `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"time","Name":"drop"}}`,
		"id 1.5":                       `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`,
		"id 1.0":                       `{"jsonrpc":"2.0","id":1.0,"method":"ping"}`,
		"id 1e0":                       `{"jsonrpc":"2.0","id":1e0,"method":"ping"}`,
		"id null":                      `{"jsonrpc":"2.0","id":null,"method":"ping"}`,
		"id of an object":              `{"jsonrpc":"2.0","id":{},"method":"ping"}`,
		"a request and an answer":      `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`,
		"a result and an error":        `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`,
		"nothing at all":               `{"jsonrpc":"2.0","id":1}`,
		"version 1":                    `{"id":1,"method":"ping"}`,
		"more after it":                `{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}`,
		"not UTF-8":                    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}",
		"half a message":               `{"jsonrpc":"2.0","id":1,`,
		"a string":                     `"ping"`,
		"params that are no object":    `{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}`,
		"a tool without a name":        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}`,
		"a tool whose name is a list":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["time"]}}`,
		"a requestState without bound": `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"time","requestState":"` + strings.Repeat("x", 70_000) + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := s.Handle(bg, mcp.FromClient, []byte(m))
			if r.Forward != nil || r.Refusal == nil {
				t.Fatalf("goes on: %s", r.Forward)
			}
			if r.Answer != nil && !value(t, r.Answer, "error", "code").Exists() {
				t.Errorf("answer %s", r.Answer)
			}
			if strings.Contains(r.Refusal.Message, "drop") {
				t.Errorf("the refusal repeats what was sent: %s", r.Refusal.Message)
			}
		})
	}
	if s.Pending(mcp.FromClient) != 0 {
		t.Errorf("%d refused requests wait for an answer", s.Pending(mcp.FromClient))
	}
	if n := len(b.Refusals(t)); n != 23 {
		t.Errorf("%d refusals in the book", n)
	}
}

func TestIdsKeepTheirTypeAndAreOfTheirDirection(t *testing.T) {
	s := bed.New(t, "").Session("loose")
	s.Handle(bg, mcp.FromClient, []byte(call("1", "a", "{}")))
	s.Handle(bg, mcp.FromClient, []byte(`{"jsonrpc":"2.0","id":"1","method":"prompts/get","params":{"name":"p"}}`))
	s.Handle(bg, mcp.FromServer, []byte(`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"messages":[]}}`))
	if s.Pending(mcp.FromClient) != 2 || s.Pending(mcp.FromServer) != 1 {
		t.Fatalf("%d and %d requests wait", s.Pending(mcp.FromClient), s.Pending(mcp.FromServer))
	}
	r := s.Handle(bg, mcp.FromServer, []byte(result(`"1"`, `{"messages":[]}`)))
	if r.Method != "prompts/get" || r.Forward == nil {
		t.Errorf("%+v", r)
	}
	// A second answer, and one with an id of another type, answer nothing.
	for _, id := range []string{`"1"`, "2"} {
		if r := s.Handle(bg, mcp.FromServer, []byte(result(id, `{}`))); r.Forward != nil || r.Refusal == nil || r.Refusal.Code != "unmatched_answer" {
			t.Errorf("%+v", r)
		}
	}
	if r := s.Handle(bg, mcp.FromClient, []byte(result("1", `{"role":"assistant","content":{"type":"text","text":"hello there"}}`))); r.Method != "sampling/createMessage" || r.Forward == nil {
		t.Errorf("%+v", r)
	}
	if r := s.Handle(bg, mcp.FromServer, []byte(result("1", `{"content":[]}`))); r.Method != "tools/call" || r.Tool != "a" || r.Forward == nil {
		t.Errorf("%+v", r)
	}
}

func TestAnIdThatIsUnderWayIsNotUsedAgain(t *testing.T) {
	s := bed.New(t, "").Session("loose")
	s.Handle(bg, mcp.FromClient, []byte(call("1", "a", "{}")))
	r := s.Handle(bg, mcp.FromClient, []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if r.Forward != nil || value(t, r.Answer, "id").Kind() != 'n' {
		t.Errorf("%s %s", r.Forward, r.Answer)
	}
	if r := s.Handle(bg, mcp.FromServer, []byte(result("1", `{"content":[{"type":"text","text":"`+bed.Injection+`"}]}`))); !value(t, r.Forward, "result", "isError").True() {
		t.Errorf("what answers a call is read as a call's result: %s", r.Forward)
	}
}

func TestALateAnswerToACancelledRequestIsDropped(t *testing.T) {
	s := bed.New(t, "").Session("loose")
	s.Handle(bg, mcp.FromClient, []byte(call(`"x"`, "a", "{}")))
	c := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x","reason":"user"}}`
	if r := s.Handle(bg, mcp.FromClient, []byte(c)); string(r.Forward) != c {
		t.Fatalf("the cancellation does not go on: %+v", r)
	}
	if r := s.Handle(bg, mcp.FromServer, []byte(result(`"x"`, `{"content":[]}`))); r.Forward != nil || r.Refusal != nil {
		t.Errorf("%+v", r)
	}
}

func TestACallThatPolicyDeniesIsAnsweredWithAnErrorResult(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	r := s.Handle(bg, mcp.FromClient, []byte(call(`"c1"`, "drop_table", "{}")))
	if r.Forward != nil || !value(t, r.Answer, "result", "isError").True() || value(t, r.Answer, "id").Text() != "c1" {
		t.Fatalf("%s", r.Answer)
	}
	text := value(t, r.Answer, "result", "content", "0", "text").Text()
	if !strings.Contains(text, "Blocked by policy billing-bot") || !strings.Contains(text, r.Decision.Entry) || !strings.Contains(text, "do not retry") {
		t.Error(text)
	}
	if value(t, r.Answer, "result", "resultType").Exists() {
		t.Error("a result of the older era names no resultType")
	}
	ds := b.Decisions(t)
	if len(ds) != 1 || ds[0].Tool.Server != "crm" || ds[0].Tool.Name != "drop_table" || ds[0].Path != "mcp/tools/call" || ds[0].Kind != guardbook.KindToolCall {
		t.Errorf("%+v", ds)
	}
	modern := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"drop_table","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	if r := s.Handle(bg, mcp.FromClient, []byte(modern)); value(t, r.Answer, "result", "resultType").Text() != "complete" {
		t.Errorf("%s", r.Answer)
	}
	// The policy's entry is for server crm: the same tool elsewhere is another one.
	if r := b.Session("elsewhere").Handle(bg, mcp.FromClient, []byte(call("3", "time", "{}"))); r.Forward != nil {
		t.Error("a tool of another server passes by the entry for crm")
	}
}

func TestArgumentsAreRedactedOrRefused(t *testing.T) {
	s := bed.New(t, "").Session("crm")
	r := s.Handle(bg, mcp.FromClient, []byte(call("1", "query", `{"query":"who is `+bed.Mail+`?"}`)))
	if got := value(t, r.Forward, "params", "arguments", "query").Text(); got != "who is "+bed.Redacted+"?" || !r.Edited || r.Arguments == nil {
		t.Errorf("%s", r.Forward)
	}
	r = s.Handle(bg, mcp.FromClient, []byte(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"query","arguments":["x"]}}`))
	if r.Forward != nil || !value(t, r.Answer, "result", "isError").True() {
		t.Errorf("%s", r.Forward)
	}
	for name, params := range map[string]string{
		"an answer to a question of the server": `{"name":"time","inputResponses":{"k":{"action":"accept","content":{"key":"` + bed.Secret + `"}}},"requestState":"s"}`,
		"an unknown parameter":                  `{"name":"time","note":"the key is ` + bed.Secret + `"}`,
		"metadata":                              `{"name":"time","_meta":{"example.com/x":"the key is ` + bed.Secret + `"}}`,
	} {
		r := s.Handle(bg, mcp.FromClient, []byte(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":`+params+`}`))
		if r.Forward != nil {
			t.Errorf("%s goes out: %s", name, r.Forward)
		}
	}
}

func TestAResultIsReadWhole(t *testing.T) {
	blob := base64.StdEncoding.EncodeToString([]byte(bed.Injection))
	for name, body := range map[string]string{
		"text":               `{"content":[{"type":"text","text":"` + bed.Injection + `"}]}`,
		"structured":         `{"content":[],"structuredContent":{"a":{"b":["` + bed.Injection + `"]}}}`,
		"an error's text":    `{"content":[{"type":"text","text":"` + bed.Injection + `"}],"isError":true}`,
		"an embedded text":   `{"content":[{"type":"resource","resource":{"uri":"file:///a","text":"` + bed.Injection + `"}}]}`,
		"an embedded blob":   `{"content":[{"type":"resource","resource":{"uri":"file:///a","mimeType":"text/plain","blob":"` + blob + `"}}]}`,
		"a link":             `{"content":[{"type":"resource_link","uri":"https://x.example","name":"n","description":"` + bed.Injection + `"}]}`,
		"an unknown member":  `{"content":[],"remark":"` + bed.Injection + `"}`,
		"metadata":           `{"content":[],"_meta":{"x":"` + bed.Injection + `"}}`,
		"a member's name":    `{"content":[],"structuredContent":{"` + bed.Injection + `":1}}`,
		"a question instead": `{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"` + bed.Injection + `"}}},"requestState":"opaque"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := bed.New(t, "").Session("loose")
			r := ask(t, s, call("1", "a", "{}"), result("1", body))
			if !value(t, r.Forward, "result", "isError").True() || strings.Contains(string(r.Forward), "Ignore all") || strings.Contains(string(r.Forward), blob) {
				t.Errorf("%s", r.Forward)
			}
			if r.Decision.Action != guardbook.ActionBlock {
				t.Errorf("decision %+v", r.Decision)
			}
		})
	}
}

func TestPicturesAreNamedAndNotRead(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("loose")
	body := `{"content":[{"type":"image","mimeType":"image/png","data":"aGVsbG8="},{"type":"audio","mimeType":"audio/wav","data":"aGVsbG8="},` +
		`{"type":"resource_link","uri":"a","icons":[{"src":"data:image/png;base64,aGVsbG8="}]},{"type":"image","mimeType":"image/png","data":"` + bed.Injection + `"}]}`
	r := ask(t, s, call("1", "a", "{}"), result("1", body))
	if !value(t, r.Forward, "result", "isError").True() {
		t.Errorf("a text that says it is a picture is not read: %s", r.Forward)
	}
	if d := b.Decisions(t)[1]; d.Bytes > 200 {
		t.Errorf("%d bytes were read", d.Bytes)
	}
}

func TestRedactionKeepsTypesOrBecomesAnError(t *testing.T) {
	list := func(schema string) string {
		return result("1", `{"tools":[{"name":"a","inputSchema":{"type":"object"},"outputSchema":`+schema+`}]}`)
	}
	free := `{"type":"object","properties":{"mail":{"type":"string"}}}`
	for name, c := range map[string]struct {
		schema, body string
		redacted     bool
	}{
		"a text":                 {free, `{"content":[{"type":"text","text":"` + bed.Mail + `"}],"structuredContent":{"mail":"` + bed.Mail + `"}}`, true},
		"a text with a format":   {`{"type":"object","properties":{"mail":{"type":"string","format":"email"}}}`, `{"content":[],"structuredContent":{"mail":"` + bed.Mail + `"}}`, false},
		"a number":               {free, `{"content":[],"structuredContent":{"card":4539578763621486}}`, false},
		"the name of a member":   {free, `{"content":[],"structuredContent":{"` + bed.Mail + `":"x"}}`, false},
		"in a blob that is text": {free, `{"content":[{"type":"resource","resource":{"uri":"a","blob":"` + base64.StdEncoding.EncodeToString([]byte("mail "+bed.Mail)) + `"}}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := bed.New(t, "")
			s := b.Session("loose")
			ask(t, s, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, list(c.schema))
			r := ask(t, s, call("2", "a", "{}"), result("2", c.body))
			isError := value(t, r.Forward, "result", "isError").True()
			if isError == c.redacted || strings.Contains(string(r.Forward), bed.Mail) || strings.Contains(string(r.Forward), "4539578763621486") {
				t.Errorf("%s", r.Forward)
			}
			if c.redacted && value(t, r.Forward, "result", "structuredContent", "mail").Text() != bed.Redacted {
				t.Errorf("%s", r.Forward)
			}
			if refused := b.Refusals(t); !c.redacted && (len(refused) != 1 || refused[0].Code != "unredactable") {
				t.Errorf("%+v", refused)
			}
		})
	}
}

func TestWhatIsBlockedElsewhereBecomesAnError(t *testing.T) {
	for method, body := range map[string]string{
		"resources/read":      `{"contents":[{"uri":"file:///a","text":"` + bed.Injection + `"}]}`,
		"prompts/get":         `{"messages":[{"role":"user","content":{"type":"text","text":"` + bed.Injection + `"}}]}`,
		"completion/complete": `{"completion":{"values":["` + bed.Injection + `"]}}`,
		"vendor/new":          `{"anything":["` + bed.Injection + `"]}`,
	} {
		s := bed.New(t, "").Session("loose")
		r := ask(t, s, `{"jsonrpc":"2.0","id":7,"method":"`+method+`","params":{}}`, result("7", body))
		if value(t, r.Forward, "error", "code").Int(0) != mcp.CodeBlocked || value(t, r.Forward, "id").Int(0) != 7 {
			t.Errorf("%s: %s", method, r.Forward)
		}
	}
}

func TestWhatWasRedactedForOneAgentIsNotKeptForOthers(t *testing.T) {
	s := bed.New(t, "").Session("loose")
	read := `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"a"}}`
	r := ask(t, s, read, result("7", `{"contents":[{"uri":"a","text":"`+bed.Mail+`"}],"ttlMs":5,"cacheScope":"public"}`))
	if value(t, r.Forward, "result", "cacheScope").Text() != "private" || value(t, r.Forward, "result", "ttlMs").Int(0) != 5 {
		t.Errorf("%s", r.Forward)
	}
	r = ask(t, s, read, result("7", `{"contents":[{"uri":"a","text":"fine"}],"ttlMs":1e9,"cacheScope":"public"}`))
	if value(t, r.Forward, "result", "cacheScope").Text() != "public" || value(t, r.Forward, "result", "ttlMs").Int(0) != 60000 {
		t.Errorf("%s", r.Forward)
	}
}

func TestAnErrorsWordsAreRead(t *testing.T) {
	s := bed.New(t, "").Session("loose")
	r := ask(t, s, call("1", "a", "{}"), `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"failed","data":{"hint":"`+bed.Injection+`"}}}`)
	if value(t, r.Forward, "error", "code").Int(0) != -32000 || strings.Contains(string(r.Forward), "Ignore") || !strings.Contains(string(r.Forward), "Blocked") {
		t.Errorf("%s", r.Forward)
	}
}

func TestAServersRequestsAndTheirAnswers(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	r := s.Handle(bg, mcp.FromServer, []byte(`{"jsonrpc":"2.0","id":5,"method":"elicitation/create","params":{"message":"`+bed.Injection+`","requestedSchema":{"type":"object"}}}`))
	if r.Forward != nil || value(t, r.Answer, "error", "code").Int(0) != mcp.CodeBlocked || value(t, r.Answer, "id").Int(0) != 5 {
		t.Errorf("%s / %s", r.Forward, r.Answer)
	}
	if ds := b.Decisions(t); ds[0].Kind != guardbook.KindToolResult || ds[0].Tool.Name != "elicitation/create" || ds[0].Tool.Server != "crm" {
		t.Errorf("%+v", ds[0])
	}
	s.Handle(bg, mcp.FromServer, []byte(`{"jsonrpc":"2.0","id":6,"method":"elicitation/create","params":{"message":"Which key is it?"}}`))
	r = s.Handle(bg, mcp.FromClient, []byte(result("6", `{"action":"accept","content":{"key":"`+bed.Secret+`"}}`)))
	if value(t, r.Forward, "error", "code").Int(0) != mcp.CodeBlocked || strings.Contains(string(r.Forward), bed.Secret) {
		t.Errorf("%s", r.Forward)
	}
	if r := s.Handle(bg, mcp.FromServer, []byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"`+bed.Injection+`"}}`)); r.Forward != nil || r.Answer != nil {
		t.Errorf("%+v", r)
	}
}

func TestAServersInstructions(t *testing.T) {
	s := bed.New(t, "").Session("crm")
	r := ask(t, s, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"A client","version":"1"}}}`,
		result("1", `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"crm","version":"1"},"instructions":"`+bed.Injection+`"}`))
	if value(t, r.Forward, "result", "instructions").Exists() || value(t, r.Forward, "result", "protocolVersion").Text() != "2025-11-25" {
		t.Errorf("%s", r.Forward)
	}
	if s.Version() != "2025-11-25" {
		t.Errorf("version %q", s.Version())
	}
}

func TestBatches(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	batch := `[` + call("1", "time", "{}") + `,{"jsonrpc":"2.0","method":"notifications/initialized"},` + `{"jsonrpc":"2.0","id":2,"method":"ping"}]`
	if r := s.Handle(bg, mcp.FromClient, []byte(batch)); string(r.Forward) != batch {
		t.Fatalf("%s %s", r.Forward, r.Answer)
	}
	r := s.Handle(bg, mcp.FromServer, []byte(`[`+result("1", `{"content":[{"type":"text","text":"`+bed.Injection+`"}]}`)+`,`+result("2", `{}`)+`]`))
	if !value(t, r.Forward, "0", "result", "isError").True() || value(t, r.Forward, "1", "id").Int(0) != 2 {
		t.Errorf("%s", r.Forward)
	}
	r = s.Handle(bg, mcp.FromClient, []byte(`[`+call("3", "drop", "{}")+`,`+call("4", "time", "{}")+`]`))
	if r.Forward != nil || !value(t, r.Answer, "0", "result", "isError").True() || value(t, r.Answer, "1", "error", "code").Int(0) != mcp.CodeBlocked || s.Pending(mcp.FromClient) != 0 {
		t.Errorf("%s %s", r.Forward, r.Answer)
	}
	ask(t, s, `{"jsonrpc":"2.0","id":5,"method":"initialize","params":{}}`, result("5", `{"protocolVersion":"2025-06-18"}`))
	if r := s.Handle(bg, mcp.FromClient, []byte(batch)); r.Forward != nil || r.Refusal == nil {
		t.Errorf("a batch passes where the protocol has none")
	}
}

func TestAResultThatComesByATask(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("loose")
	ask(t, s, call("1", "slow", "{}"), result("1", `{"task":{"taskId":"t-1","status":"working"}}`))
	r := ask(t, s, `{"jsonrpc":"2.0","id":2,"method":"tasks/result","params":{"taskId":"t-1"}}`, result("2", `{"content":[{"type":"text","text":"`+bed.Injection+`"}]}`))
	if !value(t, r.Forward, "result", "isError").True() || r.Tool != "slow" {
		t.Errorf("%s", r.Forward)
	}
	if ds := b.Decisions(t); ds[len(ds)-1].Tool.Name != "slow" || ds[len(ds)-1].Path != "mcp/tasks/result" {
		t.Errorf("%+v", ds[len(ds)-1])
	}
}

func TestOneConnectionMayCarryManyCallers(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	for i, name := range []string{"time", "drop"} {
		s.Handle(mcp.As(bg, gateway.Caller{Agent: bed.Agent, Session: "s-" + name, User: "u", Client: "c", ClientSeq: int64(i + 1)}), mcp.FromClient, []byte(call(fmt.Sprint(i), name, "{}")))
	}
	ds := b.Decisions(t)
	if len(ds) != 2 || ds[0].Session != "s-time" || ds[1].Session != "s-drop" || ds[1].User != "u" || ds[1].ClientSeq != 2 {
		t.Errorf("%+v", ds)
	}
}

func TestNothingPassesThatCannotBeRecorded(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	s.Handle(bg, mcp.FromClient, []byte(call("1", "time", "{}")))
	b.Broken.Store(true)
	if r := s.Handle(bg, mcp.FromServer, []byte(result("1", `{"content":[{"type":"text","text":"twelve"}]}`))); strings.Contains(string(r.Forward), "twelve") || !value(t, r.Forward, "result", "isError").True() {
		t.Errorf("%s", r.Forward)
	}
	if r := s.Handle(bg, mcp.FromClient, []byte(call("2", "time", "{}"))); r.Forward != nil || !value(t, r.Answer, "result", "isError").True() {
		t.Errorf("%s", r.Forward)
	}
	s.Handle(bg, mcp.FromClient, []byte(`{"jsonrpc":"2.0","id":3,"method":"tools/list"}`))
	if r := s.Handle(bg, mcp.FromServer, []byte(result("3", `{"tools":[{"name":"time"}]}`))); value(t, r.Forward, "error", "code").Int(0) != mcp.CodeInternal {
		t.Errorf("%s", r.Forward)
	}
}

func TestAKilledAgentGetsNothing(t *testing.T) {
	b := bed.New(t, "")
	s := b.Session("crm")
	s.Handle(bg, mcp.FromClient, []byte(call("1", "time", "{}")))
	if _, err := b.Containments.Kill(bg, bed.Agent, "op", "test", 0); err != nil {
		t.Fatal(err)
	}
	if r := s.Handle(bg, mcp.FromServer, []byte(result("1", `{"content":[{"type":"text","text":"twelve"}]}`))); strings.Contains(string(r.Forward), "twelve") {
		t.Errorf("%s", r.Forward)
	}
	if r := s.Handle(bg, mcp.FromClient, []byte(call("2", "time", "{}"))); r.Forward != nil {
		t.Errorf("%s", r.Forward)
	}
}
