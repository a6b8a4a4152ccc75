package streamable

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// canaryServer is the only server that the instance's own test agent reaches, by
// whatever name it asks; there is no such host.
var canaryServer = &upstream{
	name: guardbook.CanaryAgent, url: &url.URL{Scheme: "http", Host: "canary.invalid", Path: "/mcp"}, headers: http.Header{},
	server: pin.Server{Name: guardbook.CanaryAgent, Identity: pin.URLIdentity("http://canary.invalid/mcp")},
}

var errNoCanary = errors.New("test interactions go nowhere here")

// roundTrip sends a request to the server. What the test agent sends never leaves
// the instance: this is the only way out for an agent's request.
func (x *exchange) roundTrip(req *http.Request) (*http.Response, error) {
	if x.who.Agent != guardbook.CanaryAgent {
		return x.transport.RoundTrip(req)
	}
	if x.o.Canary == nil {
		return nil, errNoCanary
	}
	return x.o.Canary.RoundTrip(req)
}
