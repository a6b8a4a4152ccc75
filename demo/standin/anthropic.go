package standin

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/http"
)

type messagesRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string         `json:"role"`
		Content jsontext.Value `json:"content"`
	} `json:"messages"`
}

type block struct {
	Type  string         `json:"type"`
	Text  *string        `json:"text,omitzero"`
	ID    string         `json:"id,omitzero"`
	Name  string         `json:"name,omitzero"`
	Input jsontext.Value `json:"input,omitzero"`
}

type message struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Role         string         `json:"role"`
	Model        string         `json:"model"`
	Content      []block        `json:"content"`
	StopReason   *string        `json:"stop_reason"`
	StopSequence *string        `json:"stop_sequence"`
	Usage        map[string]int `json:"usage"`
}

func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	var req messagesRequest
	if err := read(r, &req); err != nil {
		anthropicError(w, err)
		return
	}
	script, err := s.script(req.Model)
	if err != nil {
		anthropicError(w, err)
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
	stop := "end_turn"
	if len(t.Calls) > 0 {
		stop = "tool_use"
	}
	answer := message{
		ID: fmt.Sprintf("msg_standin_%d", turn), Type: "message", Role: "assistant", Model: req.Model,
		Content: []block{}, Usage: map[string]int{"input_tokens": len(last) / 4, "output_tokens": len(t.Text) / 4},
	}
	if !req.Stream {
		answer.StopReason = &stop
		if t.Text != "" {
			answer.Content = append(answer.Content, block{Type: "text", Text: &t.Text})
		}
		for i, c := range t.Calls {
			answer.Content = append(answer.Content, block{Type: "tool_use", ID: fmt.Sprintf("toolu_standin_%d_%d", turn, i), Name: c.Name, Input: jsontext.Value(c.Arguments)})
		}
		writeJSON(w, answer)
		return
	}
	ev := newEvents(w, r, t.Pace)
	ev.send("message_start", map[string]any{"type": "message_start", "message": answer})
	index := 0
	if t.Text != "" {
		empty := ""
		ev.send("content_block_start", map[string]any{"type": "content_block_start", "index": index, "content_block": block{Type: "text", Text: &empty}})
		for range t.Repeat + 1 {
			for _, p := range pieces(t.Text) {
				ev.wait()
				ev.send("content_block_delta", map[string]any{"type": "content_block_delta", "index": index, "delta": map[string]string{"type": "text_delta", "text": p}})
				if ev.err != nil {
					return
				}
			}
		}
		ev.send("content_block_stop", map[string]any{"type": "content_block_stop", "index": index})
		index++
	}
	for i, c := range t.Calls {
		ev.send("content_block_start", map[string]any{"type": "content_block_start", "index": index,
			"content_block": block{Type: "tool_use", ID: fmt.Sprintf("toolu_standin_%d_%d", turn, i), Name: c.Name, Input: jsontext.Value(`{}`)}})
		for args := c.Arguments; args != ""; {
			n := min(7, len(args))
			ev.wait()
			ev.send("content_block_delta", map[string]any{"type": "content_block_delta", "index": index, "delta": map[string]string{"type": "input_json_delta", "partial_json": args[:n]}})
			args = args[n:]
		}
		ev.send("content_block_stop", map[string]any{"type": "content_block_stop", "index": index})
		index++
	}
	ev.send("message_delta", map[string]any{"type": "message_delta",
		"delta": map[string]any{"stop_reason": stop, "stop_sequence": nil}, "usage": map[string]int{"output_tokens": len(t.Text) / 4}})
	ev.send("message_stop", map[string]any{"type": "message_stop"})
}

func anthropicError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.MarshalWrite(w, map[string]any{"type": "error", "error": map[string]any{"type": "invalid_request_error", "message": err.Error()}})
}
