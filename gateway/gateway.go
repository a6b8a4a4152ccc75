// Package gateway stands between an agent and a model provider. It reads each
// request and each answer, has every text and every tool call decided on, and
// forwards what was released, byte for byte as it was scanned.
//
// The package is the part that all providers share: who is calling, limits, the
// way upstream, streams, refusals. A provider's wire format is a Protocol; see
// gateway/openai and gateway/anthropic.
package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/guardbook/guardbook"
)

// Guard decides and keeps the record. NewGuard makes one from a guard.Guard.
type Guard interface {
	// Decide decides on each interaction, in order; the decisions are in the book
	// when it returns. An error means that they are not, and that policy refuses
	// what cannot be recorded.
	Decide(ctx context.Context, ins ...*guardbook.Interaction) ([]guardbook.Decision, error)
	// Stream begins a decision on an output that arrives in pieces.
	Stream(in guardbook.Interaction) Text
	// Watch returns a context that ends when a kill covers the interaction.
	Watch(ctx context.Context, in *guardbook.Interaction) (context.Context, context.CancelFunc)
	// Contained returns the kill that ended a context from Watch, if one did.
	Contained(ctx context.Context) (Containment, bool)
	// Cut counts a running stream that a containment ended.
	Cut(c Containment)
	// Record writes entries of the gateway itself: refusals, streams, passthroughs.
	Record(ctx context.Context, drafts ...guardbook.Draft) error
	// Endpoint returns the line of an agent's policy that lets an endpoint pass unread.
	Endpoint(agent, method, path string) (Passage, bool)
	// Called counts model calls that an upstream answered with success.
	Called(c guardbook.ModelCalls)
	// OnBookError is what an agent's policy wants when the book cannot be written.
	OnBookError(agent string) guardbook.Action
}

// Text is an output that arrives in pieces; see guard.Stream.
type Text interface {
	// Write takes the next piece and returns what may go out now. A decision that
	// is not nil blocks: the stream must be ended.
	Write(ctx context.Context, piece string) (release string, d *guardbook.Decision, err error)
	// Close returns what may still go out, and the decision on the whole.
	Close(ctx context.Context) (rest string, d guardbook.Decision, err error)
}

// Containment is a kill that ended a stream.
type Containment struct{ ID, Scope string }

// Passage is the line of policy that lets an endpoint pass unread.
type Passage struct{ Rule, Policy, Bundle string }

// Keys knows the agents' keys.
type Keys interface {
	Authenticate(key string) (agent, tenant string, ok bool)
}

// BlockMode says how a blocked request is answered.
type BlockMode string

// The block modes.
const (
	// Respond answers a block as the model would: a complete answer whose text says
	// that policy blocked the request, so that the agent can go on.
	Respond BlockMode = "respond"
	// Error answers a block with HTTP 403 in the provider's error shape.
	Error BlockMode = "error"
)

// Options are what a Gateway is made of. Guard and Keys are required; the rest has
// defaults.
type Options struct {
	Guard     Guard
	Keys      Keys
	BlockMode BlockMode // default Respond
	// Upstreams are further upstreams that a client may name.
	Upstreams []Upstream
	// AnyUpstream lets a client name any upstream; the providers' keys are not sent there.
	AnyUpstream bool

	BodyLimit   int64         // bytes of a request, and of an answer, also once decoded; default 32 MiB
	EventLimit  int           // bytes of one streamed event; default 32 MiB
	BodyTimeout time.Duration // for reading a whole request; default 2 min
	// HeaderTimeout is how long an upstream may take until it begins to answer.
	// Default 10 min, as in the providers' SDKs.
	HeaderTimeout time.Duration
	IdleTimeout   time.Duration // how long an answer may pause; default 120 s
	WriteTimeout  time.Duration // how long a client may take to accept a piece; default 60 s
	KeepAlive     time.Duration // how long a streamed answer stays silent before a keep-alive; default 10 s

	Transport http.RoundTripper // default: a transport for many kept connections
	// Canary takes the place of every upstream for the agent guardbook.CanaryAgent.
	// nil: nothing that this agent sends goes anywhere.
	Canary http.RoundTripper
	Log    *slog.Logger
	Now    func() time.Time
}

// Gateway is the shared part of all providers' handlers. It is safe for concurrent use.
type Gateway struct {
	o         Options
	transport http.RoundTripper
	strangers limiter
	known     []target
}

// New returns a gateway.
func New(o Options) *Gateway {
	if o.BlockMode == "" {
		o.BlockMode = Respond
	}
	if o.BodyLimit == 0 {
		o.BodyLimit = 32 << 20
	}
	if o.EventLimit == 0 {
		o.EventLimit = 32 << 20
	}
	for d, v := range map[*time.Duration]time.Duration{
		&o.BodyTimeout: 2 * time.Minute, &o.HeaderTimeout: 10 * time.Minute, &o.IdleTimeout: 120 * time.Second,
		&o.WriteTimeout: time.Minute, &o.KeepAlive: 10 * time.Second,
	} {
		if *d == 0 {
			*d = v
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	g := &Gateway{o: o, transport: o.Transport, strangers: limiter{now: o.Now}}
	for _, up := range o.Upstreams {
		if t, err := up.target(up.Name); err == nil { // one that cannot be read is refused by Handler
			g.known = append(g.known, t)
		}
	}
	if g.transport == nil {
		g.transport = newTransport(o.HeaderTimeout)
	}
	return g
}

// Guard returns the guard that decides.
func (g *Gateway) Guard() Guard { return g.o.Guard }

// Keys returns the agents' keys.
func (g *Gateway) Keys() Keys { return g.o.Keys }

// Close lets go of kept upstream connections.
func (g *Gateway) Close() {
	if t, ok := g.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// newTransport is made for many agents that talk to few providers: connections are
// kept in numbers, and bodies come as they are, since what is scanned must not be
// compressed.
func newTransport(header time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ResponseHeaderTimeout: header,
		DisableCompression:    true,
	}
}

// NewServer returns a server with the time limits that the gateway relies on
// against clients that send their headers slowly, or nothing at all. The time for
// a body, and for each piece of an answer, is set by the handlers.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
