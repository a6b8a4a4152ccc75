package stdio

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Address is where a Guardbook server is, and an agent's key for it.
type Address struct{ URL, Key string }

// HeaderIdentity identifies, in the request that opens a link, the MCP server by what
// is started, since what a server calls itself proves nothing: tools are pinned to it.
const HeaderIdentity = "X-Guardbook-Mcp-Identity"

// refusedError means that the server is there, and does not take this wrapper.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

var (
	errUnreachable = mcp.ErrUnreachable
	errUnanswered  = fmt.Errorf("%w: it did not answer in time", mcp.ErrUnreachable)
)

// link is one connection to a Guardbook server, on which any number of questions are
// under way.
type link struct {
	conn io.ReadWriteCloser
	mu   sync.Mutex // of w
	w    *bufio.Writer

	waiting sync.Mutex // of what follows
	next    uint32
	asked   map[uint32]chan frame

	heard atomic.Int64  // when something last came, in nanoseconds
	down  chan struct{} // closed when the link is of no more use
	once  sync.Once
	end   atomic.Pointer[string] // what the server said when it ended everything
}

var linkTransport = sync.OnceValue(func() *http.Transport {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 10 * time.Second,
		Protocols:             new(http.Protocols), // an upgrade is HTTP/1.1's
	}
	t.Protocols.SetHTTP1(true)
	return t
})

// dial opens a link. ctx is the link's for all its life.
func dial(ctx context.Context, at Address, server string, header http.Header) (*link, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(at.URL, "/")+"/mcp-stdio/"+url.PathEscape(server), nil)
	if err != nil {
		return nil, &refusedError{"the address of Guardbook, " + at.URL + ", cannot be used: set GUARDBOOK_URL to http://HOST:PORT"}
	}
	req.Header = header.Clone()
	req.Header.Set(gateway.HeaderKey, at.Key)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	resp, err := linkTransport().RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", errUnreachable, at.URL, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, refusal(resp, at.URL)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.Header.Get("Upgrade") != Protocol {
		resp.Body.Close()
		return nil, &refusedError{at.URL + " is not a Guardbook server that this version can talk to"}
	}
	l := &link{conn: conn, w: bufio.NewWriterSize(conn, 64<<10), down: make(chan struct{}), asked: map[uint32]chan frame{}}
	go l.read()
	return l, nil
}

func refusal(resp *http.Response, at string) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // without it, the status says enough
	var told struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	text := fmt.Sprintf("the Guardbook server at %s answered %s", at, resp.Status)
	if json.Unmarshal(b, &told) == nil && told.Error.Message != "" {
		text += ": " + told.Error.Message
	}
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return fmt.Errorf("%w: %s", errUnreachable, text)
	}
	return &refusedError{text}
}

// read takes answers off the connection until it ends.
func (l *link) read() {
	defer l.close()
	r := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		l.heard.Store(time.Now().UnixNano())
		switch f.kind {
		case answered, failed, corrupt:
			l.waiting.Lock()
			c := l.asked[f.id]
			delete(l.asked, f.id)
			l.waiting.Unlock()
			if c != nil {
				c <- f
			}
		case stopped:
			text := string(f.data)
			l.end.Store(&text)
			return
		default:
			return
		}
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.down)
		_ = l.conn.Close()
	})
}

// ask asks one question, and reads the answer into out.
func (l *link) ask(ctx context.Context, kind byte, question, out any, within time.Duration) error {
	b, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("ask Guardbook: %w", err)
	}
	c := make(chan frame, 1)
	l.waiting.Lock()
	l.next++
	id := l.next
	l.asked[id] = c
	l.waiting.Unlock()
	defer func() {
		l.waiting.Lock()
		delete(l.asked, id)
		l.waiting.Unlock()
	}()
	if err := l.send(frame{kind, id, b}); err != nil {
		return err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case f := <-c:
		return f.read(out)
	case <-l.down:
		select {
		case f := <-c: // it came just before the end
			return f.read(out)
		default:
			return errUnreachable
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		// A server that answers others is slow; one that says nothing at all is gone,
		// though nobody has closed the connection.
		if time.Since(time.Unix(0, l.heard.Load())) >= within {
			l.close()
		}
		return errUnanswered
	}
}

// answerError is what the server said instead of an answer: it is there, and cannot.
type answerError struct {
	text string
	kind error // nil: nothing more is known
}

func (e *answerError) Error() string { return e.text }
func (e *answerError) Unwrap() error { return e.kind }

func (f frame) read(out any) error {
	switch f.kind {
	case failed:
		return &answerError{text: string(f.data)}
	case corrupt:
		return &answerError{string(f.data), pin.ErrCorrupt}
	}
	if err := json.Unmarshal(f.data, out); err != nil {
		return fmt.Errorf("read Guardbook's answer: %w", err)
	}
	return nil
}

// tell says something that is not answered.
func (l *link) tell(kind byte, what any) error {
	b, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("tell Guardbook: %w", err)
	}
	return l.send(frame{kind, 0, b})
}

func (l *link) send(f frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := writeFrame(l.w, f); err != nil {
		l.close()
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return nil
}
