package gateway

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
)

// namingEvents is how many events of a stream are looked at for the model's name:
// the providers tell it with the first.
const namingEvents = 3

var errNoCanary = errors.New("test interactions go nowhere here")

// roundTrip sends a request upstream. What the instance's own test agent sends never
// leaves it: this is the only way out.
func (g *Gateway) roundTrip(c Caller, out *http.Request) (*http.Response, error) {
	if c.Agent != guardbook.CanaryAgent {
		return g.transport.RoundTrip(out)
	}
	if g.o.Canary == nil {
		return nil, errNoCanary
	}
	return g.o.Canary.RoundTrip(out)
}

// called counts a request that the upstream answered with success.
func (x *exchange) called() {
	if x.who.Agent == guardbook.CanaryAgent {
		return
	}
	calls := x.call.Request.Calls
	if calls == nil {
		model := x.model
		if model == "" {
			model = x.call.Request.Model
		}
		calls = map[string]int64{model: 1}
	}
	for model, n := range calls {
		x.o.Guard.Called(guardbook.ModelCalls{Path: x.e.Path(), Model: model, Calls: n, OutputTokens: x.tokens})
	}
}

// look reads from an event of a stream what the call is counted by: the model's name
// from one of the first, and the number of tokens whenever it is told.
func (x *exchange) look(nth int, event []byte) {
	named := x.model == "" && nth < namingEvents
	if !named && !bytes.Contains(event, []byte("_tokens\"")) {
		return
	}
	if doc, err := document.Parse(event); err == nil {
		x.tell(doc.Root())
	}
}

// tell reads it from an answer, or from an event that holds one.
func (x *exchange) tell(root document.Value) {
	for _, v := range []document.Value{root, root.Get("message"), root.Get("response")} {
		if m := v.Get("model").Text(); m != "" && x.model == "" {
			x.model = m
		}
		for _, name := range []string{"output_tokens", "completion_tokens"} {
			if n := v.Get("usage").Get(name).Int(0); n > 0 {
				x.tokens = int64(n) // each event tells the sum so far
			}
		}
	}
}
