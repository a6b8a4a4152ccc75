package canary

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/demo/standin"
)

// headerSaw tells the test what its upstream was sent.
const (
	headerSaw   = "Canary-Saw"
	sawMarker   = "marker"
	sawRedacted = "redacted"
	sawNeither  = "neither"
)

// The scripts of the upstream.
const (
	scriptPlain = "canary-plain"
	scriptText  = "canary-text"
	scriptCall  = "canary-call"
)

// model names the script for a test.
func model(kind guardbook.Kind, planted bool) string {
	switch {
	case !planted:
		return standin.Model + "/" + scriptPlain
	case kind == guardbook.KindToolCall:
		return standin.Model + "/" + scriptCall
	}
	return standin.Model + "/" + scriptText
}

// upstream answers tests from within the process.
type upstream struct{ providers http.Handler }

// Upstream is what the gateway puts in the place of every provider for the test
// agent. It opens no connection: it is a function from request to answer.
func Upstream() http.RoundTripper {
	return upstream{standin.New(map[string]standin.Script{
		scriptPlain: func(int, string) standin.Turn { return standin.Turn{Text: "Hello."} },
		scriptText:  func(int, string) standin.Turn { return standin.Turn{Text: Text()} },
		scriptCall: func(int, string) standin.Turn {
			b, _ := json.Marshal(map[string]string{"text": Text()}) // strings marshal
			return standin.Turn{Calls: []standin.Call{{Name: "note", Arguments: string(b)}}}
		},
	})}
}

// RoundTrip answers a request.
func (u upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close() // it was in memory
		if err != nil {
			return nil, fmt.Errorf("read a test: %w", err)
		}
	}
	w := &answer{header: http.Header{}}
	_, api, _ := strings.Cut(r.URL.Path, "/v1/")
	if r.URL.Path == "/mcp" {
		api = "mcp"
	}
	switch api {
	case "mcp":
		w.json(mcpAnswer(body))
	case "messages/count_tokens":
		w.json(`{"input_tokens":1}`)
	case "messages/batches":
		w.json(`{"id":"msgbatch_canary","type":"message_batch","processing_status":"ended"}`)
	default:
		provider := "/openai/v1/"
		if api == "messages" {
			provider = "/anthropic/v1/"
		}
		in := r.Clone(r.Context())
		in.URL.Path, in.URL.RawPath = provider+api, ""
		in.Body = io.NopCloser(bytes.NewReader(body))
		u.providers.ServeHTTP(w, in)
	}
	saw := sawNeither
	switch {
	case bytes.Contains(body, []byte(Marker)):
		saw = sawMarker
	case bytes.Contains(body, []byte(redacted)):
		saw = sawRedacted
	}
	w.header.Set(headerSaw, saw)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// mcpAnswer is what the tests' MCP server says to a message.
func mcpAnswer(body []byte) string {
	var q struct {
		ID     jsontext.Value `json:"id"`
		Method string         `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if err := json.Unmarshal(body, &q); err != nil || len(q.ID) == 0 {
		return `{}`
	}
	text := func(s string) string {
		b, _ := json.Marshal(s) // strings marshal
		return string(b)
	}
	result := `{}`
	switch {
	case q.Method == "tools/list":
		// An instance pins these definitions at its first start: another text here would
		// be a changed tool to it.
		result = `{"tools":[{"name":"note","description":"Notes a text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}},{"name":"say","description":"Says a text.","inputSchema":{"type":"object"}}]}`
	case q.Method == "tools/call" && q.Params.Name == "say":
		result = `{"content":[{"type":"text","text":` + text(Text()) + `}]}`
	case q.Method == "tools/call":
		result = `{"content":[{"type":"text","text":"Noted."}]}`
	case q.Method == "resources/read":
		result = `{"contents":[{"uri":"canary://page","text":` + text(Text()) + `}]}`
	}
	return `{"jsonrpc":"2.0","id":` + string(q.ID) + `,"result":` + result + `}`
}

// answer is an answer in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) json(body string) {
	a.header.Set("Content-Type", "application/json")
	_, _ = io.WriteString(a, body) // memory takes everything
}
