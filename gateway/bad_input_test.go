package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

const hi = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`

// checkRefused looks for the error in both protocols' shape and for its entry.
func checkRefused(t *testing.T, b *testbed.Bed, resp *http.Response, body string, status int, code string) {
	t.Helper()
	if resp.StatusCode != status || !strings.Contains(body, `"code":"`+code+`"`) || !strings.Contains(body, `"message":"`) {
		t.Errorf("got %d %s, want %d %s", resp.StatusCode, body, status, code)
	}
	if resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", resp.Header.Get("Content-Type"))
	}
	checkEntry(t, b, status, code)
}

func checkEntry(t *testing.T, b *testbed.Bed, status int, code string) {
	t.Helper()
	for range 500 {
		for _, r := range testbed.Refusals(t, b) {
			if r.Status == status && r.Code == code {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("no entry %d %s among %+v", status, code, testbed.Refusals(t, b))
}

func TestBrokenBodiesAreRefusedWithTheirPlace(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	for name, c := range map[string]struct{ body, code, place string }{
		"empty":          {"", "malformed_json", "offset 0"},
		"cut":            {`{"model":"m",`, "malformed_json", "offset 13 (line 1, column 14)"},
		"trailing data":  {hi + "x", "malformed_json", fmt.Sprintf("offset %d", len(hi))},
		"duplicate name": {"{\"model\":\"m\",\n\"messages\":[{\"role\":\"user\",\"role\":\"system\"}]}", "duplicate_name", `line 2, column 28) within \"/messages/0`},
		"invalid UTF-8":  {"{\"model\":\"\xff\"}", "bad_encoding", "offset 10"},
		"not an object":  {"[]", "malformed_request", "JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/openai/v1/chat/completions", "/anthropic/v1/messages"} {
				resp, text := post(t, b, path, c.body)
				checkRefused(t, b, resp, text, 400, c.code)
				if !strings.Contains(text, c.place) {
					t.Errorf("%s does not name %s", text, c.place)
				}
			}
		})
	}
	if len(up.Seen()) != 0 {
		t.Error("something went upstream")
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestAHugeBodyIsRefused(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	for name, length := range map[string]int64{"told": 100 << 20, "not told": -1} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, b.URL+"/anthropic/v1/messages", io.LimitReader(zeros{}, 100<<20))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			req.Header.Set(gateway.HeaderKey, testbed.Key)
			resp, text := do(t, b, req)
			checkRefused(t, b, resp, text, 413, "too_large")
			if !strings.Contains(text, "request_too_large") {
				t.Errorf("got %s", text)
			}
		})
	}
}

func zip(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := io.Copy(z, r); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestCompressedBodiesAreForwardedDecodedAndBombsAreRefused(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up, Gateway: gateway.Options{BodyLimit: 1 << 20}})
	if resp, text := post(t, b, "/openai/v1/chat/completions", string(zip(t, strings.NewReader(hi))), "Content-Encoding", "gzip"); resp.StatusCode != 200 {
		t.Fatal(text)
	}
	if s := up.Seen()[0]; s.Body != hi || s.Header.Get("Content-Encoding") != "" {
		t.Errorf("sent up %+v", s)
	}
	resp, text := post(t, b, "/openai/v1/chat/completions", string(zip(t, io.LimitReader(zeros{}, 64<<20))), "Content-Encoding", "gzip")
	checkRefused(t, b, resp, text, 413, "too_large")
	resp, text = post(t, b, "/openai/v1/chat/completions", hi, "Content-Encoding", "gzip")
	checkRefused(t, b, resp, text, 400, "bad_encoding")
	resp, text = post(t, b, "/openai/v1/chat/completions", hi, "Content-Encoding", "br")
	checkRefused(t, b, resp, text, 415, "bad_encoding")
}

func TestABodyThatComesTooSlowlyIsRefused(t *testing.T) {
	b := testbed.New(t, testbed.Options{Gateway: gateway.Options{BodyTimeout: 50 * time.Millisecond}})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Guardbook-Key: %s\r\nContent-Length: 1000\r\n\r\n{", testbed.Key)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	checkRefused(t, b, resp, string(text), 408, "slow_body")
	if s := gateway.NewServer(nil, testLog()); s.ReadHeaderTimeout == 0 || s.IdleTimeout == 0 {
		t.Error("headers may come as slowly as they like")
	}
}

func TestAClientThatGoesWhileItSendsLeavesAnEntry(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Guardbook-Key: %s\r\nContent-Length: 1000\r\n\r\n{", testbed.Key)
	conn.Close()
	checkEntry(t, b, 499, "client_gone")
}

func TestOnlyAnAgentsKeyOpensTheDoor(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up, Key: "sk-server"})
	for name, c := range map[string]struct {
		path   string
		header []string
		auth   string // what goes upstream; "": refused
	}{
		"header":             {"/openai", []string{"X-Guardbook-Key", testbed.Key, "Authorization", "Bearer sk-own"}, "Bearer sk-own"},
		"path":               {"/k/" + testbed.Key + "/openai", []string{"Authorization", "Bearer sk-own"}, "Bearer sk-own"},
		"bearer":             {"/openai", []string{"Authorization", "Bearer " + testbed.Key}, "Bearer sk-server"},
		"path, key for both": {"/k/" + testbed.Key + "/openai", []string{"Authorization", "Bearer " + testbed.Key}, "Bearer sk-server"},
		"no provider's key":  {"/openai", []string{"X-Guardbook-Key", testbed.Key}, "Bearer sk-server"},
		"none":               {"/openai", nil, ""},
		"unknown":            {"/openai", []string{"X-Guardbook-Key", "gbk_wrong-one"}, ""},
		"unknown in path":    {"/k/gbk_wrong-one/openai", nil, ""},
		"provider's only":    {"/openai", []string{"Authorization", "Bearer sk-own"}, ""},
		"operator's":         {"/openai", []string{"Authorization", "Bearer gbo_operator"}, ""},
		"operator's beside":  {"/openai", []string{"Authorization", "Bearer gbo_operator", "X-Guardbook-Key", testbed.Key}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(up.Seen())
			req, err := http.NewRequest(http.MethodPost, b.URL+c.path+"/v1/chat/completions", strings.NewReader(hi))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(c.header); i += 2 {
				req.Header.Set(c.header[i], c.header[i+1])
			}
			resp, text := do(t, b, req)
			if c.auth == "" {
				checkRefused(t, b, resp, text, 401, "unauthorized")
				if len(up.Seen()) != before {
					t.Error("it went upstream")
				}
				return
			}
			if resp.StatusCode != 200 {
				t.Fatal(text)
			}
			if got := up.Seen()[before].Header.Get("Authorization"); got != c.auth {
				t.Errorf("authorization upstream: %q, want %q", got, c.auth)
			}
		})
	}
	for _, key := range []string{testbed.Key, "gbk_wrong-one", "gbo_operator", "sk-own"} {
		if strings.Contains(testbed.Raw(t, b), key) {
			t.Errorf("the book holds the key %s", key)
		}
	}
}

func TestUnknownCallersCannotFloodTheBook(t *testing.T) {
	b := testbed.New(t, testbed.Options{Gateway: gateway.Options{Now: func() time.Time { return time.Unix(1, 0) }}})
	for range 130 {
		post(t, b, "/openai/v1/chat/completions", hi, gateway.HeaderKey, "gbk_wrong")
	}
	if n := len(testbed.Refusals(t, b)); n != 100 {
		t.Errorf("%d entries", n)
	}
}

func TestOtherEndpointsPassOnlyByPolicy(t *testing.T) {
	up := &testbed.Upstream{JSON: `{"data":[]}`}
	b := testbed.New(t, testbed.Options{Upstream: up})
	get := func(path string) (*http.Response, string) {
		req, err := http.NewRequest(http.MethodGet, b.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(gateway.HeaderKey, testbed.Key)
		return do(t, b, req)
	}
	if resp, text := get("/openai/v1/models?x=1"); resp.StatusCode != 200 || text != `{"data":[]}` || up.Seen()[0].Query != "x=1" {
		t.Errorf("models: %d %s", resp.StatusCode, text)
	}
	if !strings.Contains(testbed.Raw(t, b), `"type":"passthrough"`) {
		t.Error("no entry of the passage")
	}
	resp, text := post(t, b, "/openai/v1/images/generations", hi)
	checkRefused(t, b, resp, text, 403, "endpoint_refused")
	if !strings.Contains(text, `endpoints: [\"POST /v1/images/generations\"]`) {
		t.Errorf("no hint in %s", text)
	}
	b.SetPolicy(t, testbed.Policy+"endpoints: [\"POST /v1/*\", \"GET /v1/*\"]\n")
	if resp, text := post(t, b, "/openai/v1/images/generations", hi); resp.StatusCode != 200 {
		t.Errorf("allowed: %s", text)
	}
	n := len(up.Seen())
	for _, path := range []string{"/openai/v1/chat/completions/", "/openai/v1/Chat/Completions", "/openai/v1/chat%2Fcompletions", "/openai/v1/x;/chat/completions", "/anthropic/v1/MESSAGES"} {
		resp, text := post(t, b, path, hi)
		checkRefused(t, b, resp, text, 404, "endpoint_refused")
	}
	if len(up.Seen()) != n {
		t.Error("a guarded endpoint was reached unread by another name")
	}
}

func TestAnUpstreamThatIsNotThereIs502(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	resp, text := post(t, b, "/openai/v1/chat/completions", hi)
	checkRefused(t, b, resp, text, 502, "upstream_unreachable")
	if !strings.Contains(text, "--openai-upstream") {
		t.Errorf("no hint in %s", text)
	}
}

func TestUpstreamErrorsPassUnchanged(t *testing.T) {
	body := `{"error":{"message":"slow down","type":"rate_limit","code":"x"}}`
	b := testbed.New(t, testbed.Options{Upstream: &testbed.Upstream{Status: 429, JSON: body, Header: http.Header{"Retry-After": {"7"}}}})
	resp, text := post(t, b, "/openai/v1/chat/completions", hi)
	if resp.StatusCode != 429 || text != body || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("got %d %s %v", resp.StatusCode, text, resp.Header)
	}
	checkEntry(t, b, 429, "upstream_status")
}

func TestAnswersThatCannotBeReadAre502(t *testing.T) {
	for name, up := range map[string]*testbed.Upstream{
		"no JSON":        {JSON: "<html>"},
		"duplicate name": {JSON: `{"choices":[],"choices":[]}`},
		"cut":            {JSON: `{"choices":[`},
		"no object":      {JSON: `[]`},
		"redirect":       {JSON: `{}`, Status: 307},
		"bomb":           {JSON: string(zip(t, io.LimitReader(zeros{}, 64<<20))), Header: http.Header{"Content-Encoding": {"gzip"}}},
		"encoding":       {JSON: `{}`, Header: http.Header{"Content-Encoding": {"zstd"}}},
		"dies": {Serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"choices":`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := testbed.New(t, testbed.Options{Upstream: up, Gateway: gateway.Options{BodyLimit: 1 << 20}})
			for _, path := range []string{"/openai/v1/chat/completions", "/anthropic/v1/messages"} {
				resp, text := post(t, b, path, hi)
				checkRefused(t, b, resp, text, 502, "upstream_broken")
			}
		})
	}
}

func TestAnswersThatStallAre504(t *testing.T) {
	up := &testbed.Upstream{Serve: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"choices":`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}}
	b := testbed.New(t, testbed.Options{Upstream: up, Gateway: gateway.Options{IdleTimeout: 50 * time.Millisecond}})
	resp, text := post(t, b, "/openai/v1/chat/completions", hi)
	checkRefused(t, b, resp, text, 504, "upstream_timeout")
}

func TestWithoutABookNothingIsReleased(t *testing.T) {
	up := &testbed.Upstream{JSON: chatAnswer}
	b := testbed.New(t, testbed.Options{Upstream: up})
	b.Broken.Store(true)
	client := chatClient(b)
	_, err := client.Chat.Completions.New(context.Background(), say("hi"))
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != 503 || e.Code != "not_durable" || e.Response.Header.Get("X-Should-Retry") != "true" || e.Response.Header.Get("Retry-After") == "" {
		t.Fatalf("got %v", err)
	}
	if len(up.Seen()) != 0 {
		t.Error("it went upstream")
	}
	b.Broken.Store(false)
	if _, err := client.Chat.Completions.New(context.Background(), say("hi")); err != nil {
		t.Errorf("it does not go on by itself: %v", err)
	}
	if !strings.Contains(testbed.Raw(t, b), `"type":"degraded"`) {
		t.Error("no entry of the interval")
	}
}

func TestABookThatFailsBeforeTheAnswerHoldsItBack(t *testing.T) {
	for name, stream := range map[string]bool{"whole": false, "streamed": true} {
		t.Run(name, func(t *testing.T) {
			var b *testbed.Bed
			up := &testbed.Upstream{Serve: func(w http.ResponseWriter, _ *http.Request) {
				b.Broken.Store(true)
				if stream {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				_, _ = io.WriteString(w, chatAnswer)
			}}
			b = testbed.New(t, testbed.Options{Upstream: up})
			resp, text := post(t, b, "/openai/v1/chat/completions", hi)
			if resp.StatusCode != 503 || strings.Contains(text, "Hello") {
				t.Errorf("got %d %s", resp.StatusCode, text)
			}
		})
	}
}
