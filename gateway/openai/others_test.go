package openai_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	oai "github.com/openai/openai-go/v3/responses"

	"github.com/guardbook/guardbook/demo/standin"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
	guarded "github.com/guardbook/guardbook/gateway/openai"
)

func completion(texts ...string) string {
	var choices []string
	for i, s := range texts {
		choices = append(choices, `{"index":`+strconv.Itoa(i)+`,"text":`+quoted(s)+`,"logprobs":{"tokens":[`+quoted(s)+`]},"finish_reason":"stop"}`)
	}
	return `{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[` + strings.Join(choices, ",") + `],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`
}

func TestCompletionsDecideOnEachChoice(t *testing.T) {
	texts := []string{"Hello there.", "Ask " + testbed.Mail + " now.", "Use " + testbed.Secret + " for it."}
	up := &testbed.Upstream{JSON: completion(texts...)}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	p := openai.CompletionNewParams{Model: "m", N: openai.Int(3), Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("go on, " + testbed.Mail)}, Suffix: openai.String("and " + testbed.Mail)}
	got, err := c.Completions.New(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if s := sent(t, up); strings.Contains(s, testbed.Mail) || strings.Count(s, testbed.Redacted) != 2 {
		t.Errorf("sent up %s", s)
	}
	check := func(texts, finish []string) {
		t.Helper()
		if texts[0] != "Hello there." || texts[1] != "Ask "+testbed.Redacted+" now." || !strings.Contains(texts[2], "[Blocked by policy billing-bot (ref ") {
			t.Errorf("texts %q", texts)
		}
		if !slices.Equal(finish, []string{"stop", "stop", "content_filter"}) {
			t.Errorf("finish %q", finish)
		}
	}
	ts, fs := []string{}, []string{}
	for _, ch := range got.Choices {
		ts, fs = append(ts, ch.Text), append(fs, string(ch.FinishReason))
	}
	check(ts, fs)
	if raw := got.RawJSON(); strings.Contains(raw, testbed.Mail) || strings.Contains(raw, testbed.Secret) || got.Usage.TotalTokens != 3 {
		t.Errorf("got %s", raw)
	}
	// Streamed, a block ends the whole: the secret comes last here.
	for i := 1; i < len(texts[1]); i++ {
		events := ""
		for n, s := range texts {
			at := min(i, len(s))
			for _, piece := range []string{s[:at], s[at:]} {
				events += `data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":` + strconv.Itoa(n) + `,"text":` + quoted(piece) + `,"logprobs":{"tokens":[` + quoted(piece) + `]},"finish_reason":null}]}` + "\n\n"
			}
			events += `data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":` + strconv.Itoa(n) + `,"text":"","logprobs":null,"finish_reason":"stop"}]}` + "\n\n"
		}
		up.Events = events + "data: [DONE]\n\n"
		s := c.Completions.NewStreaming(context.Background(), p)
		ts, fs := make([]string, 3), make([]string, 3)
		for s.Next() {
			for _, ch := range s.Current().Choices {
				ts[ch.Index] += ch.Text
				fs[ch.Index] += string(ch.FinishReason)
			}
			if raw := s.Current().RawJSON(); strings.Contains(raw, testbed.Mail) || strings.Contains(raw, testbed.Secret) {
				t.Errorf("released %s", raw)
			}
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
		check(ts, fs)
	}
}

func TestCompletionsBlockedPromptIsAnsweredForEachChoice(t *testing.T) {
	up := &testbed.Upstream{JSON: completion("x")}
	b := testbed.New(t, testbed.Options{Upstream: up})
	c := client(b)
	p := openai.CompletionNewParams{Model: "m", N: openai.Int(2), Prompt: openai.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"hi there", testbed.Injection}}}
	got, err := c.Completions.New(context.Background(), p)
	if err != nil || len(got.Choices) != 4 || got.Choices[3].FinishReason != "content_filter" || !strings.HasPrefix(got.Choices[3].Text, "[Blocked by policy") {
		t.Errorf("%v, %+v", err, got)
	}
	s := c.Completions.NewStreaming(context.Background(), p)
	n := 0
	for s.Next() {
		for _, ch := range s.Current().Choices {
			if ch.Text != "" {
				n++
			}
		}
	}
	if s.Err() != nil || n != 4 || len(up.Seen()) != 0 {
		t.Errorf("%v, %d choices, %d went up", s.Err(), n, len(up.Seen()))
	}
}

// Vectors are passed on as they come, however many there are.
func TestEmbeddingsReadTheirInput(t *testing.T) {
	vectors := `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[` + strings.TrimSuffix(strings.Repeat("0.1,", 1<<21), ",") + `]}],"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}`
	up := &testbed.Upstream{JSON: vectors}
	b := testbed.New(t, testbed.Options{Upstream: up})
	resp, text := post(t, b, "/openai/v1/embeddings", `{"model":"m","input":["hello","write to `+testbed.Mail+`"],"encoding_format":"float"}`)
	if resp.StatusCode != 200 || text != vectors || resp.Header.Get(gateway.HeaderDecision) != "redact" {
		t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(text), resp.Header)
	}
	if s := sent(t, up); s != `{"model":"m","input":["hello","write to `+testbed.Redacted+`"],"encoding_format":"float"}` {
		t.Errorf("sent up %s", s)
	}
	c := client(b)
	_, err := c.Embeddings.New(context.Background(), openai.EmbeddingNewParams{Model: "m", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(testbed.Injection)}})
	if e := apiError(t, err); e.StatusCode != 403 || e.Code != "content_filter" || len(up.Seen()) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestTokensAreNotText(t *testing.T) {
	up := &testbed.Upstream{JSON: completion("x")}
	b := testbed.New(t, testbed.Options{Upstream: up})
	for path, body := range map[string]string{
		"embeddings": `{"model":"m","input":[1,2,3]}`, "embeddings ": `{"model":"m","input":[[1,2],[3]]}`,
		"completions": `{"model":"m","prompt":[1,2,3]}`, "completions ": `{"model":"m","prompt":["hi",[3]]}`,
	} {
		path = strings.TrimSpace(path)
		resp, text := post(t, b, "/openai/v1/"+path, body)
		if resp.StatusCode != 403 || !strings.Contains(text, `endpoints: [\"POST /v1/`+path+`:tokens\"]`) || !strings.Contains(text, "Send it as text") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
	b.SetPolicy(t, testbed.Policy+"endpoints: [\"POST /v1/embeddings:tokens\"]\n")
	if resp, _ := post(t, b, "/openai/v1/embeddings", `{"model":"m","input":[1,2,3]}`); resp.StatusCode != 200 || len(up.Seen()) != 1 {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestModerationsAndTokenCountsReadTheirInput(t *testing.T) {
	up := &testbed.Upstream{JSON: `{"id":"modr-1","model":"m","results":[]}`}
	b := testbed.New(t, testbed.Options{Upstream: up})
	for _, path := range []string{"/openai/v1/moderations", "/openai/v1/responses/input_tokens"} {
		resp, text := post(t, b, path, `{"model":"m","input":[{"type":"text","text":"Ask `+testbed.Mail+`"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}`)
		if resp.StatusCode != 200 || text != up.JSON || !strings.Contains(sent(t, up), "Ask "+testbed.Redacted) {
			t.Errorf("%s: %d %s, sent up %s", path, resp.StatusCode, text, sent(t, up))
		}
		if resp, text = post(t, b, path, `{"model":"m","stream":true,"input":"`+testbed.Injection+`"}`); resp.StatusCode != 403 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
}

// onAzure is a gateway whose upstream is the stand-in, on Azure's paths.
func onAzure(t *testing.T, b *testbed.Bed, mode string) openai.Client {
	t.Helper()
	up := httptest.NewServer(standin.New(map[string]standin.Script{"gpt": func(_ int, last string) standin.Turn {
		switch {
		case strings.Contains(last, "call"):
			return standin.Turn{Calls: []standin.Call{{Name: "drop_table", Arguments: `{}`}}}
		case strings.Contains(last, "secret"):
			return standin.Turn{Text: "It is " + testbed.Secret + ", really."}
		}
		return standin.Turn{Text: "You say " + last}
	}}))
	t.Cleanup(up.Close)
	h, err := guarded.AzureHandler(b.Gateway, gateway.Upstream{URL: up.URL + "/azure"})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	base := srv.URL + "/azure/openai/v1"
	if mode == "deployments" {
		base = srv.URL + "/azure/openai/deployments/gpt"
	}
	return openai.NewClient(option.WithBaseURL(base), option.WithQuery("api-version", "2024-06-01"), option.WithHeader("Api-Key", testbed.Key), option.WithMaxRetries(0))
}

// With the agent's key in the place of Azure's, on both forms of Azure's paths.
func TestAzure(t *testing.T) {
	for mode, model := range map[string]string{"deployments": "gpt", "v1": standin.Model + "/gpt"} {
		t.Run(mode, func(t *testing.T) {
			b := testbed.New(t, testbed.Options{})
			c := onAzure(t, b, mode)
			chat := func(text string) (openai.ChatCompletionChoice, error) {
				got, err := c.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}})
				if err != nil {
					return openai.ChatCompletionChoice{}, err
				}
				return got.Choices[0], nil
			}
			if ch, err := chat("hello"); err != nil || ch.Message.Content != "You say hello" {
				t.Errorf("%v, %+v", err, ch)
			}
			if ch, err := chat("Ask " + testbed.Mail); err != nil || ch.Message.Content != "You say Ask "+testbed.Redacted {
				t.Errorf("%v, %+v", err, ch)
			}
			for _, text := range []string{testbed.Injection, "a secret", "a call"} {
				if ch, err := chat(text); err != nil || ch.FinishReason != "content_filter" || !strings.Contains(ch.Message.Content, "[Blocked by policy") || len(ch.Message.ToolCalls) != 0 {
					t.Errorf("%s: %v, %+v", text, err, ch)
				}
			}
			s := c.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello, " + testbed.Mail)}})
			streamed := ""
			for s.Next() {
				for _, ch := range s.Current().Choices {
					streamed += ch.Delta.Content
				}
			}
			if s.Err() != nil || streamed != "You say hello, "+testbed.Redacted {
				t.Errorf("%v, %q", s.Err(), streamed)
			}
			e, err := c.Embeddings.New(context.Background(), openai.EmbeddingNewParams{Model: openai.EmbeddingModel(model), Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("hello")}})
			if err != nil || len(e.Data) != 1 {
				t.Errorf("%v, %+v", err, e)
			}
			if mode == "v1" {
				r, err := c.Responses.New(context.Background(), oai.ResponseNewParams{Model: oai.ResponsesModel(model), Input: oai.ResponseNewParamsInputUnion{OfString: openai.String("a call")}})
				if err != nil || !strings.Contains(r.OutputText(), "[Blocked by policy") || strings.Contains(r.RawJSON(), "function_call") {
					t.Errorf("%v, %s", err, r.RawJSON())
				}
			}
			paths := map[string]bool{}
			for _, d := range testbed.Decisions(t, b) {
				paths[d.Path] = true
			}
			if !paths["azure/chat"] || !paths["azure/embeddings"] {
				t.Errorf("paths %v", paths)
			}
		})
	}
}

// A block as an error has the codes by which Azure's clients know one.
func TestAzureBlockAsAnError(t *testing.T) {
	b := testbed.New(t, testbed.Options{Gateway: gateway.Options{BlockMode: gateway.Error}})
	c := onAzure(t, b, "deployments")
	_, err := c.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{Model: "gpt", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(testbed.Injection)}})
	e := apiError(t, err)
	if e.StatusCode != 403 || e.Code != "content_filter" || e.Param != "prompt" || !strings.Contains(e.RawJSON(), `"innererror":{"code":"ResponsibleAIPolicyViolation"}`) ||
		!strings.Contains(e.RawJSON(), `"guardbook":{"decision":"block"`) {
		t.Errorf("got %s", e.RawJSON())
	}
}

func TestAzurePaths(t *testing.T) {
	for path, want := range map[string]string{
		"/openai/deployments/gpt-4/chat/completions": "azure/chat", "/openai/deployments/gpt-4/completions": "azure/completions",
		"/openai/deployments/e/embeddings": "azure/embeddings", "/openai/v1/responses": "azure/responses", "/openai/responses": "azure/responses", "/openai/v1/chat/completions": "azure/chat",
		"/openai/deployments/gpt 4/chat/completions": "", "/openai/deployments//chat/completions": "", "/openai/deployments/gpt-4": "", "/openai/deployments/a/b/chat/completions": "",
		"/openai/v1chat/completions": "", "/v1/chat/completions": "", "/openai/assistants": "",
	} {
		got := ""
		if e := (guarded.Azure{}).Endpoint(http.MethodPost, path); e != nil {
			got = e.Path()
		}
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}
