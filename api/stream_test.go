package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/api"
)

// timeline is one client of the stream.
type timeline struct {
	t      *testing.T
	cancel context.CancelFunc
	body   io.ReadCloser
	lines  *bufio.Reader
}

func (w *world) follow(t *testing.T, query, last string) *timeline {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/api/v1/events/stream?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := w.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	x := &timeline{t, cancel, resp.Body, bufio.NewReaderSize(resp.Body, 1<<20)}
	t.Cleanup(x.close)
	return x
}

func (x *timeline) close() { x.cancel(); x.body.Close() }

// next reads one event: its id and its data.
func (x *timeline) next() (id int64, data string, err error) {
	for {
		line, err := x.lines.ReadString('\n')
		if err != nil {
			return 0, "", err
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ": "); {
		case name == "id":
			id, _ = strconv.ParseInt(value, 10, 64)
		case name == "data":
			data = value
		case line == "" && data != "":
			return id, data, nil
		}
	}
}

func (x *timeline) want(es ...guardbook.Entry) {
	x.t.Helper()
	for _, e := range es {
		id, data, err := x.next()
		if err != nil || id != e.Seq || data != string(e.Raw) {
			x.t.Fatalf("event %d %s, %v; want %d %s", id, data, err, e.Seq, e.Raw)
		}
	}
}

func TestTheStreamBeginsWithWhatHappensFromNowOn(t *testing.T) {
	w := newWorld(t)
	w.decided(t, "billing-bot", allowed())
	x := w.follow(t, "type=decision", "")
	x.want(w.decided(t, "billing-bot", allowed(), injection(guardbook.High))...)
}

func TestTheStreamGoesOnBehindTheLastEventWithoutLossOrRepetition(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	const n = 300
	wg.Go(func() {
		for range n {
			if err := w.rec.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeHeartbeat, Time: time.Now(), Body: guardbook.HeartbeatEntry{}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	var got []int64
	last := ""
	for i := 0; len(got) < n; i++ { // each connection is cut after a few events
		x := w.follow(t, "type=heartbeat&after=-1", last)
		for range min(37, n-len(got)) {
			id, _, err := x.next()
			if err != nil {
				t.Fatal(err)
			}
			got, last = append(got, id), strconv.FormatInt(id, 10)
		}
		x.close()
	}
	all, err := w.book.Read(t.Context(), 0, int(w.book.Size()))
	if err != nil {
		t.Fatal(err)
	}
	var want []int64
	for _, e := range all {
		if e.Type == guardbook.TypeHeartbeat {
			want = append(want, e.Seq)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheStreamHasTheSameFiltersAsTheList(t *testing.T) {
	w := newWorld(t)
	low, high := injection(guardbook.Low), injection(guardbook.High)
	high.Session = "s-2"
	es := w.decided(t, "billing-bot", allowed(), low, high)
	w.decided(t, "other-bot", injection(guardbook.Critical))
	end := es[2].Seq
	for _, q := range []string{"agent=billing-bot", "session=s-2", "class=prompt_injection", "severity=medium&type=decision", "action=block",
		"tool=query_database", "rule=billing-bot/findings/prompt_injection", "type=policy,decision", "class=pii", "agent=other-bot&action=allow"} {
		listed := seqs(t, w.call(t, "GET", fmt.Sprintf("/api/v1/events?order=asc&limit=1000&before=%d&%s", end+1, q), nil).want(t, 200))
		x := w.follow(t, "after=-1&"+q, "")
		var streamed []int64
		for range listed {
			id, _, err := x.next()
			if err != nil {
				t.Fatal(err)
			}
			streamed = append(streamed, id)
		}
		x.close()
		if !slices.Equal(listed, streamed) {
			t.Errorf("%s: the list has %v, the stream %v", q, listed, streamed)
		}
	}
}

func TestAClientOfAnEarlierEpochSeesAllOfTheNewOne(t *testing.T) {
	w := newWorld(t)
	es := w.decided(t, "billing-bot", allowed())
	w.follow(t, "type=decision", "4000").want(es...)
}

func TestTheStreamEndsAtShutdown(t *testing.T) {
	w := newWorld(t)
	x := w.follow(t, "", "")
	close(w.stopping)
	for {
		if _, _, err := x.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream broke off: %v", err)
			}
			return
		}
	}
}

func TestASlowClientDoesNotHoldUpAnother(t *testing.T) {
	w := newWorld(t)
	// A client that reads nothing, over a connection with small buffers.
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /api/v1/events/stream?after=-1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", w.token)
	x := w.follow(t, "type=heartbeat", "")
	big := map[string]int64{}
	for i := range 500 {
		big["counter."+strings.Repeat("x", 20)+strconv.Itoa(i)] = 1
	}
	for range 400 { // far more than the buffers of a connection
		if err := w.rec.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeHeartbeat, Time: time.Now(), Body: guardbook.HeartbeatEntry{Counters: big}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 400 {
		if _, _, err := x.next(); err != nil {
			t.Fatal(err)
		}
	}
}

// pipeBook is a book in which nothing happens: time in the bubble goes on.
type pipeBook struct{ api.Book }

func (pipeBook) Size() int64 { return 5 }

func (pipeBook) Follow(ctx context.Context, _ int64, _ func([]guardbook.Entry) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// deaf takes every fact and keeps none.
type deaf struct{}

func (deaf) Append(context.Context, ...guardbook.Draft) error { return nil }

// pipeWriter is an answer that a test reads as it is written.
type pipeWriter struct {
	*io.PipeWriter
	header http.Header
}

func (p pipeWriter) Header() http.Header { return p.header }
func (p pipeWriter) WriteHeader(int)     {}
func (p pipeWriter) Flush()              {}

func TestAQuietStreamIsKeptOpenByHeartbeats(t *testing.T) {
	var h http.Handler
	// Inside the bubble nothing may wait for the real book, which is outside.
	w := newWorld(t, func(o *api.Options) { o.Book, o.Recorder, o.Stopping = pipeBook{o.Book}, deaf{}, nil; h = api.New(*o) })
	synctest.Test(t, func(t *testing.T) {
		r, out := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events/stream?type=decision", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.token)
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { _ = recover() }() // the client went away
			h.ServeHTTP(pipeWriter{out, http.Header{}}, req)
		}()
		lines := bufio.NewReader(r)
		start := time.Now()
		for i, want := range []string{": the timeline", "retry: 1000", "", ": heartbeat", "id: 4", "", ": heartbeat", "id: 4", ""} {
			line, err := lines.ReadString('\n')
			if err != nil || strings.TrimSuffix(line, "\n") != want {
				t.Fatalf("line %d is %q, %v; want %q", i, line, err, want)
			}
		}
		if waited := time.Since(start); waited != 30*time.Second {
			t.Errorf("two heartbeats took %s", waited)
		}
		cancel()
		r.Close()
		<-done
	})
}

// busyBook always has another entry.
type busyBook struct {
	api.Book
	entry guardbook.Entry
}

func (b busyBook) Follow(ctx context.Context, _ int64, fn func([]guardbook.Entry) error) error {
	for ctx.Err() == nil {
		if err := fn([]guardbook.Entry{b.entry}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// oneConnection is a listener that has one connection to give.
type oneConnection struct {
	conns chan net.Conn
}

func (l oneConnection) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l oneConnection) Close() error   { return nil }
func (l oneConnection) Addr() net.Addr { return &net.TCPAddr{} }

func TestAClientThatTakesNothingIsDisconnected(t *testing.T) {
	var h http.Handler
	w := newWorld(t, func(o *api.Options) {
		e := guardbook.Entry{Header: guardbook.Header{Seq: 7}, Raw: []byte(`{"seq":7}`)}
		o.Book, o.Recorder, o.Stopping = busyBook{o.Book, e}, deaf{}, nil
		h = api.New(*o)
	})
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		l := oneConnection{make(chan net.Conn, 1)}
		l.conns <- conn
		gone := make(chan struct{})
		server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			defer close(gone)
			h.ServeHTTP(rw, r)
		})}
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(l) }()
		fmt.Fprintf(client, "GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", w.token)
		start := time.Now()
		<-gone // nobody reads the other end
		if waited := time.Since(start); waited < 15*time.Second || waited > time.Minute {
			t.Errorf("it was disconnected after %s", waited)
		}
		client.Close()
		close(l.conns)
		<-served
	})
}
