// Package mcp guards the Model Context Protocol at the level of raw JSON-RPC
// messages. It reads each message that goes between an agent and an MCP server, has
// what it carries decided on, and returns what goes on: the same bytes, an edited
// message, or an answer in the place of it. Members and methods that it does not
// know pass as they are, and their texts are scanned like all others.
//
// Both eras of the protocol are understood: sessions up to revision 2025-11-25
// (initialize, requests of the server, notifications, tasks, batches in 2025-03-26),
// and the stateless revision 2026-07-28 (server/discover, results that ask for input,
// inputResponses, requestState).
//
// # How to build a proxy on it
//
// A transport makes one Session for each connection and hands it every message, with
// its direction:
//
//	s := mcp.NewSession(mcp.Options{Keeper: keeper, Server: server, Caller: caller})
//	r := s.Handle(ctx, mcp.FromClient, line) // the message without its line end
//	if r.Forward != nil { toServer(r.Forward) } // goes on in the same direction
//	if r.Answer != nil { toClient(r.Answer) }   // goes back to the sender
//	if r.Forward == nil && r.Answer == nil { /* dropped */ }
//
// Handle may be called for both directions at once, and for many messages of one
// direction at once; the order of messages is the transport's affair. What Handle
// returns is one line: no message that it forwards holds a raw line end. A message
// that is larger than the transport's limit must not reach Handle: see TooLarge.
//
// Who decides, and who keeps the pins, is the Keeper: Local is the one in the server's
// process; a proxy in another process asks the server.
package mcp

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Direction is which way a message goes.
type Direction int

// The directions.
const (
	FromClient Direction = iota // from the agent to the server
	FromServer                  // from the server to the agent
)

// The codes of JSON-RPC errors that Guardbook answers with.
const (
	CodeBlocked        = -32010 // policy blocked it; -32000..-32019 are an implementation's own
	CodeInvalidRequest = -32600
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	CodeParse          = -32700
)

// The limits of a message.
const (
	// MaxMessage is what a transport should take as the largest message, in bytes.
	MaxMessage = 16 << 20
	maxID      = 1024
	maxState   = 64 << 10 // requestState
	maxPending = 10_000   // requests under way in one direction
)

// ErrUnreachable is the error of a Keeper in another process that nobody answers.
var ErrUnreachable = errors.New("the Guardbook server cannot be reached")

// Keeper is where a Session asks: it decides, keeps the pins and the record.
type Keeper interface {
	// Decide decides on each interaction, in order; the decisions are in the book
	// when it returns. An error means that they are not, or that nobody could be
	// asked: nothing is released.
	Decide(ctx context.Context, ins ...*guardbook.Interaction) ([]guardbook.Decision, error)
	// Tools judges the definitions of one page of a tools/list answer, in order.
	Tools(ctx context.Context, agent string, s pin.Server, p pin.Page) ([]pin.Verdict, error)
	// Tool judges a call of a tool, which may come without any list.
	Tool(ctx context.Context, agent string, s pin.Server, tool string) (pin.Verdict, error)
	// Refused records a message that was refused before, or without, a decision.
	Refused(ctx context.Context, e guardbook.RefusalEntry)
}

// Options are what a Session is made of. Keeper, Server and Caller.Agent are required.
type Options struct {
	Keeper Keeper
	Server pin.Server // the server's configured name, and its identity for pins
	Caller gateway.Caller
	// Path begins the entry path of the session's interactions; default "mcp".
	Path string
	// Version is the protocol revision, if the transport knows it from elsewhere (the
	// MCP-Protocol-Version header); a Session learns it from initialize by itself.
	Version string
	Now     func() time.Time
}

// Session guards one connection of one agent to one server. It is safe for
// concurrent use.
type Session struct {
	o Options

	mu       sync.Mutex
	version  string
	pending  [2]map[string]*request // by id, of requests that came from the direction
	tools    map[string]tool        // offered so far, by name
	listings map[string]*listing    // tools/list under way, by the cursor of the next page
	tasks    map[string]string      // tools of calls that became tasks, by the task's id
}

// request is one that waits for its answer.
type request struct {
	method    string
	id        string // as it was written
	tool      string // tools/call
	modern    bool   // of the stateless era
	cancelled bool
	cursor    string // tools/list
	task      string // tasks/result
}

// tool is what a session remembers of a tool that was offered.
type tool struct{ constrained bool }

// Result is what becomes of one message.
type Result struct {
	Forward []byte // goes on in the message's direction; nil: nothing does
	Answer  []byte // goes back to whoever sent it; nil: nothing does
	// Method is the message's method; of an answer, that of its request; "" if unknown.
	Method string
	// Tool is the name of the tool that is called or was, if any.
	Tool string
	// Response reports whether the message answers a request, and ID is the id, as
	// written, of a request or an answer.
	Response bool
	ID       string
	// Decision is the strictest decision on the message; its Entry is empty when
	// nothing had to be decided.
	Decision guardbook.Decision
	// Refusal says why the message was refused without a decision; nil: it was not.
	Refusal *guardbook.RefusalEntry
	// Edited reports whether Forward differs from what came.
	Edited bool
	// Arguments are those of a tools/call as they go on, for transports that mirror
	// them elsewhere; nil when they are as they came.
	Arguments []byte
}

// NewSession returns a session.
func NewSession(o Options) *Session {
	if o.Path == "" {
		o.Path = "mcp"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Session{
		o: o, version: o.Version, tools: map[string]tool{}, listings: map[string]*listing{}, tasks: map[string]string{},
		pending: [2]map[string]*request{{}, {}},
	}
}

type callerKey struct{}

// As says who sends the messages that are handled with the context, when one
// connection carries those of several runs or users of the same agent.
func As(ctx context.Context, c gateway.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func (s *Session) caller(ctx context.Context) gateway.Caller {
	if c, ok := ctx.Value(callerKey{}).(gateway.Caller); ok {
		return c
	}
	return s.o.Caller
}

// Version is the protocol revision of the connection, "" while it is not known.
func (s *Session) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Pending is how many requests that came from a direction wait for their answer.
func (s *Session) Pending(d Direction) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending[d])
}
