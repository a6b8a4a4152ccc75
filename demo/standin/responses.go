package standin

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// responsesRequest is what the stand-in reads of a request of the Responses API;
// the members that an answer repeats are kept as they came.
type responsesRequest struct {
	Model              string         `json:"model"`
	Stream             bool           `json:"stream"`
	Input              jsontext.Value `json:"input"`
	PreviousResponseID string         `json:"previous_response_id"`
	Instructions       jsontext.Value `json:"instructions"`
	Metadata           jsontext.Value `json:"metadata"`
	Tools              jsontext.Value `json:"tools"`
	ToolChoice         jsontext.Value `json:"tool_choice"`
	Text               jsontext.Value `json:"text"`
	Reasoning          jsontext.Value `json:"reasoning"`
	User               jsontext.Value `json:"user"`
	ParallelToolCalls  *bool          `json:"parallel_tool_calls"`
	Store              *bool          `json:"store"`
	Temperature        *float64       `json:"temperature"`
	TopP               *float64       `json:"top_p"`
	MaxOutputTokens    *int           `json:"max_output_tokens"`
}

type responseItem struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Status    string          `json:"status"`
	Role      string          `json:"role,omitzero"`
	Content   *[]responsePart `json:"content,omitzero"`
	CallID    string          `json:"call_id,omitzero"`
	Name      string          `json:"name,omitzero"`
	Arguments *string         `json:"arguments,omitzero"`
}

type responsePart struct {
	Type        string   `json:"type"`
	Text        string   `json:"text"`
	Annotations []string `json:"annotations"`
	Logprobs    []string `json:"logprobs"`
}

type responseUsage struct {
	InputTokens         int            `json:"input_tokens"`
	InputTokensDetails  map[string]int `json:"input_tokens_details"`
	OutputTokens        int            `json:"output_tokens"`
	OutputTokensDetails map[string]int `json:"output_tokens_details"`
	TotalTokens         int            `json:"total_tokens"`
}

type response struct {
	ID                 string         `json:"id"`
	Object             string         `json:"object"`
	CreatedAt          int64          `json:"created_at"`
	Status             string         `json:"status"`
	Background         bool           `json:"background"`
	CompletedAt        *int64         `json:"completed_at"`
	Error              *string        `json:"error"`
	IncompleteDetails  *string        `json:"incomplete_details"`
	Instructions       jsontext.Value `json:"instructions"`
	MaxOutputTokens    *int           `json:"max_output_tokens"`
	Model              string         `json:"model"`
	Output             []responseItem `json:"output"`
	ParallelToolCalls  bool           `json:"parallel_tool_calls"`
	PreviousResponseID *string        `json:"previous_response_id"`
	Reasoning          jsontext.Value `json:"reasoning"`
	Store              bool           `json:"store"`
	Temperature        float64        `json:"temperature"`
	Text               jsontext.Value `json:"text"`
	ToolChoice         jsontext.Value `json:"tool_choice"`
	Tools              jsontext.Value `json:"tools"`
	TopP               float64        `json:"top_p"`
	Truncation         string         `json:"truncation"`
	Usage              *responseUsage `json:"usage"`
	User               jsontext.Value `json:"user"`
	Metadata           jsontext.Value `json:"metadata"`
}

const responseID = "resp_standin_"

func (s *Server) responses(w http.ResponseWriter, r *http.Request) {
	var req responsesRequest
	if err := read(r, &req); err != nil {
		openAIError(w, err)
		return
	}
	script, err := s.script(req.Model)
	if err != nil {
		openAIError(w, err)
		return
	}
	turn, last := responsesTurn(&req)
	t := script(turn, last)
	answer := newResponse(&req, turn)
	items := responseItems(t, turn)
	usage := &responseUsage{
		InputTokens: len(last) / 4, InputTokensDetails: map[string]int{"cached_tokens": 0},
		OutputTokens: len(t.Text) / 4, OutputTokensDetails: map[string]int{"reasoning_tokens": 0}, TotalTokens: (len(last) + len(t.Text)) / 4,
	}
	finish := func() {
		now := time.Now().Unix()
		answer.Status, answer.CompletedAt, answer.Output, answer.Usage = "completed", &now, items, usage
	}
	if !req.Stream {
		finish()
		writeJSON(w, answer)
		return
	}
	ev := &responseEvents{events: newEvents(w, r, t.Pace)}
	ev.send("response.created", map[string]any{"response": answer})
	ev.send("response.in_progress", map[string]any{"response": answer})
	for i, it := range items {
		if it.Type == "message" {
			items[i] = ev.message(i, it, t)
		} else {
			ev.call(i, it)
		}
		if ev.err != nil {
			return
		}
	}
	finish()
	ev.send("response.completed", map[string]any{"response": answer})
}

// responsesTurn finds how many answers the conversation has so far, and the newest
// text in it. The items of one answer stand side by side. An answer's id says which
// turn it was, so that a conversation that is kept at the provider goes on with it.
func responsesTurn(req *responsesRequest) (turn int, last string) {
	if n, ok := strings.CutPrefix(req.PreviousResponseID, responseID); ok {
		if before, err := strconv.Atoi(n); err == nil {
			turn = before + 1
		}
	}
	if s := textOf(req.Input); s != "" && req.Input.Kind() == '"' {
		return turn, s
	}
	var items []struct {
		Type    string         `json:"type"`
		Role    string         `json:"role"`
		Content jsontext.Value `json:"content"`
		Output  jsontext.Value `json:"output"`
	}
	_ = json.Unmarshal(req.Input, &items) // what is no list of items has no turns
	within := false                       // an answer of the model
	for _, it := range items {
		own := it.Role == "assistant" || it.Type == "reasoning" || it.Role == "" && strings.HasSuffix(it.Type, "_call")
		if own && !within {
			turn++
		}
		within = own
		if !own {
			if last = textOf(it.Content); it.Type != "" && it.Type != "message" {
				last = textOf(it.Output)
			}
		}
	}
	return turn, last
}

func newResponse(req *responsesRequest, turn int) *response {
	return &response{
		ID: responseID + strconv.Itoa(turn), Object: "response", CreatedAt: time.Now().Unix(), Status: "in_progress",
		Instructions: orRaw(req.Instructions, "null"), MaxOutputTokens: req.MaxOutputTokens, Model: req.Model, Output: []responseItem{},
		ParallelToolCalls: or(req.ParallelToolCalls, true), PreviousResponseID: named(req.PreviousResponseID),
		Reasoning: orRaw(req.Reasoning, `{"effort":null,"summary":null}`), Store: or(req.Store, true), Temperature: or(req.Temperature, 1),
		Text: orRaw(req.Text, `{"format":{"type":"text"}}`), ToolChoice: orRaw(req.ToolChoice, `"auto"`), Tools: orRaw(req.Tools, "[]"),
		TopP: or(req.TopP, 1), Truncation: "disabled", User: orRaw(req.User, "null"), Metadata: orRaw(req.Metadata, "{}"),
	}
}

// responseItems are the items of a turn, complete.
func responseItems(t Turn, turn int) []responseItem {
	items := []responseItem{}
	if t.Text != "" {
		items = append(items, responseItem{ID: fmt.Sprintf("msg_standin_%d", turn), Type: "message", Status: "completed", Role: "assistant",
			Content: &[]responsePart{newPart(t.Text)}})
	}
	for i, c := range t.Calls {
		items = append(items, responseItem{ID: fmt.Sprintf("fc_standin_%d_%d", turn, i), Type: "function_call", Status: "completed",
			CallID: fmt.Sprintf("call_standin_%d_%d", turn, i), Name: c.Name, Arguments: &c.Arguments})
	}
	return items
}

func newPart(text string) responsePart {
	return responsePart{Type: "output_text", Text: text, Annotations: []string{}, Logprobs: []string{}}
}

// responseEvents numbers the events of a streamed answer.
type responseEvents struct {
	*events
	sequence int
}

func (e *responseEvents) send(kind string, members map[string]any) {
	members["type"], members["sequence_number"] = kind, e.sequence
	e.sequence++
	e.events.send(kind, members)
}

// message streams an item with text, and returns it as it became.
func (e *responseEvents) message(index int, it responseItem, t Turn) responseItem {
	at := func(more map[string]any) map[string]any {
		more["item_id"], more["output_index"], more["content_index"] = it.ID, index, 0
		return more
	}
	begun := it
	begun.Status, begun.Content = "in_progress", &[]responsePart{}
	e.send("response.output_item.added", map[string]any{"output_index": index, "item": begun})
	e.send("response.content_part.added", at(map[string]any{"part": newPart("")}))
	var said strings.Builder
	for range t.Repeat + 1 {
		for _, p := range pieces(t.Text) {
			e.wait()
			e.send("response.output_text.delta", at(map[string]any{"delta": p, "logprobs": []string{}}))
			if e.err != nil {
				return it
			}
			said.WriteString(p)
		}
	}
	it.Content = &[]responsePart{newPart(said.String())}
	e.send("response.output_text.done", at(map[string]any{"text": said.String(), "logprobs": []string{}}))
	e.send("response.content_part.done", at(map[string]any{"part": newPart(said.String())}))
	e.send("response.output_item.done", map[string]any{"output_index": index, "item": it})
	return it
}

// call streams a function call.
func (e *responseEvents) call(index int, it responseItem) {
	begun, empty := it, ""
	begun.Status, begun.Arguments = "in_progress", &empty
	e.send("response.output_item.added", map[string]any{"output_index": index, "item": begun})
	for args := *it.Arguments; args != ""; {
		n := min(7, len(args))
		e.wait()
		e.send("response.function_call_arguments.delta", map[string]any{"item_id": it.ID, "output_index": index, "delta": args[:n]})
		args = args[n:]
	}
	e.send("response.function_call_arguments.done", map[string]any{"item_id": it.ID, "output_index": index, "name": it.Name, "arguments": *it.Arguments})
	e.send("response.output_item.done", map[string]any{"output_index": index, "item": it})
}

// or is what p points to, or what stands for nothing.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func orRaw(v jsontext.Value, otherwise string) jsontext.Value {
	if len(v) == 0 {
		return jsontext.Value(otherwise)
	}
	return v
}

// named is nil for a name that is not given.
func named(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
