package canary

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
)

// Test is one marked interaction and where it goes in.
type Test struct {
	Path string         // the entry path that its decisions name
	Cell string         // what is played, in words
	Kind guardbook.Kind // in which the marker is to be found
	// send plays it in a session.
	send func(ctx context.Context, p *Player, session string) outcome
}

// outcome is what the caller of a test saw.
type outcome struct {
	said    string // in words, for a miss
	problem string // what was not as it must be, although the marker was found
}

// answerLimit bounds what is read of an answer to a test.
const answerLimit = 1 << 20

// Tests lists the tests of the model APIs and of inspect.
func Tests() []Test {
	var out []Test
	for _, r := range requests {
		out = append(out, Test{Path: r.path, Cell: r.cell, Kind: r.kind, send: r.send})
	}
	return out
}

// request is a test that is one HTTP request.
type request struct {
	path, cell, url string
	kind            guardbook.Kind
	body            string // MARK is where the marker goes; MODEL is the model
	planted         bool   // the marker is in the answer of the own upstream
	inspect         bool   // there is no upstream
	before          string // is sent first, in the same session
}

func (q request) send(ctx context.Context, p *Player, session string) outcome {
	if q.before != "" {
		first := q
		first.body, first.before = q.before, ""
		first.send(ctx, p, session)
	}
	body := strings.NewReplacer("MARK", Text(), "MODEL", model(q.kind, q.planted)).Replace(q.body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.o.URL+q.url, strings.NewReader(body))
	if err != nil {
		return outcome{said: "the request could not be made", problem: "the request could not be made"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set(gateway.HeaderKey, p.o.Keys.key)
	req.Header.Set(gateway.HeaderSession, session)
	resp, err := p.client.Do(req)
	if err != nil {
		return outcome{said: "no answer", problem: "there was no answer"}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	out := outcome{said: fmt.Sprintf("HTTP %d", resp.StatusCode)}
	saw := resp.Header.Get(headerSaw)
	switch {
	case err != nil:
		out.problem = "the answer broke off"
	case resp.StatusCode != http.StatusOK:
		out.problem = out.said
	case !q.inspect && saw == "":
		out.problem = "the answer did not come from the instance itself"
	case saw == sawMarker:
		out.problem = "the marker was sent on"
	case !q.inspect && !q.planted && saw != sawRedacted:
		out.problem = "what was sent on held no redaction"
	case bytes.Contains(answer, []byte(Marker)):
		out.problem = "the marker was let through"
	case (q.inspect || q.planted) && !bytes.Contains(answer, []byte(redacted)):
		out.problem = "the answer held no redaction"
	}
	return out
}

// Text is a text with the marker and something new, so that no finding is taken
// from what was scanned before.
func Text() string { return "Guardbook plays a test: " + Marker + " " + uuid.NewString() }

// redacted takes the marker's place.
const redacted = "[REDACTED:anomaly]"

const (
	input, output, call, result, definition, memory = guardbook.KindInput, guardbook.KindOutput, guardbook.KindToolCall,
		guardbook.KindToolResult, guardbook.KindToolDefinition, guardbook.KindMemory

	chatURL, responsesURL, messagesURL = "/openai/v1/chat/completions", "/openai/v1/responses", "/anthropic/v1/messages"

	chatUser      = `{"model":"MODEL","messages":[{"role":"user","content":"MARK"}]`
	chatClean     = `{"model":"MODEL","messages":[{"role":"user","content":"hello"}]`
	chatTools     = `,"tools":[{"type":"function","function":{"name":"note","description":"Notes a text.","parameters":{"type":"object","properties":{"text":{"type":"string"}}}}}]`
	responseUser  = `{"model":"MODEL","input":"MARK"`
	responseClean = `{"model":"MODEL","input":"hello"`
	responseTools = `,"tools":[{"type":"function","name":"note","description":"Notes a text.","parameters":{"type":"object","properties":{"text":{"type":"string"}}}}]`
	messageUser   = `{"model":"MODEL","max_tokens":64,"messages":[{"role":"user","content":"MARK"}]`
	messageClean  = `{"model":"MODEL","max_tokens":64,"messages":[{"role":"user","content":"hello"}]`
	messageTools  = `,"tools":[{"name":"note","description":"Notes a text.","input_schema":{"type":"object","properties":{"text":{"type":"string"}}}}]`
	streamed      = `,"stream":true}`

	mcpURL    = "/mcp/" + guardbook.CanaryAgent
	listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
)

// requests lists what is played. coverage/matrix.yaml says which cells of the matrix
// each stands for.
var requests = []request{
	{path: "openai/chat", cell: "user text", url: chatURL, kind: input, body: chatUser + "}"},
	{path: "openai/chat", cell: "text in the answer, streamed", url: chatURL, kind: output, body: chatClean + streamed, planted: true},
	{path: "openai/chat", cell: "tool result", url: chatURL, kind: result, body: `{"model":"MODEL","messages":[{"role":"user","content":"hello"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"note","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"MARK"}]}`},
	{path: "openai/chat", cell: "tool call in the answer, streamed", url: chatURL, kind: call, body: chatClean + chatTools + streamed, planted: true},
	{path: "openai/chat", cell: "text in the answer", url: chatURL, kind: output, body: chatClean + "}", planted: true},
	{path: "openai/chat", cell: "tool call in the answer", url: chatURL, kind: call, body: chatClean + chatTools + "}", planted: true},
	{path: "openai/chat", cell: "tool definition", url: chatURL, kind: definition, body: chatClean + strings.Replace(chatTools, "Notes a text.", "MARK", 1) + "}"},
	{path: "openai/chat", cell: "system text", url: chatURL, kind: input, body: `{"model":"MODEL","messages":[{"role":"system","content":"MARK"},{"role":"user","content":"hello"}]}`},
	{path: "openai/chat", cell: "user text, streamed", url: chatURL, kind: input, body: chatUser + streamed},

	{path: "openai/responses", cell: "user text", url: responsesURL, kind: input, body: responseUser + "}"},
	{path: "openai/responses", cell: "text in the answer, streamed", url: responsesURL, kind: output, body: responseClean + streamed, planted: true},
	{path: "openai/responses", cell: "tool result", url: responsesURL, kind: result, body: `{"model":"MODEL","input":[{"role":"user","content":"hello"},{"type":"function_call","call_id":"c1","name":"note","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"MARK"}]}`},
	{path: "openai/responses", cell: "tool call in the answer, streamed", url: responsesURL, kind: call, body: responseClean + responseTools + streamed, planted: true},
	{path: "openai/responses", cell: "text in the answer", url: responsesURL, kind: output, body: responseClean + "}", planted: true},
	{path: "openai/responses", cell: "tool call in the answer", url: responsesURL, kind: call, body: responseClean + responseTools + "}", planted: true},
	{path: "openai/responses", cell: "tool definition", url: responsesURL, kind: definition, body: responseClean + strings.Replace(responseTools, "Notes a text.", "MARK", 1) + "}"},
	{path: "openai/responses", cell: "instructions", url: responsesURL, kind: input, body: responseClean + `,"instructions":"MARK"}`},

	{path: "openai/completions", cell: "prompt", url: "/openai/v1/completions", kind: input, body: `{"model":"MODEL","prompt":"MARK"}`},
	{path: "openai/completions", cell: "text in the answer, streamed", url: "/openai/v1/completions", kind: output, body: `{"model":"MODEL","prompt":"hello","stream":true}`, planted: true},
	{path: "openai/completions", cell: "text in the answer", url: "/openai/v1/completions", kind: output, body: `{"model":"MODEL","prompt":"hello"}`, planted: true},
	{path: "openai/embeddings", cell: "text", url: "/openai/v1/embeddings", kind: input, body: `{"model":"MODEL","input":["MARK"]}`},

	{path: "anthropic/messages", cell: "user text", url: messagesURL, kind: input, body: messageUser + "}"},
	{path: "anthropic/messages", cell: "text in the answer, streamed", url: messagesURL, kind: output, body: messageClean + streamed, planted: true},
	{path: "anthropic/messages", cell: "tool result", url: messagesURL, kind: result, body: `{"model":"MODEL","max_tokens":64,"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"note","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"MARK"}]}]}`},
	{path: "anthropic/messages", cell: "tool call in the answer, streamed", url: messagesURL, kind: call, body: messageClean + messageTools + streamed, planted: true},
	{path: "anthropic/messages", cell: "text in the answer", url: messagesURL, kind: output, body: messageClean + "}", planted: true},
	{path: "anthropic/messages", cell: "tool call in the answer", url: messagesURL, kind: call, body: messageClean + messageTools + "}", planted: true},
	{path: "anthropic/messages", cell: "tool definition", url: messagesURL, kind: definition, body: messageClean + strings.Replace(messageTools, "Notes a text.", "MARK", 1) + "}"},
	{path: "anthropic/messages", cell: "system text", url: messagesURL, kind: input, body: messageClean + `,"system":"MARK"}`},
	{path: "anthropic/messages", cell: "user text, streamed", url: messagesURL, kind: input, body: messageUser + streamed},
	{path: "anthropic/count_tokens", cell: "user text", url: messagesURL + "/count_tokens", kind: input, body: `{"model":"MODEL","messages":[{"role":"user","content":"MARK"}]}`},
	{path: "anthropic/batches", cell: "user text", url: messagesURL + "/batches", kind: input, body: `{"requests":[{"custom_id":"test","params":` + messageUser + `}}]}`},

	{path: "mcp/tools/call", cell: "arguments of a call", url: mcpURL, kind: call, before: listTools, body: `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"note","arguments":{"text":"MARK"}}}`},
	{path: "mcp/tools/call", cell: "text of a result", url: mcpURL, kind: result, before: listTools, body: `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"say","arguments":{}}}`, planted: true},
	{path: "mcp/resources/read", cell: "text of a resource", url: mcpURL, kind: result, body: `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"canary://page"}}`, planted: true},

	{path: "inspect", cell: "input", url: "/v1/inspect", kind: input, body: `{"kind":"input","content":"MARK"}`, inspect: true},
	{path: "inspect", cell: "tool_call", url: "/v1/inspect", kind: call, body: `{"kind":"tool_call","tool":{"name":"note","arguments":{"text":"MARK"}}}`, inspect: true},
	{path: "inspect", cell: "tool_result", url: "/v1/inspect", kind: result, body: `{"kind":"tool_result","tool":{"name":"note"},"content":"MARK"}`, inspect: true},
	{path: "inspect", cell: "output", url: "/v1/inspect", kind: output, body: `{"kind":"output","content":[{"type":"text","text":"MARK"}]}`, inspect: true},
	{path: "inspect", cell: "tool_definition", url: "/v1/inspect", kind: definition, body: `{"kind":"tool_definition","tool":{"name":"note"},"content":"MARK"}`, inspect: true},
	{path: "inspect", cell: "memory", url: "/v1/inspect", kind: memory, body: `{"kind":"memory","content":"MARK"}`, inspect: true},
	{path: "inspect", cell: "batch", url: "/v1/inspect/batch", kind: result, body: `{"interactions":[{"kind":"input","content":"hello"},{"kind":"tool_result","content":"MARK"}]}`, inspect: true},
}
