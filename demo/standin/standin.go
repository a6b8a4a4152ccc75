// Package standin is a stand-in for a model provider: a real HTTP server that
// speaks OpenAI's Chat Completions, Responses, Completions and Embeddings (on Azure's
// paths, too) and Anthropic's Messages, streamed and not, and plays turns from a script
// instead of asking a model. It is for the demo, tests and benchmarks; it is no model
// and says so in every answer's "model".
package standin

import (
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Model is the beginning of every model name that this server knows; the script's
// name follows: "guardbook-stand-in/recommender".
const Model = "guardbook-stand-in"

// Turn is what the "model" does next: text, tool calls, or both.
type Turn struct {
	Text  string
	Calls []Call
	// Pace is the pause between two pieces when the answer is streamed.
	Pace time.Duration
	// Repeat streams the text this many times more, for an answer without end.
	Repeat int
}

// Call is a tool call.
type Call struct {
	Name      string
	Arguments string // a JSON object
}

// Script answers a conversation: turn is how many answers the model has given in
// it so far, and last is the newest text that it was given.
type Script func(turn int, last string) Turn

// Server serves the scripts by name.
type Server struct {
	scripts map[string]Script
	mux     *http.ServeMux
}

// New returns a server of the scripts. Mount it, or use it as an upstream under
// /openai, /anthropic and /azure.
func New(scripts map[string]Script) *Server {
	s := &Server{scripts: scripts, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /openai/v1/models", s.models)
	s.mux.HandleFunc("GET /anthropic/v1/models", s.models)
	for _, base := range []string{"/openai/v1/", "/azure/openai/v1/", "/azure/openai/deployments/{deployment}/"} {
		s.mux.HandleFunc("POST "+base+"chat/completions", s.chat)
		s.mux.HandleFunc("POST "+base+"completions", s.completions)
		s.mux.HandleFunc("POST "+base+"embeddings", s.embeddings)
	}
	for _, base := range []string{"/openai/v1/", "/azure/openai/v1/", "/azure/openai/"} {
		s.mux.HandleFunc("POST "+base+"responses", s.responses)
	}
	s.mux.HandleFunc("POST /openai/v1/moderations", s.moderations)
	s.mux.HandleFunc("POST /anthropic/v1/messages", s.messages)
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Type    string `json:"type"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	var list []model
	for name := range s.scripts {
		list = append(list, model{ID: Model + "/" + name, Object: "model", Type: "model", OwnedBy: "guardbook"})
	}
	writeJSON(w, map[string]any{"object": "list", "data": list, "has_more": false})
}

// script finds the turn to play for a model's name.
func (s *Server) script(model string) (Script, error) {
	name, ok := strings.CutPrefix(model, Model+"/")
	if sc, isPlan, err := plan(name); ok && isPlan {
		return sc, err
	}
	if !ok || s.scripts[name] == nil {
		return nil, fmt.Errorf("this is a stand-in, not a model provider: it knows no model %q, only %s/<script>", model, Model)
	}
	return s.scripts[name], nil
}

// read reads a request's JSON body.
func read(r *http.Request, v any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // a client that went away has no use for an error
}

// pieces cuts a text as a provider streams it: a word at a time.
func pieces(text string) []string {
	var out []string
	for text != "" {
		i := strings.IndexByte(text[1:], ' ')
		if i < 0 {
			return append(out, text)
		}
		out, text = append(out, text[:i+1]), text[i+1:]
	}
	return out
}

// events writes server-sent events and flushes each.
type events struct {
	w    http.ResponseWriter
	r    *http.Request
	pace time.Duration
	err  error
}

func newEvents(w http.ResponseWriter, r *http.Request, pace time.Duration) *events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	return &events{w: w, r: r, pace: pace}
}

// send writes one event; name may be empty.
func (e *events) send(name string, v any) {
	if e.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		e.err = err
		return
	}
	if name != "" {
		_, e.err = fmt.Fprintf(e.w, "event: %s\n", name)
	}
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, "data: %s\n\n", b)
	}
	if f, ok := e.w.(http.Flusher); ok {
		f.Flush()
	}
}

// wait pauses between two pieces; it ends early when the client has gone.
func (e *events) wait() {
	if e.pace == 0 || e.err != nil {
		return
	}
	select {
	case <-time.After(e.pace):
	case <-e.r.Context().Done():
		e.err = e.r.Context().Err()
	}
}
