package openai_test

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	oai "github.com/openai/openai-go/v3/responses"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

func client(b *testbed.Bed, opts ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(b.URL + "/openai/v1"), option.WithAPIKey("sk-client"), option.WithMaxRetries(0),
		option.WithHTTPClient(b.Client), option.WithHeader(gateway.HeaderKey, testbed.Key), option.WithHeader(gateway.HeaderSession, "s-1"),
	}, opts...)...)
}

func ask(text string) oai.ResponseNewParams {
	return oai.ResponseNewParams{Model: "gpt-5", Input: oai.ResponseNewParamsInputUnion{OfString: openai.String(text)}}
}

func post(t *testing.T, b *testbed.Bed, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, b, req, header...)
}

func do(t *testing.T, b *testbed.Bed, req *http.Request, header ...string) (*http.Response, string) {
	t.Helper()
	req.Header.Set(gateway.HeaderKey, testbed.Key)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(all)
}

// heard is what the client library made of a streamed answer.
type heard struct {
	response *oai.Response
	texts    map[string]string // of each part, by where, as it came in pieces
	calls    map[int64]string  // arguments and inputs of each call, as they came in pieces
	events   []string
}

// listen runs a streamed answer through the client library, and checks that what is
// told more than once is the same each time.
func listen(t *testing.T, b *testbed.Bed, p oai.ResponseNewParams) (heard, error) {
	t.Helper()
	c := client(b)
	s := c.Responses.NewStreaming(context.Background(), p)
	defer s.Close()
	h := heard{texts: map[string]string{}, calls: map[int64]string{}}
	next := int64(-1)
	same := func(where, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %q, and came in pieces as %q", where, got, want)
		}
	}
	items := map[int64]string{}
	for s.Next() {
		ev := s.Current()
		h.events = append(h.events, ev.Type)
		if next >= 0 && ev.SequenceNumber != next {
			t.Errorf("%s has number %d, not %d", ev.Type, ev.SequenceNumber, next)
		}
		next = ev.SequenceNumber + 1
		part := fmt.Sprintf("%d/%d", ev.OutputIndex, ev.ContentIndex)
		switch e := ev.AsAny().(type) {
		case oai.ResponseTextDeltaEvent:
			h.texts[part] += e.Delta
		case oai.ResponseRefusalDeltaEvent:
			h.texts[part] += e.Delta
		case oai.ResponseTextDoneEvent:
			same(part+" text.done", e.Text, h.texts[part])
		case oai.ResponseRefusalDoneEvent:
			same(part+" refusal.done", e.Refusal, h.texts[part])
		case oai.ResponseContentPartDoneEvent:
			same(part+" part.done", e.Part.Text+e.Part.Refusal, h.texts[part])
		case oai.ResponseFunctionCallArgumentsDeltaEvent:
			h.calls[ev.OutputIndex] += e.Delta
		case oai.ResponseFunctionCallArgumentsDoneEvent:
			same("arguments.done", e.Arguments, h.calls[ev.OutputIndex])
		case oai.ResponseCustomToolCallInputDeltaEvent:
			h.calls[ev.OutputIndex] += e.Delta
		case oai.ResponseCustomToolCallInputDoneEvent:
			same("input.done", e.Input, h.calls[ev.OutputIndex])
		case oai.ResponseOutputItemDoneEvent:
			for i, c := range e.Item.Content {
				same("item.done", c.Text+c.Refusal, h.texts[fmt.Sprintf("%d/%d", ev.OutputIndex, i)])
			}
			if e.Item.Type == "function_call" || e.Item.Type == "custom_tool_call" {
				same("item.done", e.Item.Arguments.OfString+e.Item.Input, h.calls[ev.OutputIndex])
			}
			items[ev.OutputIndex] = e.Item.RawJSON()
		case oai.ResponseCompletedEvent:
			h.response = &e.Response
		case oai.ResponseIncompleteEvent:
			h.response = &e.Response
		case oai.ResponseFailedEvent:
			h.response = &e.Response
		case nil:
			if !strings.HasPrefix(ev.Type, "response.new_") {
				t.Errorf("the client does not know %s", ev.RawJSON())
			}
		}
	}
	if h.response != nil && s.Err() == nil {
		told := map[string]string{}
		for i := range maps.Values(items) {
			told[i] = i
		}
		for _, it := range h.response.Output {
			if told[it.RawJSON()] == "" {
				t.Errorf("the whole answer holds %s, which no item.done told", it.RawJSON())
			}
		}
	}
	return h, s.Err()
}

// event is one event as the API writes it.
func event(kind string, members map[string]any) string {
	members["type"] = kind
	b, err := json.Marshal(members, json.Deterministic(true))
	if err != nil {
		panic(err) // a test's own members
	}
	return "event: " + kind + "\ndata: " + string(b) + "\n\n"
}

// streamed is an answer as the API streams it. cut cuts each text into pieces.
func streamed(t *testing.T, whole string, cut func(text string) []string) string {
	t.Helper()
	var response map[string]any
	if err := json.Unmarshal([]byte(whole), &response); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	number := 0
	send := func(kind string, members map[string]any) {
		members["sequence_number"] = number
		number++
		all.WriteString(event(kind, members))
	}
	begun := maps.Clone(response)
	begun["output"], begun["status"], begun["usage"] = []any{}, "in_progress", nil
	send("response.created", map[string]any{"response": begun})
	send("response.in_progress", map[string]any{"response": begun})
	output, _ := response["output"].([]any)
	for i, v := range output {
		streamItem(send, i, v.(map[string]any), cut)
	}
	kind := "response.completed"
	if response["status"] == "incomplete" || response["status"] == "failed" {
		kind = "response." + response["status"].(string)
	}
	send(kind, map[string]any{"response": response})
	return all.String()
}

func streamItem(send func(string, map[string]any), index int, item map[string]any, cut func(string) []string) {
	at := func(more map[string]any) map[string]any {
		more["item_id"], more["output_index"] = item["id"], index
		return more
	}
	begun := maps.Clone(item)
	begun["status"] = "in_progress"
	added := func(empty ...string) {
		for _, name := range empty {
			switch begun[name].(type) {
			case string:
				begun[name] = ""
			case []any:
				begun[name] = []any{}
			default:
				begun[name] = nil
			}
		}
		send("response.output_item.added", map[string]any{"output_index": index, "item": begun})
	}
	text := func(kind, s string, more map[string]any, done string) {
		for _, p := range cut(s) {
			send(kind+".delta", at(merge(more, map[string]any{"delta": p})))
		}
		send(kind+".done", at(merge(more, map[string]any{done: s})))
	}
	switch item["type"] {
	case "message":
		added("content")
		for ci, p := range item["content"].([]any) {
			part := p.(map[string]any)
			place := map[string]any{"content_index": ci}
			kind, member, more := "response.output_text", "text", map[string]any{"content_index": ci, "logprobs": []any{}}
			if part["type"] == "refusal" {
				kind, member, more = "response.refusal", "refusal", place
			}
			send("response.content_part.added", at(merge(place, map[string]any{"part": merge(part, map[string]any{member: ""})})))
			if part["type"] == "output_text" || part["type"] == "refusal" {
				text(kind, part[member].(string), more, member)
			}
			send("response.content_part.done", at(merge(place, map[string]any{"part": part})))
		}
	case "reasoning":
		added("summary")
		for si, p := range item["summary"].([]any) {
			place, s := map[string]any{"summary_index": si}, p.(map[string]any)["text"].(string)
			send("response.reasoning_summary_part.added", at(merge(place, map[string]any{"part": map[string]any{"type": "summary_text", "text": ""}})))
			text("response.reasoning_summary_text", s, place, "text")
			send("response.reasoning_summary_part.done", at(merge(place, map[string]any{"part": p})))
		}
	case "function_call":
		added("arguments")
		text("response.function_call_arguments", item["arguments"].(string), map[string]any{}, "arguments")
	case "custom_tool_call":
		added("input")
		text("response.custom_tool_call_input", item["input"].(string), map[string]any{}, "input")
	case "mcp_call":
		added("arguments", "output")
		text("response.mcp_call_arguments", item["arguments"].(string), map[string]any{}, "arguments")
		send("response.mcp_call.completed", at(map[string]any{}))
	case "shell_call":
		begun["action"] = merge(item["action"].(map[string]any), map[string]any{"commands": []any{}})
		added()
		for i, c := range item["action"].(map[string]any)["commands"].([]any) {
			place := map[string]any{"command_index": i}
			send("response.shell_call_command.added", at(merge(place, map[string]any{"command": ""})))
			text("response.shell_call_command", c.(string), place, "command")
		}
	default:
		added()
	}
	send("response.output_item.done", map[string]any{"output_index": index, "item": item})
}

func merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// reply is a whole answer with some items.
func reply(items ...string) string {
	return `{"id":"resp_1","object":"response","created_at":1,"status":"completed","background":false,"error":null,"incomplete_details":null,"instructions":null,` +
		`"metadata":{},"model":"gpt-5","output":[` + strings.Join(items, ",") + `],"parallel_tool_calls":true,"temperature":1,"tool_choice":"auto","tools":[],"top_p":1,` +
		`"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":10}}`
}

func quoted(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		panic(err) // a test's own text
	}
	return string(b)
}

func message(texts ...string) string {
	var parts []string
	for _, s := range texts {
		parts = append(parts, `{"type":"output_text","text":`+quoted(s)+`,"annotations":[],"logprobs":[]}`)
	}
	return `{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[` + strings.Join(parts, ",") + `]}`
}

func functionCall(n int, name, args string) string {
	return fmt.Sprintf(`{"id":"fc_%d","type":"function_call","status":"completed","call_id":"call_%d","name":%q,"arguments":%s}`, n, n, name, quoted(args))
}

var (
	reference = regexp.MustCompile(`ref [0-9a-f-]{36}`)
	ownID     = regexp.MustCompile(`"msg_guardbook_[0-9a-f-]{36}"`)
)

// plain is an answer's output without what differs each time.
func plain(r *oai.Response) string {
	if r == nil {
		return "no answer"
	}
	var items []string
	for _, it := range r.Output {
		v := jsontext.Value(ownID.ReplaceAllString(reference.ReplaceAllString(it.RawJSON(), "ref"), `"own"`))
		if err := v.Canonicalize(); err != nil {
			return err.Error()
		}
		items = append(items, string(v))
	}
	return string(r.Status) + " " + strings.Join(items, "\n")
}

// decided are the decisions in the book, in a fixed order.
func decided(t *testing.T, b *testbed.Bed, from int) []string {
	t.Helper()
	var out []string
	for _, d := range testbed.Decisions(t, b)[from:] {
		name := ""
		if d.Tool != nil {
			name = d.Tool.Server + "/" + d.Tool.Name
		}
		out = append(out, fmt.Sprint(d.Kind, " ", name, " ", d.Decision, " ", d.Rule, " ", len(d.Findings)))
	}
	slices.Sort(out)
	return out
}

func apiError(t *testing.T, err error) *openai.Error {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	return e
}
