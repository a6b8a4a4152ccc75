// Package openai understands the OpenAI Chat Completions API, streamed and not.
package openai

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"net/http"

	"github.com/guardbook/guardbook/gateway"
)

// Protocol is the OpenAI API as the gateway sees it.
type Protocol struct{}

var _ gateway.Protocol = Protocol{}

// Handler returns the handler of "/openai/v1/..." and "/k/KEY/openai/v1/...".
func Handler(g *gateway.Gateway, up gateway.Upstream) (http.Handler, error) {
	return g.Handler(Protocol{}, up)
}

// Name is the first segment of the path at the gateway.
func (Protocol) Name() string { return "openai" }

// Endpoint returns the guarded endpoint at a path.
func (Protocol) Endpoint(method, path string) gateway.Endpoint {
	if method == http.MethodPost && path == "/v1/chat/completions" {
		return chat{}
	}
	return nil
}

// SetKey puts the provider's key into a request's headers.
func (Protocol) SetKey(h http.Header, key string) { h.Set("Authorization", "Bearer "+key) }

// KeepAlive is a comment, which every client skips.
func (Protocol) KeepAlive() []byte { return []byte(": ka\n\n") }

type errorBody struct {
	Error errorMembers `json:"error"`
}

type errorMembers struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// ErrorBody is an error in OpenAI's shape.
func (Protocol) ErrorBody(status int, code, message string) []byte {
	kind := "invalid_request_error"
	switch {
	case code == "content_filter" || code == "contained":
		kind = "policy_violation"
	case status == http.StatusUnauthorized:
		kind = "authentication_error"
	case status == http.StatusForbidden:
		kind = "permission_error"
	case status >= 500:
		kind = "server_error"
	}
	b, _ := json.Marshal(errorBody{errorMembers{message, kind, nil, code}}, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

// ErrorEvent is an error within a stream.
func (p Protocol) ErrorEvent(code, message string) (eventType, data string) {
	return "", string(p.ErrorBody(http.StatusBadGateway, code, message))
}
