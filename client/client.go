// Package client is Guardbook's Go SDK: it asks the guard before an agent reads, says
// or does something, obeys the decision, and sees to it that what could not be asked
// is told afterwards. It decides nothing itself.
//
//	guard, err := client.New(client.Options{Agent: "billing-bot"})
//	openaiClient := openai.NewClient(option.WithMiddleware(guard.Middleware()))
//	args, err := guard.ToolCall(ctx, guardbook.Tool{Name: "send_email", Arguments: args})
//
// Package client/mcp has the middleware for the MCP SDK, and client/embedded a guard
// within the process, without a server.
package client

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/local"
)

// Options are what a Guard is made of. Agent is required; whatever else is empty
// comes from the environment (GUARDBOOK_URL, GUARDBOOK_KEY) or has a default.
type Options struct {
	Agent string // the agent's name
	URL   string // of the server; empty, also in the environment: this user's own server, started if need be
	Key   string // the agent's key; not needed for the user's own server

	Session string // of interactions whose context names none; empty: one made up for this Guard
	User    string // on whose behalf the agent acts, unless the context says
	Parent  string // the agent that delegates to this one, unless the context says

	// OnUnavailable says what happens to a kind of interaction when no decision can be
	// had: allow, or block. Default: block for tool calls, allow for texts. A model call
	// that offers tools counts as a tool call.
	OnUnavailable map[guardbook.Kind]guardbook.Action
	// AsksTools says that the program asks with ToolCall about every call before it runs
	// it. A denied call of a model's answer then does not end the model call: ToolCall
	// says so, and its message goes back to the model as the tool's result. The decision
	// on the answer is recorded either way.
	AsksTools bool
	// Budget is how long a decision may take, and a model call until it is connected.
	// Default 250 ms.
	Budget time.Duration

	Data   string // data directory of the user's own server and of the spool; default local.DefaultData
	Binary string // the guardbook program; default GUARDBOOK_BINARY, then the PATH
	Log    *slog.Logger

	// Transport is how the server is reached; client/embedded sets it. nil: the network.
	Transport http.RoundTripper
}

// Guard asks for decisions on one agent. It is safe for concurrent use.
type Guard struct {
	o       Options
	id      string
	local   bool
	http    *http.Client
	breaker breaker
	seq     atomic.Int64
	spool   *Spool

	mu     sync.Mutex
	server server
	asked  time.Time // when the user's own server was last looked for
	failed error     // why it was not found then

	gap struct { // the interval in which the server could not be reached
		sync.Mutex
		from  time.Time
		count int64
		cause string
	}
}

// server is where decisions come from.
type server struct{ url, key string }

// New returns a guard. Nothing is asked or started until it is used.
func New(o Options) (*Guard, error) {
	if o.Agent == "" {
		o.Agent = os.Getenv("GUARDBOOK_AGENT")
	}
	if o.Agent == "" {
		return nil, errors.New("guardbook: name the agent: client.Options{Agent: \"billing-bot\"}")
	}
	if o.URL == "" {
		o.URL = os.Getenv("GUARDBOOK_URL")
	}
	if o.Key == "" {
		o.Key = os.Getenv("GUARDBOOK_KEY")
	}
	if o.Budget == 0 {
		o.Budget = 250 * time.Millisecond
	}
	if o.Session == "" {
		o.Session = "go-" + uuid.Must(uuid.NewV7()).String()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	for kind, a := range o.OnUnavailable {
		if a != guardbook.ActionAllow && a != guardbook.ActionBlock {
			return nil, fmt.Errorf("guardbook: OnUnavailable[%s] is %q: use allow or block", kind, a)
		}
	}
	if o.Data == "" {
		dir, err := local.DefaultData()
		if err != nil {
			return nil, fmt.Errorf("guardbook: %w", err)
		}
		o.Data = dir
	}
	g := &Guard{o: o, id: uuid.NewString(), breaker: breaker{now: time.Now}}
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("guardbook: GUARDBOOK_URL is %q: give http://HOST:PORT or https://HOST", o.URL)
		}
		if o.Key == "" {
			return nil, fmt.Errorf("guardbook: the server %s needs the agent's key: set GUARDBOOK_KEY (`guardbook agents create %s` prints one)", u.Redacted(), o.Agent)
		}
		g.server = server{strings.TrimRight(o.URL, "/"), o.Key}
	} else {
		g.local = true
	}
	g.http = &http.Client{Transport: o.Transport}
	if o.Transport == nil {
		g.http.Transport = newTransport(o.Budget)
	}
	g.spool = NewSpool(SpoolOptions{Dir: filepath.Join(o.Data, "spool", "go"), Client: g.id, Agent: o.Agent,
		URL: g.server.url, Key: g.server.key, Data: o.Data, Post: g.post, Log: o.Log})
	return g, nil
}

// newTransport keeps connections, gives up early on one that cannot be made, and goes
// to this machine without a proxy.
func newTransport(budget time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment, // which leaves loopback alone
		DialContext:         (&net.Dialer{Timeout: budget, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 4 * budget,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

// Client is the id of this process's questions, as `guardbook clients` lists it.
func (g *Guard) Client() string { return g.id }

// Flush tells the server what could not be told so far; what cannot be told before
// ctx ends stays on disk for a later process.
func (g *Guard) Flush(ctx context.Context) error {
	g.settle(false)
	return g.spool.Flush(ctx)
}

// Close flushes for at most two seconds and lets everything go.
func (g *Guard) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	flushed := g.Flush(ctx)
	err := g.spool.Close()
	g.http.CloseIdleConnections()
	return errors.Join(flushed, err)
}

// reach returns the server; the user's own is found, or started.
func (g *Guard) reach(ctx context.Context) (server, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server.url != "" {
		return g.server, nil
	}
	if g.failed != nil && time.Since(g.asked) < 2*time.Second {
		return server{}, g.failed
	}
	g.asked = time.Now()
	s, err := g.find(ctx)
	if err != nil {
		g.failed = err
		return server{}, err
	}
	g.server = s
	return s, nil
}

// find runs `guardbook local`.
func (g *Guard) find(ctx context.Context) (server, error) {
	binary := g.o.Binary
	if binary == "" {
		binary = os.Getenv("GUARDBOOK_BINARY")
	}
	if binary == "" {
		path, err := exec.LookPath("guardbook")
		if err != nil {
			return server{}, errors.New("no server is named and the guardbook program is not in the PATH: set GUARDBOOK_URL and GUARDBOOK_KEY, or GUARDBOOK_BINARY, or use client/embedded")
		}
		binary = path
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "local", "--data", g.o.Data, "--agent", g.o.Agent, "--json")
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return server{}, fmt.Errorf("start the local server: %w: %s", err, strings.TrimSpace(said.String()))
	}
	var told struct{ URL, Key, Dashboard string }
	if err := json.Unmarshal(out.Bytes(), &told, json.MatchCaseInsensitiveNames(true)); err != nil {
		return server{}, fmt.Errorf("start the local server: read what it says: %w", err)
	}
	if told.Dashboard != "" {
		g.o.Log.Info("guardbook: a local server was started; this link logs in to its dashboard, once", "dashboard", told.Dashboard, "data", g.o.Data)
	}
	return server{told.URL, told.Key}, nil
}

// lost forgets where the user's own server was: it may come back elsewhere.
func (g *Guard) lost(err error) {
	var op *net.OpError
	if !g.local || !errors.As(err, &op) || op.Op != "dial" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.server = server{}
}

// post asks the server.
func (g *Guard) post(ctx context.Context, path string, body []byte) (int, []byte, error) {
	s, err := g.reach(ctx)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Guardbook-Key", s.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.http.Do(req)
	if err != nil {
		g.lost(err)
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, answer, err
}

// away notes that an interaction had no decision; the interval is told when the
// server is back.
func (g *Guard) away(cause error) {
	g.gap.Lock()
	defer g.gap.Unlock()
	if g.gap.count == 0 {
		g.gap.from, g.gap.cause = time.Now(), cause.Error()
		g.o.Log.Warn("guardbook: no decision can be had", "agent", g.o.Agent, "error", cause)
	}
	g.gap.count++
}

// settle tells of the interval in which the server was away, if there was one.
func (g *Guard) settle(back bool) {
	g.gap.Lock()
	from, count, cause := g.gap.from, g.gap.count, g.gap.cause
	g.gap.count = 0
	g.gap.Unlock()
	if count == 0 {
		return
	}
	now := time.Now()
	if back {
		g.o.Log.Info("guardbook: decisions can be had again", "agent", g.o.Agent, "without", count, "for", now.Sub(from).Round(time.Millisecond))
	}
	g.spool.Add(Told{Event: "degraded", Reason: cause, From: stamp(from), To: stamp(now), Count: count})
}
