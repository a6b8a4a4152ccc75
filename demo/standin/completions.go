package standin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"math"
	"net/http"
	"time"
)

type completionRequest struct {
	Model         string         `json:"model"`
	Stream        bool           `json:"stream"`
	Prompt        jsontext.Value `json:"prompt"`
	N             int            `json:"n"`
	Echo          bool           `json:"echo"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type completionChoice struct {
	Text         string  `json:"text"`
	Index        int     `json:"index"`
	Logprobs     *string `json:"logprobs"`
	FinishReason *string `json:"finish_reason"`
}

type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   map[string]int     `json:"usage,omitzero"`
}

// completions is the older API: text in, text out. Every prompt begins a
// conversation; it can make no calls.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	var req completionRequest
	if err := read(r, &req); err != nil {
		openAIError(w, err)
		return
	}
	req.Model = deployed(r, req.Model)
	script, err := s.script(req.Model)
	if err != nil {
		openAIError(w, err)
		return
	}
	var pace time.Duration
	var texts []string
	repeat := 0
	for _, p := range textsOf(req.Prompt) {
		t := script(0, p)
		pace, repeat = t.Pace, t.Repeat
		if req.Echo {
			t.Text = p + t.Text
		}
		for range max(1, req.N) {
			texts = append(texts, t.Text)
		}
	}
	answer := completion{ID: "cmpl-standin-0", Object: "text_completion", Created: time.Now().Unix(), Model: req.Model}
	size := 0
	for _, t := range texts {
		size += len(t)
	}
	usage := map[string]int{"prompt_tokens": len(req.Prompt) / 4, "completion_tokens": size / 4, "total_tokens": (len(req.Prompt) + size) / 4}
	stop := "stop"
	if !req.Stream {
		for i, t := range texts {
			answer.Choices = append(answer.Choices, completionChoice{Text: t, Index: i, FinishReason: &stop})
		}
		answer.Usage = usage
		writeJSON(w, answer)
		return
	}
	ev := newEvents(w, r, pace)
	for i, t := range texts {
		for range repeat + 1 {
			for _, p := range pieces(t) {
				ev.wait()
				answer.Choices = []completionChoice{{Text: p, Index: i}}
				ev.send("", answer)
				if ev.err != nil {
					return
				}
			}
		}
		answer.Choices = []completionChoice{{Index: i, FinishReason: &stop}}
		ev.send("", answer)
	}
	if req.StreamOptions.IncludeUsage {
		answer.Choices, answer.Usage = []completionChoice{}, usage
		ev.send("", answer)
	}
	if ev.err == nil {
		_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

type embeddingsRequest struct {
	Model          string         `json:"model"`
	Input          jsontext.Value `json:"input"`
	EncodingFormat string         `json:"encoding_format"`
	Dimensions     int            `json:"dimensions"`
}

// embeddings answers with a vector that depends on the text alone and means nothing.
func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) {
	var req embeddingsRequest
	if err := read(r, &req); err != nil {
		openAIError(w, err)
		return
	}
	req.Model = deployed(r, req.Model)
	if _, err := s.script(req.Model); err != nil {
		openAIError(w, err)
		return
	}
	if req.Dimensions <= 0 || req.Dimensions > 3072 {
		req.Dimensions = 16
	}
	type embedding struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	list := []embedding{}
	for i, text := range textsOf(req.Input) {
		v := vector(text, req.Dimensions)
		e := embedding{"embedding", i, v}
		if req.EncodingFormat == "base64" {
			var b []byte
			for _, f := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
			}
			e.Embedding = base64.StdEncoding.EncodeToString(b)
		}
		list = append(list, e)
	}
	n := len(req.Input) / 4
	writeJSON(w, map[string]any{"object": "list", "data": list, "model": req.Model, "usage": map[string]int{"prompt_tokens": n, "total_tokens": n}})
}

// vector is a unit vector made from a hash of the text.
func vector(text string, n int) []float32 {
	v, sum := make([]float64, n), 0.0
	for i := range v {
		h := sha256.Sum256(fmt.Appendf(nil, "%d:%s", i, text))
		v[i] = float64(binary.BigEndian.Uint32(h[:]))/math.MaxUint32*2 - 1
		sum += v[i] * v[i]
	}
	out := make([]float32, n)
	for i := range v {
		out[i] = float32(v[i] / math.Sqrt(sum))
	}
	return out
}

// moderations finds nothing in anything.
func (s *Server) moderations(w http.ResponseWriter, r *http.Request) {
	var req embeddingsRequest
	if err := read(r, &req); err != nil {
		openAIError(w, err)
		return
	}
	type result struct {
		Flagged        bool               `json:"flagged"`
		Categories     map[string]bool    `json:"categories"`
		CategoryScores map[string]float64 `json:"category_scores"`
	}
	list := []result{}
	for range textsOf(req.Input) {
		list = append(list, result{false, map[string]bool{"violence": false}, map[string]float64{"violence": 0}})
	}
	writeJSON(w, map[string]any{"id": "modr-standin-0", "model": req.Model, "results": list})
}

// textsOf are the texts of a prompt or an input: one, or a list; tokens have none.
func textsOf(v jsontext.Value) []string {
	var one string
	if json.Unmarshal(v, &one) == nil {
		return []string{one}
	}
	var list []jsontext.Value
	if json.Unmarshal(v, &list) != nil || len(list) == 0 {
		return []string{""}
	}
	if list[0].Kind() == '0' {
		return []string{""}
	}
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = textOf(e)
	}
	return out
}

// deployed is the model of a request: on Azure the path names it, by the script's
// name alone.
func deployed(r *http.Request, model string) string {
	if d := r.PathValue("deployment"); d != "" {
		return Model + "/" + d
	}
	return model
}
