package gateway

import (
	"context"
	"fmt"
	"net/http"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// Protocol is a provider's wire format.
type Protocol interface {
	// Name is the first segment of the path at the gateway: "openai".
	Name() string
	// Endpoint returns the guarded endpoint at a path of the provider's API, with
	// "/v1"; nil if it is none.
	Endpoint(method, path string) Endpoint
	// ErrorBody is an error in the provider's shape.
	ErrorShape
	// ErrorEvent is an error within a stream: type and data of one event.
	ErrorEvent(code, message string) (eventType, data string)
	// KeepAlive is what is written to a stream that is silent.
	KeepAlive() []byte
	// SetKey puts the provider's key into a request's headers.
	SetKey(h http.Header, key string)
}

// Explainer is a Protocol that can say why an endpoint is not guarded.
type Explainer interface {
	// Unguarded says in a sentence or two what is behind an endpoint that is not
	// read, and what to use instead; "" if there is nothing to say.
	Unguarded(method, path string) string
}

// Unread is an Endpoint whose answers are no texts (vectors, scores) and pass as
// they come.
type Unread interface{ AnswerIsUnread() }

// Need is something in a request that cannot be read, and so needs a line in the
// policy's endpoints, as an endpoint does that is not guarded.
type Need struct {
	Method, Path string // as they stand in the line: "POST", "/v1/responses:background"
	Why          string // a sentence for the client
}

// Endpoint is one endpoint that the gateway understands.
type Endpoint interface {
	// Path is the entry path of its interactions: "openai/chat".
	Path() string
	// Request finds the interactions in a request.
	Request(doc *document.Document) (*Request, error)
	// Answer finds the interactions in an answer that is not streamed; an error
	// means that it is no answer of this endpoint.
	Answer(doc *document.Document, call *Call) (*Answer, error)
	// Blocked is a complete answer, not streamed, that says only text.
	Blocked(call *Call, text string) []byte
	// Stream begins to translate a streamed answer.
	Stream(call *Call, out *Out) Stream
}

// Request is what an endpoint found in a request.
type Request struct {
	Items  []*Item
	Stream bool // the client asked for a stream
	Model  string
	// System, FirstUser and LastUser are texts of the conversation: for the session
	// of clients that name none, and for the context of detectors.
	System, FirstUser, LastUser string
	// Settled is called when every decision is applied to the document; it may edit
	// further, for example leave out a list that has become empty.
	Settled func()
	// Needs are what policy must let pass unread for the request to be sent.
	Needs []Need
	// Unanswerable means that a block can only be answered with an error, since the
	// answer is not a text.
	Unanswerable bool
	// Calls counts the model calls that the request makes, by model, when they are
	// not one call of Model: a batch makes many, and counting tokens none.
	Calls map[string]int64
	// Protocol is whatever the endpoint wants to know again when the answer comes.
	Protocol any
}

// Answer is what an endpoint found in an answer.
type Answer struct {
	Items   []*Item
	Settled func()
}

// Call is one guarded request on its way.
type Call struct {
	Request  *Request
	guard    Guard
	record   func(ctx context.Context, t guardbook.EntryType, body any) error
	base     guardbook.Interaction
	decision guardbook.Decision // the strictest so far
	asked    bool               // the client asks about the tool calls that it carries out
	// raise ends the answer's stream with a block as an error; nil: a block is
	// answered in the protocol.
	raise func(d guardbook.Decision)
}

// Interaction returns a new interaction of this call.
func (c *Call) Interaction(kind guardbook.Kind) guardbook.Interaction {
	in := c.base
	in.Kind = kind
	return in
}

// Text begins the decision on an output that arrives in pieces.
func (c *Call) Text() Text {
	return &callText{c, c.guard.Stream(c.Interaction(guardbook.KindOutput))}
}

// callText tells the call of the decisions of a Text.
type callText struct {
	call *Call
	Text
}

func (t *callText) Write(ctx context.Context, piece string) (string, *guardbook.Decision, error) {
	release, d, err := t.Text.Write(ctx, piece)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	if d != nil && t.call.raise != nil {
		t.call.raise(*d)
	}
	return release, d, nil
}

func (t *callText) Close(ctx context.Context) (string, guardbook.Decision, error) {
	rest, d, err := t.Text.Close(ctx)
	if err != nil {
		return "", d, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	t.call.note(d)
	if !d.Action.Releases() && t.call.raise != nil {
		t.call.raise(d)
	}
	return rest, d, nil
}

// Decide decides on items of a streamed answer and applies the decisions.
// The decision returned is the one that ends the exchange, or nil.
func (c *Call) Decide(ctx context.Context, items ...*Item) (*guardbook.Decision, error) {
	ds, err := c.decide(ctx, items)
	if err != nil {
		return nil, err
	}
	if c.raise != nil {
		if stop := firstBlocked(ds); stop != nil {
			c.raise(*stop)
			return stop, nil
		}
	}
	return apply(items, ds), nil
}

func (c *Call) decide(ctx context.Context, items []*Item) ([]guardbook.Decision, error) {
	if len(items) == 0 {
		return nil, nil
	}
	ins := make([]*guardbook.Interaction, len(items))
	for i, it := range items {
		in := &it.In
		in.Tenant, in.Agent, in.Session = c.base.Tenant, c.base.Agent, c.base.Session
		in.User, in.Parent, in.Path = c.base.User, c.base.Parent, c.base.Path
		if in.Context == "" {
			in.Context = c.base.Context
		}
		in.Client, in.ClientSeq = c.base.Client, c.base.ClientSeq
		in.Deferred = c.asked && it.Client
		ins[i] = in
	}
	ds, err := c.guard.Decide(ctx, ins...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	for i := range ds {
		if items[i].withhold(&ds[i]) {
			_ = c.record(ctx, guardbook.TypeRefusal, guardbook.RefusalEntry{
				Agent: c.base.Agent, Session: c.base.Session, Path: c.base.Path, Status: http.StatusOK, Code: "unreadable_tool_call",
				Message: "Withheld although policy allowed it, entry " + ds[i].Entry + ": " + items[i].Unreadable + ".",
			})
		}
		c.note(ds[i])
	}
	return ds, nil
}

// note keeps the strictest decision, for the headers of the answer.
func (c *Call) note(d guardbook.Decision) {
	if c.decision.Entry == "" || c.decision.Action != d.Action && guardbook.Stricter(c.decision.Action, d.Action) == d.Action {
		c.decision = d
	}
}

// Stream translates a streamed answer, event by event. Methods are called from one
// goroutine. When a method returns a decision, the stream has been ended in the
// protocol because of it.
type Stream interface {
	// Event takes one event. done means that the answer is complete.
	Event(ctx context.Context, eventType string, data []byte) (done bool, blocked *guardbook.Decision, err error)
	// End is called when the upstream ends without having said so. An error means
	// that the answer is not complete.
	End(ctx context.Context) (blocked *guardbook.Decision, err error)
	// Stop ends the stream in the protocol with a text.
	Stop(text string)
	// Abandon has the decisions made on what was released so far, when the stream
	// ends early. Nothing is written.
	Abandon(ctx context.Context)
}
