package streamable_test

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
	"github.com/guardbook/guardbook/gateway/mcp/internal/bed"
	"github.com/guardbook/guardbook/gateway/mcp/streamable"
)

func TestAnswersThatCannotBePassedOn(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"not JSON":             says("application/json", `{"jsonrpc":"2.0",`),
		"a name twice":         says("application/json", `{"jsonrpc":"2.0","id":1,"result":{"content":[],"content":[{"type":"text","text":"x"}]}}`),
		"another id":           says("application/json", `{"jsonrpc":"2.0","id":2,"result":{"content":[]}}`),
		"an id like it":        says("application/json", `{"jsonrpc":"2.0","id":"1","result":{"content":[]}}`),
		"HTML":                 says("text/html", `<p>hello</p>`),
		"a redirection":        http.RedirectHandler("https://elsewhere.example/mcp", http.StatusTemporaryRedirect),
		"too large":            says("application/json", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"`+strings.Repeat("x", 1<<20)+`"}]}}`),
		"a stream, not JSON":   says("text/event-stream", "data: nonsense\n\n"),
		"a stream, other id":   says("text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{}}\n\n"),
		"the transport of old": says("text/event-stream", "event: endpoint\ndata: /messages?id=1\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "crm", h, func(o *streamable.Options) { o.BodyLimit = 64 << 10 })
			resp, body := w.post(t, callTime)
			streamed := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
			if streamed {
				_, body, _ = strings.Cut(body, "data: ")
			}
			if v := root(t, strings.TrimSpace(body)); resp.StatusCode != http.StatusBadGateway && !streamed || !v.Get("error").Exists() || v.Get("id").Raw() != "1" {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if resp.Header.Get("Location") != "" {
				t.Error("the client is sent past Guardbook")
			}
			if len(w.Refusals(t)) == 0 {
				t.Error("nothing in the book")
			}
		})
	}
}

func TestACompressedAnswerIsRead(t *testing.T) {
	w := newWorld(t, "crm", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(rw)
		_, _ = io.WriteString(z, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"`+bed.Mail+`"}]}}`)
		_ = z.Close()
	}), nil)
	resp, body := w.post(t, callTime)
	if resp.Header.Get("Content-Encoding") != "" || !strings.Contains(body, bed.Redacted) {
		t.Errorf("%v %s", resp.Header, body)
	}
}

func TestAnEventOfAStreamKeepsItsIdAndIsReadAgainWhenItIsReplayed(t *testing.T) {
	bad := `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"` + bed.Injection + `"}}`
	good := `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"all is well"}}`
	w := newWorld(t, "crm", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.Header.Get("Last-Event-Id") != "7" {
			t.Errorf("%v", r.Header)
		}
		says("text/event-stream", "id: 8\ndata: "+bad+"\n\nid: 9\r\ndata: "+good+"\r\n\r\nid: 10\nretry: 500\ndata:\n\n").ServeHTTP(rw, r)
	}), nil)
	resp, body := w.send(t, http.MethodGet, "", "Mcp-Session-Id", "s", "Last-Event-ID", "7")
	if want := "id: 8\ndata: \n\nid: 9\ndata: " + good + "\n\nid: 10\nretry: 500\ndata: \n\n"; body != want || resp.StatusCode != http.StatusOK {
		t.Errorf("%q", body)
	}
	streams := testbed.Entries[guardbook.StreamEntry](t, w.Bed.Bed, guardbook.TypeStream)
	if len(streams) != 2 || streams[1].Outcome != "complete" {
		t.Errorf("%+v", streams)
	}
}

// silent holds a stream open until its client goes.
func silent(gone chan<- struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
}

func TestAKillCutsAStream(t *testing.T) {
	gone := make(chan struct{}, 1)
	w := newWorld(t, "crm", silent(gone), nil)
	done := make(chan string, 1)
	go func() {
		_, body := w.post(t, callTime)
		done <- body
	}()
	for len(w.Decisions(t)) == 0 || len(w.seen.all()) == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := w.Containments.Kill(t.Context(), bed.Agent, "op", "test", 0); err != nil {
		t.Fatal(err)
	}
	body := <-done
	<-gone
	if !strings.Contains(body, "Stopped by an operator") {
		t.Errorf("%q", body)
	}
	if resp, body := w.send(t, http.MethodGet, "", "Mcp-Session-Id", "s"); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "contained") {
		t.Errorf("a killed agent listens again: %d", resp.StatusCode)
	}
}

func TestAClientThatGoesEndsTheRequestUpstream(t *testing.T) {
	gone := make(chan struct{}, 1)
	w := newWorld(t, "crm", silent(gone), nil)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.url, strings.NewReader(callTime))
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-gone
	resp.Body.Close()
}

func TestASilentStreamIsKeptOpen(t *testing.T) {
	gone := make(chan struct{}, 1)
	w := newWorld(t, "crm", silent(gone), func(o *streamable.Options) { o.KeepAlive = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(": keep-alive"))
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != ": keep-alive" {
		t.Errorf("%q %v", b, err)
	}
	cancel()
	<-gone
	resp.Body.Close()
}

func TestAStoppingServerEndsItsStreams(t *testing.T) {
	gone := make(chan struct{}, 1)
	stopping := make(chan struct{})
	w := newWorld(t, "crm", silent(gone), func(o *streamable.Options) { o.Stopping = stopping })
	done := make(chan struct{})
	go func() { w.send(t, http.MethodGet, "", "Mcp-Session-Id", "s"); close(done) }()
	for len(w.seen.all()) == 0 {
		time.Sleep(time.Millisecond)
	}
	close(stopping)
	<-done
	<-gone
}

func TestConfigurationsThatCannotWork(t *testing.T) {
	for name, s := range map[string]streamable.Upstream{
		"a/b": {URL: "https://x.example"}, "..": {URL: "https://x.example"}, "ftp": {URL: "ftp://x.example"}, "user": {URL: "https://u:p@x.example"},
		"header": {URL: "https://x.example", Headers: map[string]string{"content-type": "text/plain"}},
	} {
		if _, err := streamable.CheckServer(name, s); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
