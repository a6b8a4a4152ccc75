// Package anthropic understands the Anthropic Messages API, streamed and not.
package anthropic

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"net/http"

	"github.com/guardbook/guardbook/gateway"
)

// Protocol is the Anthropic API as the gateway sees it.
type Protocol struct{}

var _ gateway.Protocol = Protocol{}

// Handler returns the handler of "/anthropic/v1/..." and "/k/KEY/anthropic/v1/...".
func Handler(g *gateway.Gateway, up gateway.Upstream) (http.Handler, error) {
	return g.Handler(Protocol{}, up)
}

// Name is the first segment of the path at the gateway.
func (Protocol) Name() string { return "anthropic" }

// Endpoint returns the guarded endpoint at a path.
func (Protocol) Endpoint(method, path string) gateway.Endpoint {
	switch {
	case method != http.MethodPost:
	case path == "/v1/messages":
		return messages{}
	case path == "/v1/messages/count_tokens":
		return countTokens{}
	case path == "/v1/messages/batches":
		return batches{}
	}
	return nil
}

// SetKey puts the provider's key into a request's headers.
func (Protocol) SetKey(h http.Header, key string) { h.Set("X-Api-Key", key) }

// KeepAlive is the event that the API itself sends when nothing happens.
func (Protocol) KeepAlive() []byte { return []byte("event: ping\ndata: {\"type\": \"ping\"}\n\n") }

type errorBody struct {
	Type  string       `json:"type"`
	Error errorMembers `json:"error"`
}

type errorMembers struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Code    string `json:"code"` // Guardbook's own; the API has none
}

// ErrorBody is an error in Anthropic's shape.
func (Protocol) ErrorBody(status int, code, message string) []byte {
	kind := "invalid_request_error"
	switch {
	case status == http.StatusUnauthorized:
		kind = "authentication_error"
	case status == http.StatusForbidden:
		kind = "permission_error"
	case status == http.StatusNotFound:
		kind = "not_found_error"
	case status == http.StatusRequestEntityTooLarge:
		kind = "request_too_large"
	case status == http.StatusGatewayTimeout:
		kind = "timeout_error"
	case status >= 500:
		kind = "api_error"
	}
	b, _ := json.Marshal(errorBody{"error", errorMembers{kind, message, code}}, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

// ErrorEvent is an error within a stream.
func (p Protocol) ErrorEvent(code, message string) (eventType, data string) {
	return "error", string(p.ErrorBody(http.StatusBadGateway, code, message))
}

// countTokens is POST /v1/messages/count_tokens: a whole conversation goes up, a
// number comes back.
type countTokens struct{ messages }

// Path is the entry path.
func (countTokens) Path() string { return "anthropic/count_tokens" }
