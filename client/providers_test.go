package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
)

const (
	chatAnswer    = `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}]}`
	messageAnswer = `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hello."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`
)

func chatEvents(texts ...string) string {
	var b strings.Builder
	for _, s := range texts {
		b.WriteString(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"` + s + `"},"finish_reason":null}]}` + "\n\n")
	}
	b.WriteString(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n")
	return b.String()
}

func messageEvents(texts ...string) string {
	var b strings.Builder
	event := func(t, data string) { b.WriteString("event: " + t + "\ndata: " + data + "\n\n") }
	event("message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`)
	event("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
	for _, s := range texts {
		event("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`+s+`"}}`)
	}
	event("content_block_stop", `{"type":"content_block_stop","index":0}`)
	event("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}`)
	event("message_stop", `{"type":"message_stop"}`)
	return b.String()
}

// provider is an official SDK whose calls go through the guard.
type provider struct {
	name   string
	answer string
	events func(texts ...string) string
	// call makes one call; tools says whether it offers any.
	call func(ctx context.Context, g *client.Guard, upstream, text string, stream, tools bool) (string, error)
}

var providers = []provider{{
	name: "openai-go", answer: chatAnswer, events: chatEvents,
	call: func(ctx context.Context, g *client.Guard, upstream, text string, stream, tools bool) (string, error) {
		c := openai.NewClient(option.WithBaseURL(upstream+"/v1"), option.WithAPIKey("sk-mine"), option.WithMiddleware(g.Middleware()), option.WithMaxRetries(2))
		p := openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
		if tools {
			p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "query_database"})}
		}
		if !stream {
			got, err := c.Chat.Completions.New(ctx, p)
			if err != nil {
				return "", err
			}
			return got.Choices[0].Message.Content, nil
		}
		s := c.Chat.Completions.NewStreaming(ctx, p)
		defer s.Close()
		var acc openai.ChatCompletionAccumulator
		for s.Next() {
			acc.AddChunk(s.Current())
		}
		out := ""
		if len(acc.Choices) > 0 {
			out = acc.Choices[0].Message.Content
		}
		return out, s.Err()
	},
}, {
	name: "anthropic-sdk-go", answer: messageAnswer, events: messageEvents,
	call: func(ctx context.Context, g *client.Guard, upstream, text string, stream, tools bool) (string, error) {
		c := anthropic.NewClient(anthropicoption.WithBaseURL(upstream), anthropicoption.WithAPIKey("sk-mine"), anthropicoption.WithMiddleware(g.Middleware()), anthropicoption.WithMaxRetries(2))
		p := anthropic.MessageNewParams{Model: "m", MaxTokens: 9, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}}
		if tools {
			p.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "query_database"}}}
		}
		if !stream {
			got, err := c.Messages.New(ctx, p)
			if err != nil {
				return "", err
			}
			return got.Content[0].Text, nil
		}
		s := c.Messages.NewStreaming(ctx, p)
		defer s.Close()
		var acc anthropic.Message
		for s.Next() {
			if err := acc.Accumulate(s.Current()); err != nil {
				return "", err
			}
		}
		out := ""
		for _, b := range acc.Content {
			out += b.Text
		}
		return out, s.Err()
	},
}}

func eachProvider(t *testing.T, fn func(t *testing.T, p provider, w *world)) {
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) { fn(t, p, newWorld(t)) })
	}
}

func TestModelCallsGoThroughTheGuard(t *testing.T) {
	eachProvider(t, func(t *testing.T, p provider, w *world) {
		g := w.guard()
		ctx := client.WithSession(t.Context(), "s-42")
		for _, stream := range []bool{false, true} {
			w.upstream.answer(p.answer, p.events("Hel", "lo."))
			text, err := p.call(ctx, g, w.upstream.url, "Write to "+mail+".", stream, true)
			if err != nil || text != "Hello." {
				t.Fatalf("stream %v: %q, %v", stream, text, err)
			}
			got := w.upstream.got()
			if len(got) != 1 || strings.Contains(strings.Join(flat(got[0].body), " "), mail) {
				t.Fatalf("sent up %+v", got)
			}
			for name := range got[0].header {
				if strings.HasPrefix(name, "X-Guardbook") {
					t.Errorf("header %s went upstream", name)
				}
			}
			if auth := got[0].header.Get("Authorization") + got[0].header.Get("X-Api-Key"); !strings.Contains(auth, "sk-mine") {
				t.Errorf("the client's own key did not go upstream: %q", auth)
			}
		}
		for _, d := range entries[guardbook.DecisionEntry](t, w, guardbook.TypeDecision) {
			if d.Session != "s-42" || d.Client != g.Client() || d.ClientSeq < 1 || d.ClientSeq > 2 {
				t.Errorf("decision %+v", d)
			}
		}
	})
}

// flat lists the strings of a JSON value.
func flat(v any) []string {
	var out []string
	switch v := v.(type) {
	case string:
		out = append(out, v)
	case []any:
		for _, x := range v {
			out = append(out, flat(x)...)
		}
	case map[string]any:
		for _, x := range v {
			out = append(out, flat(x)...)
		}
	}
	return out
}

func TestABlockIsAnErrorWithTheDecisionAndIsNotRetried(t *testing.T) {
	eachProvider(t, func(t *testing.T, p provider, w *world) {
		g := w.guard()
		for name, c := range map[string]struct {
			text, answer, events string
			stream               bool
			rule                 string
		}{
			"input":            {injection, p.answer, "", false, "prompt_injection"},
			"input, streamed":  {injection, p.answer, p.events("Hello."), true, "prompt_injection"},
			"output":           {"hi", strings.Replace(p.answer, "Hello.", "Key "+secret, 1), "", false, "secret"},
			"output, streamed": {"hi", "", p.events("The key is ", secret[:5], secret[5:]+" and", " never this"), true, "secret"},
		} {
			t.Run(name, func(t *testing.T) {
				w.upstream.answer(c.answer, c.events)
				before := len(entries[guardbook.DecisionEntry](t, w, guardbook.TypeDecision))
				text, err := p.call(t.Context(), g, w.upstream.url, c.text, c.stream, false)
				blocked, ok := client.AsBlocked(err)
				if !ok || blocked.Decision.Rule != "billing-bot/findings/"+c.rule || blocked.Decision.Entry == "" || blocked.Error() == "" {
					t.Fatalf("got %q, %v", text, err)
				}
				if strings.Contains(text, secret[:5]) || strings.Contains(text, "never") {
					t.Errorf("too much came out: %q", text)
				}
				blocks := 0
				for _, d := range entries[guardbook.DecisionEntry](t, w, guardbook.TypeDecision)[before:] {
					if d.Decision == guardbook.ActionBlock {
						blocks++
					}
				}
				if blocks != 1 {
					t.Errorf("%d blocks: it was tried again", blocks)
				}
			})
		}
	})
}

func TestModelCallsWithoutAServer(t *testing.T) {
	eachProvider(t, func(t *testing.T, p provider, w *world) {
		g := w.guard()
		w.stop()
		w.upstream.answer(p.answer, p.events("Hello."))
		text, err := p.call(t.Context(), g, w.upstream.url, "hi", false, false)
		if err != nil || text != "Hello." || len(w.upstream.got()) != 1 {
			t.Errorf("a call without tools did not pass: %q, %v", text, err)
		}
		_, err = p.call(t.Context(), g, w.upstream.url, "hi", false, true)
		if _, ok := client.AsUnavailable(err); !ok || len(w.upstream.got()) != 1 {
			t.Errorf("a call with tools: %v, %d went up", err, len(w.upstream.got()))
		}
		if _, ok := client.AsBlocked(err); ok {
			t.Error("unavailable was taken for blocked")
		}
		w.start()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := g.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		events := map[int64]string{}
		for _, e := range entries[guardbook.ClientEntry](t, w, guardbook.TypeClient) {
			events[e.ClientSeq] += e.Event
		}
		if events[1] != "unguarded" || events[2] != "refused" {
			t.Errorf("told %v", events)
		}
	})
}

func TestACancelledCallIsTheCallers(t *testing.T) {
	eachProvider(t, func(t *testing.T, p provider, w *world) {
		g := w.guard()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.call(ctx, g, w.upstream.url, "hi", false, false); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if len(w.upstream.got()) != 0 {
			t.Error("it went upstream")
		}
	})
}

func TestRoutes(t *testing.T) {
	w := newWorld(t)
	g := w.guard()
	w.upstream.answer(chatAnswer, "")
	hc := &http.Client{Transport: g.RoundTripper(nil)}
	defer hc.CloseIdleConnections()
	for name, c := range map[string]struct {
		path, header, want string
		status             int
	}{
		"plain":             {"/v1/chat/completions", "", "/v1/chat/completions", 200},
		"below a path":      {"/openai/v1/chat/completions", "", "/openai/v1/chat/completions", 200},
		"another version":   {"/v1beta/openai/chat/completions", "", "/v1beta/openai/chat/completions", 200},
		"no version":        {"/chat/completions", "", "/chat/completions", 200},
		"no API":            {"/something/else", "", "", 403},
		"an unread one":     {"/v1/files", "", "", 403},
		"azure":             {"/openai/deployments/gpt/chat/completions?api-version=2026-01-01", "", "/openai/deployments/gpt/chat/completions", 200},
		"anthropic, of old": {"/v1/complete", "2023-06-01", "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.upstream.got())
			req, err := http.NewRequest(http.MethodPost, w.upstream.url+c.path, strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			if c.header != "" {
				req.Header.Set("Anthropic-Version", c.header)
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := hc.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d", resp.StatusCode)
			}
			got := w.upstream.got()[before:]
			switch {
			case c.want == "" && len(got) != 0:
				t.Errorf("%s went upstream", got[0].path)
			case c.want != "" && (len(got) != 1 || got[0].path != c.want):
				t.Errorf("upstream got %+v", got)
			}
		})
	}
}
