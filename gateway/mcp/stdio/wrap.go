// Package stdio guards an MCP server that an agent starts as a program and talks to
// over its standard streams: one JSON-RPC message a line.
//
// Wrap runs beside the agent, in the place of the server: it starts the server and
// reads every message. Decisions, pins and the record are a Guardbook server's, which
// it asks over one kept connection, a link; Door is that server's end of it. A kill
// reaches a wrapper through its link, and ends it and the MCP server at once.
package stdio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Options are what Wrap is told.
type Options struct {
	Server  string   // the MCP server's configured name
	Command []string // what starts it
	// Find says where Guardbook is. It is called for each link, so it may start a
	// server that is gone.
	Find func(context.Context) (Address, error)

	Session, User, Parent string        // as in the headers of the gateway; each may be empty
	Unavailable           Unavailable   // default Block
	Budget                time.Duration // for one answer; default 5 s
	Grace                 time.Duration // for each step of ending the server; default 1.5 s

	// Spool says where on disk is kept what happened without a decision (Dir), and
	// whose it is (Agent, URL and Key, or Data).
	Spool client.SpoolOptions

	In       io.Reader // from the MCP client
	Out, Err io.Writer // to the MCP client, and to people
}

// Wrap runs the MCP server until its client, or itself, ends, and returns its exit
// code. An error means that nothing was started.
func Wrap(ctx context.Context, o Options) (code int, err error) {
	switch {
	case !ServerName(o.Server):
		return 0, errors.New("the server's name must have 1 to 64 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
	case len(o.Command) == 0 || o.Command[0] == "":
		return 0, errors.New("no command is given that starts the MCP server")
	}
	if o.Unavailable == "" {
		o.Unavailable = Block
	}
	if o.Budget == 0 {
		o.Budget = 5 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 1500 * time.Millisecond // clients give a server two seconds to end
	}
	if o.Session == "" {
		o.Session = "mcp-" + uuid.NewString()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &wrapper{o: o, over: make(chan end, 8), waiting: map[string]string{}, hello: map[string]bool{}}
	w.out = newOutbox(o.Out, func() { w.finish(end{}) }) // nobody is there to hear the server
	tried := make(chan error, 1)
	w.links = newLinks()
	w.links.find, w.links.server, w.links.header = o.Find, o.Server, w.header()
	w.links.linked = w.linked
	w.links.stopped = w.killed
	w.record = newRecord(o.Server, o.Session, o.Spool, slog.New(slog.NewTextHandler(o.Err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	defer func() {
		if closeErr := w.record.close(); closeErr != nil && w.child != nil {
			w.say(closeErr.Error())
		}
	}()
	w.keeper = &keeper{links: w.links, mode: o.Unavailable, budget: o.Budget, record: w.record}
	w.session = mcp.NewSession(mcp.Options{
		Keeper: w.keeper, Server: pin.Server{Name: o.Server}, Caller: gateway.Caller{Agent: "wrapped", Session: o.Session}, Path: via,
	})
	go w.links.run(ctx, func(err error) { tried <- err })
	select {
	case err := <-tried:
		if err != nil && !errors.Is(err, errUnreachable) {
			return 0, err
		}
		if err != nil {
			w.say(err.Error() + "; until it can be, no tool can be called")
		}
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	c, err := start(o.Command, o.Err)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	w.child = c
	dead := w.dead
	w.mu.Unlock()
	if dead {
		killGroup(c.cmd)
	}
	return w.run(ctx), nil
}

// killed ends everything at once: an operator's order, which does not wait for anything
// that is under way.
func (w *wrapper) killed(text string) {
	w.finish(end{text: text, code: 1})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	if w.child != nil {
		killGroup(w.child.cmd)
	}
}

// wrapper is one running Wrap.
type wrapper struct {
	o       Options
	links   *links
	keeper  *keeper
	record  *record
	session *mcp.Session
	child   *child
	out, in *outbox // to the client, to the server
	over    chan end

	mu      sync.Mutex
	waiting map[string]string // methods of the client's requests that wait for an answer, by id
	hello   map[string]bool   // those among them that begin a connection
	dead    bool              // killed
}

// end is why everything ends.
type end struct {
	text string // for whoever waits for an answer, and for people; may be empty
	code int    // exit code, when it is not the MCP server's
	told bool   // the server was told already, by a signal
}

func (w *wrapper) finish(e end) {
	select {
	case w.over <- e:
	default: // so many others came first
	}
}

// say tells people something; stdout is the protocol's.
func (w *wrapper) say(text string) { fmt.Fprintf(w.o.Err, "guardbook: %s\n", text) }

// header is what a link's request says beside the key. The command's arguments are
// told as a hash only: one of them may be a secret.
func (w *wrapper) header() http.Header {
	out := http.Header{}
	out.Set(HeaderIdentity, pin.CommandIdentity(w.o.Command))
	for name, v := range map[string]string{gateway.HeaderSession: w.o.Session, gateway.HeaderUser: w.o.User, gateway.HeaderParent: w.o.Parent} {
		if v != "" {
			out.Set(name, v)
		}
	}
	return out
}

// linked is called with each new link.
func (w *wrapper) linked(at Address) {
	w.record.back(at)
	if v := w.session.Version(); w.keeper.listRefused.Swap(false) && v != "" && v < modern {
		_ = w.out.put([]byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`), false) // a client that is gone asks for no list
	}
}

// modern is the first revision without sessions: there, news go to who subscribed.
const modern = "2026-07-28"

func (w *wrapper) run(ctx context.Context) int {
	w.in = newOutbox(w.child.stdin, func() {}) // a server that has ended is noticed as such
	signals := make(chan os.Signal, 8)
	stop := notify(signals)
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				if forward(w.child.cmd, s) {
					w.finish(end{told: true})
				}
			case <-ended:
				return
			}
		}
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		w.pump(ctx, mcp.FromServer, newLines(w.child.stdout), w.out, w.in)
	}()
	go w.pump(ctx, mcp.FromClient, newLines(w.o.In), w.in, w.out)
	var e end
	select {
	case e = <-w.over:
	case <-ctx.Done():
	case <-w.child.ended:
	}
	if e.told { // it ends as it likes, and sees the end of its input only if it does not
		select {
		case <-w.child.ended:
		case <-time.After(w.o.Grace):
		}
	}
	w.in.close(w.o.Grace)
	w.child.stop(w.o.Grace)
	select {
	case <-drained:
	case <-time.After(time.Second): // something that left the group still holds the pipe
	}
	_ = w.child.stdout.Close()
	<-drained
	for e.text == "" && len(w.over) > 0 { // what happened meanwhile says more than that somebody has ended
		e = <-w.over
	}
	w.answerAll(e.text)
	w.out.close(time.Second)
	w.child.drain.Wait()
	if e.text != "" {
		w.say(e.text)
	}
	if e.code != 0 {
		return e.code
	}
	return w.child.code()
}

// answerAll answers every request that waits: a client whose server is gone must not
// wait for ever.
func (w *wrapper) answerAll(text string) {
	if text == "" {
		text = "the MCP server has ended"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, method := range w.waiting {
		_ = w.out.put(answerFor(peeked{id: id, method: method}, text), false) // a client that is gone waits for nothing
	}
	clear(w.waiting)
}

// atOnce messages of one direction are decided on at a time; they go on in the order
// in which they came.
const pumped = 16

// pump takes messages from one side until it ends.
func (w *wrapper) pump(ctx context.Context, from mcp.Direction, lines *lines, next, back *outbox) {
	results := make(chan chan outcome, pumped)
	emitted := make(chan struct{})
	go func() {
		defer close(emitted)
		for c := range results {
			w.emit(from, <-c, next, back)
		}
	}()
	var busy sync.WaitGroup
	var err error
	for {
		var line []byte
		if line, err = lines.next(); err != nil {
			break
		}
		c := make(chan outcome, 1)
		results <- c
		p, perr := peek(line)
		// What a message means may rest on what came before it, except for what only
		// asks and answers.
		if perr == nil && len(line) < 1<<20 && !p.notification() && !greets(p.method) {
			busy.Go(func() { c <- outcome{w.handle(ctx, from, p, line), p} })
			continue
		}
		busy.Wait()
		c <- outcome{w.handle(ctx, from, p, line), p}
	}
	busy.Wait()
	if errors.Is(err, errTooLong) {
		c := make(chan outcome, 1)
		c <- outcome{Result: w.session.TooLarge(ctx, from, MessageLimit)}
		results <- c
	}
	close(results)
	<-emitted
	switch {
	case errors.Is(err, errTooLong):
		w.finish(end{text: "a message was larger than 16 MiB: the connection is closed", code: 1})
	default:
		w.finish(end{}) // the client has ended, or the server
	}
}

// greets reports whether a request begins a connection.
func greets(method string) bool { return method == "initialize" || method == "server/discover" }

// handle has one message decided on.
func (w *wrapper) handle(ctx context.Context, from mcp.Direction, p peeked, line []byte) mcp.Result {
	w.mu.Lock()
	greeting := from == mcp.FromClient && greets(p.method) || from == mcp.FromServer && p.response() && w.hello[p.id]
	if greeting && from == mcp.FromClient {
		w.hello[p.id] = true
	}
	w.mu.Unlock()
	if !greeting || w.links.up(ctx) {
		return w.session.Handle(ctx, from, line)
	}
	// A client that is refused its handshake never comes back: it goes on, without the
	// texts for its model, which nobody has read.
	if from == mcp.FromServer && w.o.Unavailable == Block {
		if cut, err := withoutInstructions(line); err == nil {
			line = cut
		}
	}
	return w.session.Handle(context.WithValue(ctx, handshake{}, true), from, line)
}

// outcome is what became of a message.
type outcome struct {
	mcp.Result
	of peeked
}

// emit passes on what became of a message.
func (w *wrapper) emit(from mcp.Direction, r outcome, next, back *outbox) {
	w.mu.Lock()
	switch {
	case from == mcp.FromClient && r.Forward != nil && !r.Response && r.ID != "":
		w.waiting[r.ID] = r.Method
	case from == mcp.FromClient && r.of.method == "notifications/cancelled":
		delete(w.waiting, r.of.gone)
	case from == mcp.FromServer && r.Response && r.Forward != nil:
		delete(w.waiting, r.ID)
		delete(w.hello, r.ID)
	}
	w.mu.Unlock()
	// A reader that has ended is noticed by the pump that reads from it.
	if r.Forward != nil {
		_ = next.put(bytes.TrimSpace(r.Forward), true)
	}
	if r.Answer != nil {
		_ = back.put(r.Answer, false)
	}
}
