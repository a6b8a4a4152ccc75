package gateway_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"

	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

// responsesProtocol is OpenAI's Responses API in the tests of streams.
var responsesProtocol = protocol{
	name: "responses", path: "/openai/v1/responses", filtered: "completed",
	begin: func() string {
		return responsesEvent("response.created", `"response":`+responsesAnswer("in_progress", "")) +
			responsesEvent("response.output_item.added", `"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}`) +
			responsesEvent("response.content_part.added", `"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}`)
	},
	piece: func(s string) string {
		return responsesEvent("response.output_text.delta", `"item_id":"msg_1","output_index":0,"content_index":0,"logprobs":[],"delta":`+strconv.Quote(s))
	},
	end: func() string { // the text is not told again: it is what came in pieces
		return responsesEvent("response.completed", `"response":`+responsesAnswer("completed", ""))
	},
	whole: func(s string) string {
		return responsesAnswer("completed", `{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":`+strconv.Quote(s)+`,"annotations":[]}]}`)
	},
	read: func(t *testing.T, b *testbed.Bed, stream bool) (string, string, error) {
		client := chatClient(b)
		p := responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("go")}}
		if !stream {
			r, err := client.Responses.New(context.Background(), p)
			if err != nil {
				return "", "", err
			}
			return r.OutputText(), string(r.Status), nil
		}
		s := client.Responses.NewStreaming(context.Background(), p)
		defer s.Close()
		text, status := "", ""
		for s.Next() {
			switch e := s.Current().AsAny().(type) {
			case responses.ResponseTextDeltaEvent:
				text += e.Delta
			case responses.ResponseCompletedEvent:
				status = string(e.Response.Status)
			}
		}
		return text, status, s.Err()
	},
}

func responsesEvent(kind, members string) string {
	return "event: " + kind + "\ndata: " + `{"type":"` + kind + `",` + members + "}\n\n"
}

func responsesAnswer(status, output string) string {
	return `{"id":"resp_1","object":"response","created_at":1,"status":"` + status + `","model":"m","output":[` + output + `],"usage":null}`
}

// completionsProtocol is OpenAI's Completions API in the tests of streams.
var completionsProtocol = protocol{
	name: "completions", path: "/openai/v1/completions", filtered: "content_filter",
	begin: func() string { return "" },
	piece: func(s string) string {
		return "data: " + `{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":` + strconv.Quote(s) + `,"logprobs":null,"finish_reason":null}]}` + "\n\n"
	},
	end: func() string {
		return "data: " + `{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	},
	whole: func(s string) string {
		return `{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":` + strconv.Quote(s) + `,"logprobs":null,"finish_reason":"stop"}]}`
	},
	read: func(t *testing.T, b *testbed.Bed, stream bool) (string, string, error) {
		client := chatClient(b)
		p := openai.CompletionNewParams{Model: "m", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("go")}}
		if !stream {
			c, err := client.Completions.New(context.Background(), p)
			if err != nil {
				return "", "", err
			}
			return c.Choices[0].Text, string(c.Choices[0].FinishReason), nil
		}
		s := client.Completions.NewStreaming(context.Background(), p)
		defer s.Close()
		var text strings.Builder
		finish := ""
		for s.Next() {
			for _, c := range s.Current().Choices {
				text.WriteString(c.Text)
				finish += string(c.FinishReason)
			}
		}
		return text.String(), finish, s.Err()
	},
}
