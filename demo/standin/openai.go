package standin

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"time"
)

type chatRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string         `json:"role"`
		Content jsontext.Value `json:"content"`
	} `json:"messages"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type chatCall struct {
	Index    *int   `json:"index,omitzero"`
	ID       string `json:"id,omitzero"`
	Type     string `json:"type,omitzero"`
	Function struct {
		Name      string `json:"name,omitzero"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type chatMessage struct {
	Role      string     `json:"role,omitzero"`
	Content   *string    `json:"content,omitzero"`
	ToolCalls []chatCall `json:"tool_calls,omitzero"`
}

type chatChoice struct {
	Index        int          `json:"index"`
	Message      *chatMessage `json:"message,omitzero"`
	Delta        *chatMessage `json:"delta,omitzero"`
	FinishReason *string      `json:"finish_reason"`
}

type chatAnswer struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Created int64          `json:"created"`
	Model   string         `json:"model"`
	Choices []chatChoice   `json:"choices"`
	Usage   map[string]int `json:"usage,omitzero"`
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var req chatRequest
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
	turn, last := 0, ""
	for _, m := range req.Messages {
		if m.Role == "assistant" {
			turn++
		}
		last = textOf(m.Content)
	}
	t := script(turn, last)
	answer := chatAnswer{
		ID: fmt.Sprintf("chatcmpl-standin-%d", turn), Object: "chat.completion", Created: time.Now().Unix(), Model: req.Model,
	}
	usage := map[string]int{"prompt_tokens": len(last) / 4, "completion_tokens": len(t.Text) / 4, "total_tokens": (len(last) + len(t.Text)) / 4}
	finish := "stop"
	if len(t.Calls) > 0 {
		finish = "tool_calls"
	}
	if !req.Stream {
		msg := chatMessage{Role: "assistant", ToolCalls: chatCalls(t, turn)}
		if t.Text != "" {
			msg.Content = &t.Text
		}
		answer.Choices = []chatChoice{{Message: &msg, FinishReason: &finish}}
		answer.Usage = usage
		writeJSON(w, answer)
		return
	}
	answer.Object = "chat.completion.chunk"
	ev := newEvents(w, r, t.Pace)
	delta := func(m chatMessage) {
		answer.Choices = []chatChoice{{Delta: &m}}
		ev.send("", answer)
	}
	empty := ""
	delta(chatMessage{Role: "assistant", Content: &empty})
	for range t.Repeat + 1 {
		for _, p := range pieces(t.Text) {
			ev.wait()
			delta(chatMessage{Content: &p})
			if ev.err != nil {
				return
			}
		}
	}
	for i, c := range chatCalls(t, turn) {
		args := c.Function.Arguments
		c.Index, c.Function.Arguments = &i, ""
		delta(chatMessage{ToolCalls: []chatCall{c}})
		for len(args) > 0 { // in pieces, as providers send them
			n := min(7, len(args))
			piece := chatCall{Index: &i}
			piece.Function.Arguments, args = args[:n], args[n:]
			ev.wait()
			delta(chatMessage{ToolCalls: []chatCall{piece}})
		}
	}
	answer.Choices = []chatChoice{{Delta: &chatMessage{}, FinishReason: &finish}}
	ev.send("", answer)
	if req.StreamOptions.IncludeUsage {
		answer.Choices, answer.Usage = []chatChoice{}, usage
		ev.send("", answer)
	}
	if ev.err == nil {
		_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

func chatCalls(t Turn, turn int) []chatCall {
	var out []chatCall
	for i, c := range t.Calls {
		call := chatCall{ID: fmt.Sprintf("call_standin_%d_%d", turn, i), Type: "function"}
		call.Function.Name, call.Function.Arguments = c.Name, c.Arguments
		out = append(out, call)
	}
	return out
}

// textOf is the text of a content: a string, or parts with texts.
func textOf(v jsontext.Value) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var parts []struct {
		Text    string         `json:"text"`
		Content jsontext.Value `json:"content"`
	}
	_ = json.Unmarshal(v, &parts)
	for _, p := range parts {
		s += p.Text
		if len(p.Content) > 0 {
			s += textOf(p.Content)
		}
	}
	return s
}

func openAIError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.MarshalWrite(w, map[string]any{"error": map[string]any{
		"message": err.Error(), "type": "invalid_request_error", "param": nil, "code": nil,
	}})
}
