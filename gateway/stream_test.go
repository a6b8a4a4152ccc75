package gateway_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

func testLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// protocol is what the stream tests need to know of a provider.
type protocol struct {
	name, path string
	// begin are the events before the first text, piece one with a text, end the
	// last ones.
	begin func() string
	piece func(text string) string
	end   func() string
	whole func(text string) string // the same answer, not streamed
	// read runs a request and returns the answer's text and finish, as the SDK has them.
	read func(t *testing.T, b *testbed.Bed, stream bool) (text, finish string, err error)
	// filtered is how a blocked answer finishes.
	filtered string
}

var protocols = []protocol{{
	name: "openai", path: "/openai/v1/chat/completions", filtered: "content_filter",
	begin: func() string { return "" },
	piece: func(s string) string {
		return "data: " + `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":` + strconv.Quote(s) + `},"finish_reason":null}]}` + "\n\n"
	},
	end: func() string { return testbed.ChatEvents(`{"index":0,"delta":{},"finish_reason":"stop"}`) },
	whole: func(s string) string {
		return `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":` + strconv.Quote(s) + `},"finish_reason":"stop"}]}`
	},
	read: func(t *testing.T, b *testbed.Bed, stream bool) (string, string, error) {
		if stream {
			c, err := chatStream(t, b, say("go"))
			if len(c.Choices) == 0 {
				return "", "", err
			}
			return c.Choices[0].Message.Content, c.Choices[0].FinishReason, err
		}
		client := chatClient(b)
		c, err := client.Chat.Completions.New(context.Background(), say("go"))
		if err != nil {
			return "", "", err
		}
		return c.Choices[0].Message.Content, c.Choices[0].FinishReason, nil
	},
}, {
	name: "anthropic", path: "/anthropic/v1/messages", filtered: "end_turn",
	begin: func() string {
		all := testbed.MessageEvents("end_turn")
		return all[:strings.Index(all, "event: message_delta")] + "event: content_block_start\ndata: " + `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n"
	},
	piece: func(s string) string {
		return "event: content_block_delta\ndata: " + `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":` + strconv.Quote(s) + `}}` + "\n\n"
	},
	end: func() string {
		all := testbed.MessageEvents("end_turn")
		return "event: content_block_stop\ndata: " + `{"type":"content_block_stop","index":0}` + "\n\n" + all[strings.Index(all, "event: message_delta"):]
	},
	whole: func(s string) string {
		return strings.Replace(messageAnswer, `"Hello."`, strconv.Quote(s), 1)
	},
	read: func(t *testing.T, b *testbed.Bed, stream bool) (string, string, error) {
		text := ""
		if stream {
			m, err := messageStream(t, b, tell("go"))
			for _, c := range m.Content {
				text += c.Text
			}
			return text, string(m.StopReason), err
		}
		client := messageClient(b)
		m, err := client.Messages.New(context.Background(), tell("go"))
		if err != nil {
			return "", "", err
		}
		for _, c := range m.Content {
			text += c.Text
		}
		return text, string(m.StopReason), nil
	},
}, responsesProtocol, completionsProtocol}

func each(t *testing.T, fn func(t *testing.T, p protocol)) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) { fn(t, p) })
	}
}

// However an answer is cut into pieces, the client gets the text that it gets
// unstreamed, and the book holds the same decision. The pieces are cut at every
// place, and at random; the stream's bytes are cut at random, too.
func TestHoweverAnAnswerIsCutItIsTheSame(t *testing.T) {
	const answer = "Ask " + testbed.Mail + " or Bob (bob.jones@nordbank-it.com), ok."
	each(t, func(t *testing.T, p protocol) {
		up := &testbed.Upstream{JSON: p.whole(answer)}
		b := testbed.New(t, testbed.Options{Upstream: up})
		want, wantFinish, err := p.read(t, b, false)
		if err != nil || strings.Contains(want, "@") || !strings.Contains(want, testbed.Redacted) {
			t.Fatalf("unstreamed: %q, %v", want, err)
		}
		ds := testbed.Decisions(t, b)
		wantDecision := ds[len(ds)-1]
		var pieces []string
		up.Serve = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			all := p.begin()
			for _, s := range pieces {
				all += p.piece(s)
			}
			all += p.end()
			for len(all) > 0 {
				n := min(1+rand.IntN(200), len(all))
				_, _ = io.WriteString(w, all[:n])
				_ = http.NewResponseController(w).Flush()
				all = all[n:]
			}
		}
		check := func() {
			t.Helper()
			got, finish, err := p.read(t, b, true)
			if err != nil || got != want || finish != wantFinish {
				t.Fatalf("cut as %q: %q, %s, %v; want %q, %s", pieces, got, finish, err, want, wantFinish)
			}
			ds := testbed.Decisions(t, b)
			d := ds[len(ds)-1]
			if d.Kind != "output" || d.Decision != wantDecision.Decision || d.Rule != wantDecision.Rule || len(d.Findings) != len(wantDecision.Findings) || d.Bytes != wantDecision.Bytes {
				t.Fatalf("cut as %q: decision %+v, want %+v", pieces, d, wantDecision)
			}
		}
		for i := 1; i < len(answer); i++ {
			pieces = []string{answer[:i], answer[i:]}
			check()
		}
		for range 10 {
			pieces = nil
			for rest := answer; rest != ""; {
				n := min(1+rand.IntN(9), len(rest))
				pieces = append(pieces, rest[:n])
				rest = rest[n:]
			}
			check()
		}
	})
}

// playing is an upstream that sends some events and then does something.
func playing(p protocol, text string, then func(w http.ResponseWriter, r *http.Request)) *testbed.Upstream {
	return &testbed.Upstream{Serve: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, p.begin()+p.piece(text))
		_ = http.NewResponseController(w).Flush()
		then(w, r)
	}}
}

func TestAStreamThatBreaksEndsWithAnErrorInTheProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		then func(w http.ResponseWriter, r *http.Request)
		code string
	}{
		"dies":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "upstream_broken"},
		"ends":      {func(http.ResponseWriter, *http.Request) {}, "upstream_broken"},
		"stalls":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "upstream_timeout"},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: {oops\n\n") }, "upstream_broken"},
		"cut event": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: {\"a") }, "upstream_broken"},
		"huge event": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "data: "+strings.Repeat("x", 70<<10)+"\n\n")
		}, "upstream_broken"},
		"duplicate name": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: {\"a\":1,\"a\":2}\n\n") }, "upstream_broken"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, p protocol) {
				b := testbed.New(t, testbed.Options{Upstream: playing(p, "Hello. ", c.then), Policy: monitor,
					Gateway: gateway.Options{IdleTimeout: time.Second, EventLimit: 64 << 10}})
				text, _, err := p.read(t, b, true)
				if err == nil || !strings.Contains(err.Error(), c.code) && !strings.Contains(err.Error(), "upstream") {
					t.Errorf("the client sees %v", err)
				}
				if text != "Hello. " {
					t.Errorf("what came before is %q", text)
				}
				if e := testbed.Closing(t, b); e.Outcome != "upstream_failed" || !strings.HasPrefix(e.Detail, c.code) {
					t.Errorf("closing entry %+v", e)
				}
			})
		})
	}
}

func TestAKillCutsARunningStream(t *testing.T) {
	each(t, func(t *testing.T, p protocol) {
		var b *testbed.Bed
		gone := make(chan struct{})
		up := playing(p, "Hello. ", func(_ http.ResponseWriter, r *http.Request) {
			testbed.Opened(t, b)
			if _, err := b.Containments.Kill(context.Background(), "agent:"+testbed.Agent, "alice", "it sends data out", 0); err != nil {
				t.Error(err)
			}
			<-r.Context().Done() // the gateway lets go of the upstream
			close(gone)
		})
		b = testbed.New(t, testbed.Options{Upstream: up, Policy: monitor})
		text, finish, err := p.read(t, b, true)
		if err != nil || finish != p.filtered || !strings.Contains(text, "[Stopped by an operator (ref ") {
			t.Errorf("got %q, %s, %v", text, finish, err)
		}
		<-gone
		e := testbed.Closing(t, b)
		if k := b.Containments.List()[0]; e.Outcome != "contained" || e.Containment != k.ID || k.Cut != 1 {
			t.Errorf("closing entry %+v, containment %+v", e, k)
		}
		// And nothing more begins.
		text, finish, err = p.read(t, b, true)
		if err != nil || finish != p.filtered || !strings.Contains(text, "Stopped by an operator") || len(up.Seen()) != 1 {
			t.Errorf("the next call: %q, %s, %v", text, finish, err)
		}
	})
}

// readUntil reads a stream until a text has come: what came before it is no output yet.
func readUntil(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got, one := "", make([]byte, 1)
	for !strings.Contains(got, text) {
		if _, err := io.ReadFull(r, one); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(one)
	}
}

func TestAKillCutsWhatFollowsWhatTheClientHas(t *testing.T) {
	each(t, func(t *testing.T, p protocol) {
		b := testbed.New(t, testbed.Options{Policy: monitor, Upstream: playing(p, "Hello. ", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil { // it talks on and on
				_, _ = io.WriteString(w, p.piece("more "))
				_ = http.NewResponseController(w).Flush()
			}
		})})
		req, err := http.NewRequest(http.MethodPost, b.URL+p.path, strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(gateway.HeaderKey, testbed.Key)
		resp, err := b.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		readUntil(t, resp.Body, "Hello")
		if _, err := b.Containments.Kill(context.Background(), "agent:"+testbed.Agent, "alice", "it sends data out", 0); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, after, found := strings.Cut(string(rest), "[Stopped by an operator")
		if !found || strings.Contains(after, `"more `) { // a piece; the end may tell all of the text again
			t.Errorf("the stream ends with %.2000q", after)
		}
		if e := testbed.Closing(t, b); e.Outcome != "contained" {
			t.Errorf("closing entry %+v", e)
		}
	})
}

func TestAKillEndsACallThatWaitsForItsAnswer(t *testing.T) {
	each(t, func(t *testing.T, p protocol) {
		var b *testbed.Bed
		up := &testbed.Upstream{Serve: func(_ http.ResponseWriter, r *http.Request) {
			if _, err := b.Containments.Kill(context.Background(), "session:s-1", "alice", "enough", 0); err != nil {
				t.Error(err)
			}
			<-r.Context().Done()
		}}
		b = testbed.New(t, testbed.Options{Upstream: up})
		text, finish, err := p.read(t, b, false)
		if err != nil || finish != p.filtered || !strings.Contains(text, "Stopped by an operator") {
			t.Errorf("got %q, %s, %v", text, finish, err)
		}
		checkEntry(t, b, 200, "contained")
	})
}

func TestAClientThatGoesAwayStopsTheUpstream(t *testing.T) {
	each(t, func(t *testing.T, p protocol) {
		gone := make(chan struct{})
		b := testbed.New(t, testbed.Options{Policy: monitor, Upstream: playing(p, "Hello. ", func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			close(gone)
		})})
		ctx, cancel := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+p.path, strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(gateway.HeaderKey, testbed.Key)
		resp, err := b.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		readUntil(t, resp.Body, "Hello")
		cancel()
		<-gone
		if e := testbed.Closing(t, b); e.Outcome != "client_gone" {
			t.Errorf("closing entry %+v", e)
		}
		ds := testbed.Decisions(t, b)
		if d := ds[len(ds)-1]; d.Kind != "output" {
			t.Errorf("what was released was not decided on: %+v", d)
		}
	})
}

func TestASilentStreamIsKeptAlive(t *testing.T) {
	each(t, func(t *testing.T, p protocol) {
		more := make(chan struct{})
		b := testbed.New(t, testbed.Options{Gateway: gateway.Options{KeepAlive: 20 * time.Millisecond}, Upstream: playing(p, "Hello. ", func(w http.ResponseWriter, _ *http.Request) {
			<-more
			_, _ = io.WriteString(w, p.end())
		})})
		req, err := http.NewRequest(http.MethodPost, b.URL+p.path, strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(gateway.HeaderKey, testbed.Key)
		resp, err := b.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, buf := "", make([]byte, 4096)
		for !strings.Contains(got, ": ka\n\n") && !strings.Contains(got, "event: ping\n") {
			n, err := resp.Body.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, got)
			}
			got += string(buf[:n])
		}
		close(more)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if e := testbed.Closing(t, b); e.Outcome != "complete" {
			t.Errorf("closing entry %+v", e)
		}
	})
}
