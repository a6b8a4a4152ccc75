package openai_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3/packages/ssestream"
	oai "github.com/openai/openai-go/v3/responses"
	"pgregory.net/rapid"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

func whole(s string) []string { return []string{s} }

// told writes events, numbered; each is a kind and the other members.
func told(events ...string) string {
	var all strings.Builder
	for i := 0; i < len(events); i += 2 {
		fmt.Fprintf(&all, "event: %s\ndata: {\"type\":%q,\"sequence_number\":%d,%s}\n\n", events[i], events[i], i/2, events[i+1])
	}
	return all.String()
}

const (
	begun     = `"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"gpt-5","output":[],"usage":null}`
	completed = `"response":{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"gpt-5","output":[],"usage":{"input_tokens":3,"output_tokens":7,"total_tokens":10}}`
	textBegun = `"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}`
	callBegun = `"output_index":0,"item":{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"get_time","arguments":""}`
	callDone  = `"output_index":0,"item":{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"get_time","arguments":"{}"}`
	atText    = `"item_id":"msg_1","output_index":0,"content_index":0`
)

// An upstream's answer that does not fit together is an error at the client, and
// nothing of a call that is not one call is released.
func TestResponsesStreamsThatDoNotFitTogetherAreErrors(t *testing.T) {
	const added, done, end, args = "response.output_item.added", "response.output_item.done", "response.completed", "response.function_call_arguments."
	for name, events := range map[string]string{
		"name changes":        told("response.created", begun, added, callBegun, done, strings.Replace(callDone, "get_time", "drop_table", 1), end, completed),
		"arguments change":    told("response.created", begun, added, callBegun, args+"delta", `"item_id":"fc_1","output_index":0,"delta":"{\"x\":1}"`, done, callDone, end, completed),
		"done differs":        told("response.created", begun, added, callBegun, args+"done", `"item_id":"fc_1","output_index":0,"name":"get_time","arguments":"{\"x\":1}"`, done, callDone, end, completed),
		"kind changes":        told("response.created", begun, added, callBegun, done, strings.Replace(callDone, "function_call", "custom_tool_call", 1), end, completed),
		"no place":            told("response.created", begun, added, strings.Replace(callBegun, `"output_index":0,`, "", 1), end, completed),
		"same place":          told("response.created", begun, added, textBegun, added, textBegun, end, completed),
		"piece of nothing":    told("response.created", begun, "response.output_text.delta", atText+`,"delta":"Hello"`, end, completed),
		"ends what is not":    told("response.created", begun, done, callDone, end, completed),
		"text changes":        told("response.created", begun, added, textBegun, "response.output_text.delta", atText+`,"delta":"Hello"`, "response.output_text.done", atText+`,"text":"Other words"`, end, completed),
		"part changes":        told("response.created", begun, added, textBegun, "response.output_text.delta", atText+`,"delta":"Hello"`, "response.refusal.delta", atText+`,"delta":"No"`, end, completed),
		"two names":           "event: response.created\ndata: {\"type\":\"response.in_progress\"," + begun + "}\n\n",
		"begins with items":   told("response.created", strings.Replace(begun, `"output":[]`, `"output":[`+message("Hello")+`]`, 1)),
		"never ends":          told("response.created", begun, added, textBegun),
		"ends without an end": told("response.created", begun) + "data: [DONE]\n\n",
		"not an object":       "data: [1]\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{Events: events}
			b := testbed.New(t, testbed.Options{Upstream: up})
			h, err := listen(t, b, ask("go"))
			if err == nil || h.response != nil {
				t.Errorf("got %v, %+v", err, h)
			}
			for _, kind := range h.events {
				if strings.HasPrefix(kind, args) || kind == done {
					t.Errorf("%s was released", kind)
				}
			}
			if e := testbed.Closing(t, b); e.Outcome != "upstream_failed" {
				t.Errorf("closing entry %+v", e)
			}
		})
	}
}

// A failure that the upstream tells of itself reaches the client as it is.
func TestResponsesUpstreamFailuresPass(t *testing.T) {
	failed := strings.Replace(strings.Replace(completed, `"status":"completed"`, `"status":"failed","error":{"code":"server_error","message":"It broke."}`, 1), "resp_1", "resp_9", 1)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: told("response.created", begun, "response.failed", failed)}})
	h, err := listen(t, b, ask("go"))
	if err != nil || h.response == nil || h.response.Error.Message != "It broke." {
		t.Errorf("got %v, %+v", err, h)
	}
	if e := testbed.Closing(t, b); e.Outcome != "upstream_failed" || !strings.HasPrefix(e.Detail, "upstream_error") {
		t.Errorf("closing entry %+v", e)
	}
	b = testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: told("response.created", begun, "error", `"code":"rate_limit_exceeded","message":"Too much.","param":null`)}})
	if h, err = listen(t, b, ask("go")); err != nil || h.events[len(h.events)-1] != "error" {
		t.Errorf("got %v, %+v", err, h)
	}
}

// Some servers send less than the API does: the answer passes all the same, and is
// decided on all the same.
func TestResponsesFromServersThatSayLess(t *testing.T) {
	const added, end = "response.output_item.added", "response.completed"
	full := strings.Replace(completed, `"output":[]`, `"output":[`+message("Ask "+testbed.Mail)+`]`, 1)
	for name, events := range map[string]string{
		"no parts":     told("response.created", begun, added, textBegun, "response.output_text.delta", atText+`,"delta":"Ask `+testbed.Mail+`"`, end, full),
		"no pieces":    told("response.created", begun, added, textBegun, "response.output_text.done", atText+`,"text":"Ask `+testbed.Mail+`"`, "response.output_item.done", `"output_index":0,"item":`+message("Ask "+testbed.Mail), end, full),
		"only the end": told("response.created", begun, end, full),
		"no beginning": told(end, full),
		"no numbers":   regexp.MustCompile(`"sequence_number":\d+,`).ReplaceAllString(told("response.created", begun, end, full), ""),
	} {
		t.Run(name, func(t *testing.T) {
			b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
			c := client(b)
			s := c.Responses.NewStreaming(context.Background(), ask("go"))
			defer s.Close()
			got := ""
			for s.Next() {
				if e, ok := s.Current().AsAny().(oai.ResponseCompletedEvent); ok {
					got = e.Response.OutputText()
				}
				if strings.Contains(s.Current().RawJSON(), testbed.Mail) {
					t.Errorf("%s was released", s.Current().RawJSON())
				}
			}
			if s.Err() != nil || got != "Ask "+testbed.Redacted {
				t.Errorf("got %q, %v", got, s.Err())
			}
			ds := testbed.Decisions(t, b)
			if d := ds[len(ds)-1]; d.Decision != "redact" {
				t.Errorf("decision %+v", d)
			}
		})
	}
}

// A call that is cut off by the answer's end is not released.
func TestResponsesCallThatIsCutOffIsNotReleased(t *testing.T) {
	incomplete := func(output string) string {
		return strings.Replace(strings.Replace(completed, `"status":"completed"`, `"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}`, 1), `"output":[]`, `"output":[`+output+`]`, 1)
	}
	partial := strings.Replace(strings.TrimPrefix(callDone, `"output_index":0,"item":`), `"arguments":"{}"`, `"arguments":"{\"a\":"`, 1)
	for name, end := range map[string]string{"told": incomplete(partial), "not told": incomplete("")} {
		t.Run(name, func(t *testing.T) {
			events := told("response.created", begun, "response.output_item.added", callBegun, "response.function_call_arguments.delta", `"item_id":"fc_1","output_index":0,"delta":"{\"a\":"`, "response.incomplete", end)
			b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
			h, err := listen(t, b, ask("go"))
			if err != nil || h.response == nil || h.response.Status != "incomplete" || len(h.calls) != 0 || strings.Contains(h.response.RawJSON(), "function_call") {
				t.Errorf("got %v, %+v", err, h)
			}
		})
	}
}

// Items that come interleaved arrive in the order of their places.
func TestResponsesInterleavedItems(t *testing.T) {
	second := strings.NewReplacer(`"output_index":0`, `"output_index":1`)
	events := told("response.created", begun, "response.output_item.added", callBegun, "response.output_item.added", second.Replace(textBegun),
		"response.output_text.delta", second.Replace(atText)+`,"delta":"Hello."`,
		"response.function_call_arguments.delta", `"item_id":"fc_1","output_index":0,"delta":"{}"`,
		"response.output_text.done", second.Replace(atText)+`,"text":"Hello."`,
		"response.output_item.done", callDone,
		"response.output_item.done", `"output_index":1,"item":`+message("Hello."),
		"response.completed", strings.Replace(completed, `"output":[]`, `"output":[`+strings.TrimPrefix(callDone, `"output_index":0,"item":`)+","+message("Hello.")+`]`, 1))
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: events}})
	h, err := listen(t, b, ask("go"))
	if err != nil || h.calls[0] != "{}" || h.texts["1/0"] != "Hello." || h.response == nil {
		t.Errorf("got %v, %+v", err, h)
	}
	if i, j := slices.Index(h.events, "response.function_call_arguments.delta"), slices.Index(h.events, "response.output_text.delta"); i > j {
		t.Errorf("order %q", h.events)
	}
}

// Instructions and tools that an answer repeats were decided on in the request.
func TestResponsesThatRepeatTheRequestAreNotJudgedByItAgain(t *testing.T) {
	repeats := strings.Replace(begun, `"output":[]`, `"instructions":"Write to `+testbed.Redacted+` or nobody else.","tools":[{"type":"function","name":"get_time","description":"Tells the time of day."}],"output":[]`, 1)
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Events: told("response.created", repeats, "response.in_progress", repeats, "response.completed", completed)}})
	_, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","stream":true,"input":"hi","instructions":"Write to `+testbed.Mail+` or nobody else.","tools":[{"type":"function","name":"get_time","description":"Tells the time of day."}]}`)
	if !strings.Contains(text, "response.completed") {
		t.Errorf("got %s", text)
	}
	n := 0
	for _, d := range testbed.Decisions(t, b) {
		if d.Kind == "output" {
			n++ // the instructions, since they are not what the client sent
		}
	}
	if n != 1 {
		t.Errorf("%d outputs were decided on", n)
	}
}

// A client that makes errors of blocks gets one, in the middle of a stream, too.
func TestResponsesRaise(t *testing.T) {
	for name, answer := range map[string]string{"text": answers["secret"], "call": answers["blocked call"], "result": answers["poisoned mcp"]} {
		t.Run(name, func(t *testing.T) {
			up := &testbed.Upstream{JSON: answer}
			b := testbed.New(t, testbed.Options{Upstream: up})
			resp, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":"go"}`, gateway.HeaderBlock, "raise")
			if resp.StatusCode != 403 || !strings.Contains(text, `"guardbook":{"decision":"block"`) {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
			up.Events = streamed(t, answer, whole)
			_, text = post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":"go","stream":true}`, gateway.HeaderBlock, "raise")
			_, after, found := strings.Cut(text, `: guardbook {"decision":"block"`)
			if !found || !strings.Contains(after, `data: {"error":{`) || strings.Contains(after, "event: ") || strings.Contains(text, testbed.Secret) {
				t.Errorf("streamed %s", text)
			}
		})
	}
}

func TestResponsesKilledWhileACallWaits(t *testing.T) {
	var b *testbed.Bed
	up := &testbed.Upstream{Serve: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, told("response.created", begun, "response.output_item.added", callBegun))
		_ = http.NewResponseController(w).Flush()
		testbed.Opened(t, b)
		if _, err := b.Containments.Kill(context.Background(), "agent:"+testbed.Agent, "alice", "enough", 0); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	}}
	b = testbed.New(t, testbed.Options{Upstream: up})
	h, err := listen(t, b, ask("go"))
	if err != nil || h.response == nil || !strings.HasPrefix(h.response.OutputText(), "[Stopped by an operator") || strings.Contains(h.response.RawJSON(), "get_time") {
		t.Errorf("got %v, %+v", err, h)
	}
}

// eventKinds are all events that the client library knows, taken from its source.
func eventKinds(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/openai/openai-go/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "responses", "response.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(src), "func (u ResponseStreamEventUnion) AsAny()")
	list, _, _ = strings.Cut(list, "\n}\n")
	var kinds []string
	for _, m := range regexp.MustCompile(`case "([a-z_.]+)":`).FindAllStringSubmatch(list, -1) {
		kinds = append(kinds, m[1])
	}
	if len(kinds) < 50 {
		t.Fatalf("only %q", kinds)
	}
	return kinds
}

// Whatever an event is called, what it says is read: a secret in it never arrives in
// an answer that ends well, and when it is said in pieces it is found all the same.
func TestEveryEventOfTheResponsesAPIIsRead(t *testing.T) {
	kinds := append(eventKinds(t), "response.new_kind.delta", "response.new_kind.done")
	items := []string{"message", "reasoning", "function_call", "custom_tool_call", "mcp_call", "web_search_call", "code_interpreter_call", "image_generation_call", "shell_call", "mcp_list_tools", "surprise"}
	up := &testbed.Upstream{}
	b := testbed.New(t, testbed.Options{Upstream: up})
	for _, kind := range kinds {
		for _, item := range items {
			for _, member := range []string{"delta", "text", "surprise"} {
				begin := `"output_index":0,"item":{"id":"it_1","type":"` + item + `"}`
				said := `"item_id":"it_1","output_index":0,"content_index":0,"` + member + `":`
				up.Events = told("response.created", begun, "response.output_item.added", begin,
					kind, said+quoted("Use "+testbed.Secret[:9]), kind, said+quoted(testbed.Secret[9:]+" now"), kind, said+quoted("or "+testbed.Secret+" now"),
					"response.output_item.done", begin, "response.completed", completed)
				_, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":"go","stream":true}`)
				if strings.Contains(text, `"status":"completed"`) && strings.Contains(text, testbed.Secret) && !strings.Contains(text, "Blocked by policy") {
					t.Fatalf("%s of a %s in %s: %s", kind, item, member, text)
				}
			}
		}
	}
}

// Whatever events come in whatever order, the stream ends, what is released is what
// events are, and no call is released that policy forbids.
func TestResponsesStreamsOfAnything(t *testing.T) {
	kinds := eventKinds(t)
	items := []string{"message", "reasoning", "function_call", "custom_tool_call", "mcp_call", "shell_call", "surprise_call", "surprise", "function_call_output"}
	texts := []string{"", "Hello. ", "Ask " + testbed.Mail, testbed.Secret, "{}", `{"query":"x"}`, "get_time", "drop_table"}
	up := &testbed.Upstream{}
	b := testbed.New(t, testbed.Options{Upstream: up})
	rapid.Check(t, func(t *rapid.T) {
		var events []string
		text := func() string { return quoted(rapid.SampledFrom(texts).Draw(t, "text")) }
		item := func() string {
			return fmt.Sprintf(`{"id":"it_%d","type":%q,"name":%s,"call_id":"c","arguments":%s,"input":%s,"content":[{"type":"output_text","text":%s}],"summary":[{"type":"summary_text","text":%s}]}`,
				rapid.IntRange(0, 2).Draw(t, "id"), rapid.SampledFrom(items).Draw(t, "item"), text(), text(), text(), text(), text())
		}
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			kind := rapid.SampledFrom(append(kinds[:len(kinds):len(kinds)], "response.output_item.added", "response.output_item.added", "response.output_item.done", "response.output_item.done", "response.output_text.delta", "response.function_call_arguments.delta")).Draw(t, "kind")
			members := fmt.Sprintf(`"item_id":"it_%d","output_index":%d,"content_index":%d,"delta":%s,"text":%s,"arguments":%s`,
				rapid.IntRange(0, 2).Draw(t, "of"), rapid.IntRange(0, 2).Draw(t, "index"), rapid.IntRange(0, 1).Draw(t, "part"), text(), text(), text())
			switch {
			case strings.HasPrefix(kind, "response.output_item."):
				members += `,"item":` + item()
			case strings.HasPrefix(kind, "response.content_part."):
				members += `,"part":{"type":"output_text"}`
			case kind == "response.completed" || kind == "response.incomplete" || kind == "response.failed":
				members += `,` + strings.Replace(completed, `"output":[]`, `"output":[`+item()+`]`, 1)
			}
			events = append(events, kind, members)
		}
		up.Events = told(events...)
		req, err := http.NewRequest(http.MethodPost, b.URL+"/openai/v1/responses", strings.NewReader(`{"model":"gpt-5","input":"go","stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(gateway.HeaderKey, testbed.Key)
		resp, err := b.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		s := ssestream.NewStream[oai.ResponseStreamEventUnion](ssestream.NewDecoder(resp), nil)
		for s.Next() {
			if ev := s.Current(); ev.Type == "response.output_item.done" && ev.Item.Type == "function_call" && ev.Item.Name == "drop_table" {
				t.Fatalf("a forbidden call was released: %s", ev.RawJSON())
			}
		}
		if err := s.Err(); err != nil && !strings.Contains(err.Error(), "received error while streaming") {
			t.Fatal(err)
		}
	})
}

// Logprobs repeat a text token by token: they go when the text is changed.
func TestResponsesLogprobsDoNotTellWhatWasRedacted(t *testing.T) {
	probs := `[{"token":"jane.roe","logprob":-0.1,"bytes":[106],"top_logprobs":[]},{"token":"@corp-mail.net","logprob":-0.1,"bytes":[64],"top_logprobs":[]}]`
	part := `{"type":"output_text","text":"` + testbed.Mail + ` ","annotations":[],"logprobs":` + probs + `}`
	item := `{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[` + part + `]}`
	up := &testbed.Upstream{JSON: reply(item)}
	b := testbed.New(t, testbed.Options{Upstream: up})
	if _, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":"go"}`); strings.Contains(text, "corp-mail") || strings.Contains(text, "jane") || !strings.Contains(text, testbed.Redacted) {
		t.Errorf("got %s", text)
	}
	up.Events = told("response.created", begun, "response.output_item.added", textBegun,
		"response.output_text.delta", atText+`,"delta":"jane.roe","logprobs":`+probs, "response.output_text.delta", atText+`,"delta":"@corp-mail.net ","logprobs":`+probs,
		"response.output_text.done", atText+`,"text":"`+testbed.Mail+` ","logprobs":`+probs, "response.content_part.done", atText+`,"part":`+part,
		"response.output_item.done", `"output_index":0,"item":`+item, "response.completed", strings.Replace(completed, `"output":[]`, `"output":[`+item+`]`, 1))
	if _, text := post(t, b, "/openai/v1/responses", `{"model":"gpt-5","input":"go","stream":true}`); strings.Contains(text, "corp-mail") || strings.Contains(text, "jane") || !strings.Contains(text, "response.completed") {
		t.Errorf("streamed %s", text)
	}
}
