package standin_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	"github.com/guardbook/guardbook/demo/standin"
)

const model = standin.Model + "/test"

func client(t *testing.T) openai.Client {
	t.Helper()
	srv := httptest.NewServer(standin.New(map[string]standin.Script{"test": func(turn int, last string) standin.Turn {
		switch turn {
		case 0:
			return standin.Turn{Text: "I look at " + last, Calls: []standin.Call{{Name: "find", Arguments: `{"q":"a rather long question"}`}, {Name: "list", Arguments: `{}`}}}
		default:
			return standin.Turn{Text: "It says " + last}
		}
	}}))
	t.Cleanup(srv.Close)
	return openai.NewClient(option.WithBaseURL(srv.URL+"/openai/v1"), option.WithAPIKey("sk-x"), option.WithMaxRetries(0))
}

func TestResponsesPlaysAScript(t *testing.T) {
	c := client(t)
	p := responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("that")}}
	first, err := c.Responses.New(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkFirst(t, first)
	s := c.Responses.NewStreaming(context.Background(), p)
	text, last := "", int64(-1)
	var streamed *responses.Response
	for s.Next() {
		ev := s.Current()
		if ev.SequenceNumber != last+1 {
			t.Errorf("%s has number %d after %d", ev.Type, ev.SequenceNumber, last)
		}
		last = ev.SequenceNumber
		switch e := ev.AsAny().(type) {
		case responses.ResponseTextDeltaEvent:
			text += e.Delta
		case responses.ResponseCompletedEvent:
			streamed = &e.Response
		case nil:
			t.Errorf("the client does not know %s", ev.RawJSON())
		}
	}
	if s.Err() != nil || streamed == nil {
		t.Fatal(s.Err())
	}
	checkFirst(t, streamed)
	if text != streamed.OutputText() {
		t.Errorf("streamed %q", text)
	}

	outputs := responses.ResponseInputParam{result("call_standin_0_0", "one"), result("call_standin_0_1", "two")}
	second, err := c.Responses.New(context.Background(), responses.ResponseNewParams{Model: model, PreviousResponseID: openai.String(first.ID), Input: responses.ResponseNewParamsInputUnion{OfInputItemList: outputs}})
	if err != nil || second.OutputText() != "It says two" {
		t.Errorf("kept at the provider: %v, %q", err, second.OutputText())
	}
	history := responses.ResponseInputParam{
		responses.ResponseInputItemParamOfMessage("that", responses.EasyInputMessageRoleUser),
		responses.ResponseInputItemParamOfFunctionCall("{}", "call_standin_0_0", "find"),
		responses.ResponseInputItemParamOfFunctionCall("{}", "call_standin_0_1", "list"),
	}
	second, err = c.Responses.New(context.Background(), responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfInputItemList: append(history, outputs...)}})
	if err != nil || second.OutputText() != "It says two" {
		t.Errorf("sent along: %v, %q", err, second.OutputText())
	}
}

func result(id, text string) responses.ResponseInputItemUnionParam {
	it := responses.ResponseInputItemParamOfFunctionCallOutput(text)
	it.OfFunctionCallOutput.CallID = openai.String(id)
	return it
}

func checkFirst(t *testing.T, r *responses.Response) {
	t.Helper()
	if r.Status != "completed" || r.OutputText() != "I look at that" || len(r.Output) != 3 || r.Output[1].Name != "find" ||
		r.Output[1].Arguments.OfString != `{"q":"a rather long question"}` || r.Output[2].CallID != "call_standin_0_1" || r.Usage.InputTokens != 1 {
		t.Errorf("got %s", r.RawJSON())
	}
}

func TestCompletionsAndEmbeddings(t *testing.T) {
	c := client(t)
	p := openai.CompletionNewParams{Model: model, N: openai.Int(2), Echo: openai.Bool(true), Prompt: openai.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"a", "b"}}}
	got, err := c.Completions.New(context.Background(), p)
	if err != nil || len(got.Choices) != 4 || got.Choices[3].Text != "bI look at b" {
		t.Errorf("%v, %+v", err, got)
	}
	s := c.Completions.NewStreaming(context.Background(), p)
	texts := map[int64]string{}
	for s.Next() {
		for _, ch := range s.Current().Choices {
			texts[ch.Index] += ch.Text
		}
	}
	if s.Err() != nil || texts[3] != "bI look at b" {
		t.Errorf("%v, %v", s.Err(), texts)
	}
	e, err := c.Embeddings.New(context.Background(), openai.EmbeddingNewParams{Model: model, Dimensions: openai.Int(4), Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}}})
	if err != nil || len(e.Data) != 2 || len(e.Data[1].Embedding) != 4 {
		t.Errorf("%v, %+v", err, e)
	}
	m, err := c.Moderations.New(context.Background(), openai.ModerationNewParams{Input: openai.ModerationNewParamsInputUnion{OfString: openai.String("a")}})
	if err != nil || len(m.Results) != 1 || strings.Contains(m.RawJSON(), "true") {
		t.Errorf("%v, %+v", err, m)
	}
}
