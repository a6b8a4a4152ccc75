//go:build unix

package stdio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// linked returns a keeper that asks a real server.
func linked(t testing.TB) *keeper {
	bed := testbed.New(t, testbed.Options{})
	door := NewDoor(bed.Gateway, nil, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(prefix, door)
	srv := httptest.NewUnstartedServer(mux)
	srv.Config = gateway.NewServer(mux, slog.New(slog.DiscardHandler))
	srv.Start()
	t.Cleanup(srv.Close)
	t.Cleanup(door.Close)
	ls := newLinks()
	ls.find = func(context.Context) (Address, error) { return Address{srv.URL, testbed.Key}, nil }
	ls.server, ls.header = "desk", http.Header{HeaderIdentity: {pin.CommandIdentity([]string{"desk"})}}
	ls.linked, ls.stopped = func(Address) {}, func(text string) { t.Error(text) }
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	tried := make(chan error, 1)
	go ls.run(ctx, func(err error) { tried <- err })
	if err := <-tried; err != nil {
		t.Fatal(err)
	}
	k := &keeper{links: ls, mode: Block, budget: 10 * time.Second, record: newRecord("desk", "s-1", client.SpoolOptions{Dir: t.TempDir(), URL: srv.URL, Key: testbed.Key}, slog.New(slog.DiscardHandler))}
	t.Cleanup(func() { _ = k.record.close() }) // the server is gone by then
	return k
}

func BenchmarkQuestion(b *testing.B) {
	k := linked(b)
	b.Run("pin", func(b *testing.B) {
		for b.Loop() {
			if _, err := k.Tool(b.Context(), "", pin.Server{}, "note"); err != nil {
				b.Fatal(err)
			}
		}
	})
	text := strings.Repeat("The quarterly figures are in line with what was planned. ", 9)
	b.Run("decision", func(b *testing.B) {
		for b.Loop() {
			if _, err := k.Decide(b.Context(), &guardbook.Interaction{Kind: guardbook.KindToolResult, Path: "mcp/stdio/tools/call", Content: []guardbook.Part{guardbook.TextPart(text)}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// An agent's side says what it likes: who it is, and where it talks, it does not decide.
func TestTheServerBelievesOnlyTheKey(t *testing.T) {
	k := linked(t)
	ds, err := k.Decide(t.Context(), &guardbook.Interaction{
		Kind: guardbook.KindToolCall, Tenant: "other", Agent: "somebody-else", Path: "mcp/stdio/tools/call",
		Tool: &guardbook.Tool{Server: "bank", Name: "transfer", Arguments: []byte(`{"to": "me"}`)},
	})
	if err != nil || len(ds) != 1 || ds[0].Action != guardbook.ActionBlock || ds[0].Policy != testbed.Agent {
		t.Errorf("%+v %v", ds, err)
	}
	for _, in := range []*guardbook.Interaction{
		{Kind: "gossip", Path: "mcp/stdio/x"},
		{Kind: guardbook.KindInput, Path: "mcp/stdio/\x1b[2J"},
		{Kind: guardbook.KindInput, Path: "mcp/stdio/" + strings.Repeat("x", 200)},
	} {
		if _, err := k.Decide(t.Context(), in); err == nil || away(err) {
			t.Errorf("%v was taken: %v", in.Kind, err)
		}
	}
}

// A peer that has vanished without a word (a machine that sleeps, a network that
// forgets) costs one answer, and the next question goes over a new link.
func TestASilentLinkIsGivenUp(t *testing.T) {
	k := linked(t)
	elsewhere, silent := k.links.find, atomic.Bool{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				t.Error(err)
				return
			}
			silent.Store(true)
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", Protocol)
		}
	}()
	ls := newLinks()
	ls.server, ls.header, ls.linked, ls.stopped = "desk", k.links.header, func(Address) {}, func(string) {}
	ls.find = func(ctx context.Context) (Address, error) {
		if silent.Load() {
			return elsewhere(ctx)
		}
		return Address{"http://" + l.Addr().String(), testbed.Key}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tried := make(chan error, 1)
	go ls.run(ctx, func(err error) { tried <- err })
	if err := <-tried; err != nil {
		t.Fatal(err)
	}
	k.links, k.budget = ls, 100*time.Millisecond
	if _, err := k.Tool(t.Context(), "", pin.Server{}, "note"); !errors.Is(err, errUnanswered) {
		t.Errorf("a silent peer: %v", err)
	}
	k.budget = 10 * time.Second
	for range 100 {
		if _, err = k.Tool(t.Context(), "", pin.Server{}, "note"); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("no other link: %v", err)
}

func TestNothingButAWrapperOpensALink(t *testing.T) {
	bed := testbed.New(t, testbed.Options{})
	door := NewDoor(bed.Gateway, nil, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(door)
	t.Cleanup(srv.Close)
	id := pin.CommandIdentity([]string{"desk"})
	for name, h := range map[string]http.Header{
		"no key":          {"Upgrade": {Protocol}, HeaderIdentity: {id}},
		"an operator's":   {"Upgrade": {Protocol}, HeaderIdentity: {id}, gateway.HeaderKey: {"gbo_x_y"}},
		"no identity":     {"Upgrade": {Protocol}, gateway.HeaderKey: {testbed.Key}},
		"no upgrade":      {HeaderIdentity: {id}, gateway.HeaderKey: {testbed.Key}},
		"another upgrade": {"Upgrade": {"websocket"}, HeaderIdentity: {id}, gateway.HeaderKey: {testbed.Key}},
		"a bad session":   {"Upgrade": {Protocol}, HeaderIdentity: {id}, gateway.HeaderKey: {testbed.Key}, gateway.HeaderSession: {strings.Repeat("s", 300)}},
	} {
		req, err := http.NewRequest(http.MethodGet, srv.URL+prefix+"desk", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = h
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}
