package testbed

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Upstream plays one answer to every request and keeps what it was sent.
type Upstream struct {
	Status int
	Header http.Header
	JSON   string                                       // the answer, if it is not streamed
	Events string                                       // the answer, if it is streamed
	Serve  func(w http.ResponseWriter, r *http.Request) // instead of both
	mu     sync.Mutex
	seen   []Seen
}

// Seen is a request that came.
type Seen struct {
	Path, Query, Body string
	Header            http.Header
}

func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, Seen{r.URL.Path, r.URL.RawQuery, string(b), r.Header.Clone()})
	u.mu.Unlock()
	if u.Serve != nil {
		u.Serve(w, r)
		return
	}
	for k, v := range u.Header {
		w.Header()[k] = v
	}
	body := u.JSON
	if u.Events != "" {
		w.Header().Set("Content-Type", "text/event-stream")
		body = u.Events
	} else if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	if u.Status != 0 {
		w.WriteHeader(u.Status)
	}
	_, _ = io.WriteString(w, body)
}

// Seen returns the requests that came.
func (u *Upstream) Seen() []Seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]Seen(nil), u.seen...)
}

// ChatEvents writes Chat Completions chunks: each argument is one choice object's
// text, or a whole chunk when it begins with "{\"id\"" or "{\"error\"".
func ChatEvents(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if !strings.HasPrefix(p, `{"id"`) && !strings.HasPrefix(p, `{"error"`) {
			p = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-5","choices":[` + p + `]}`
		}
		fmt.Fprintf(&b, "data: %s\n\n", p)
	}
	return b.String() + "data: [DONE]\n\n"
}

// MessageEvents writes Messages events between message_start and message_stop.
func MessageEvents(stop string, events ...string) string {
	var b strings.Builder
	all := append([]string{`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}`}, events...)
	all = append(all, `{"type":"message_delta","delta":{"stop_reason":"`+stop+`","stop_sequence":null},"usage":{"output_tokens":9}}`, `{"type":"message_stop"}`)
	for _, e := range all {
		kind := e[len(`{"type":"`):]
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind[:strings.IndexByte(kind, '"')], e)
	}
	return b.String()
}
