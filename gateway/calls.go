package gateway

import (
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
		x.o.Guard.Called(x.e.Path(), model, n)
	}
}

// modelOf is the model that an event of a stream names.
func modelOf(event []byte) string {
	doc, err := document.Parse(event)
	if err != nil {
		return ""
	}
	return modelIn(doc.Root())
}

// modelIn is the model that an answer, or an event that holds one, names.
func modelIn(root document.Value) string {
	for _, v := range []document.Value{root, root.Get("message"), root.Get("response")} {
		if m := v.Get("model").Text(); m != "" {
			return m
		}
	}
	return ""
}
