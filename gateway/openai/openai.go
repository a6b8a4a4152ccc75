// Package openai understands OpenAI's API, and Azure's form of it: Chat Completions,
// Responses, the older Completions, embeddings and moderations, streamed and not.
package openai

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"net/http"

	"github.com/guardbook/guardbook/gateway"
)

// Protocol is the OpenAI API as the gateway sees it.
type Protocol struct{ owed *owedResults }

var (
	_ gateway.Protocol  = Protocol{}
	_ gateway.Explainer = Protocol{}
)

// Handler returns the handler of "/openai/v1/..." and "/k/KEY/openai/v1/...".
func Handler(g *gateway.Gateway, up gateway.Upstream) (http.Handler, error) {
	return g.Handler(Protocol{&owedResults{}}, up)
}

// Name is the first segment of the path at the gateway.
func (Protocol) Name() string { return "openai" }

// Endpoint returns the guarded endpoint at a path.
func (p Protocol) Endpoint(method, path string) gateway.Endpoint {
	rest, ok := cutPrefix(path, "/v1")
	if !ok || method != http.MethodPost {
		return nil
	}
	return endpoint(api{provider: "openai", owed: p.owed}, rest)
}

// endpoint is the guarded endpoint at a path below the API's version.
func endpoint(a api, path string) gateway.Endpoint {
	switch path {
	case "/chat/completions":
		return chat{a}
	case "/responses":
		return responses{a}
	case "/responses/input_tokens":
		return responseTokens{inputOnly{a, "responses"}}
	case "/completions":
		return completions{a}
	case "/embeddings":
		return embeddings{inputOnly{a, "embeddings"}}
	case "/moderations":
		return moderations{inputOnly{a, "moderations"}}
	}
	return nil
}

// api is where an endpoint was found.
type api struct {
	provider   string // "openai", "azure"
	deployment string // on Azure, the model as the path names it
	owed       *owedResults
}

// path is the entry path of an endpoint.
func (a api) path(endpoint string) string { return a.provider + "/" + endpoint }

// SetKey puts the provider's key into a request's headers.
func (Protocol) SetKey(h http.Header, key string) { h.Set("Authorization", "Bearer "+key) }

// KeepAlive is a comment, which every client skips.
func (Protocol) KeepAlive() []byte { return []byte(": ka\n\n") }

type errorBody struct {
	Error errorMembers `json:"error"`
}

type errorMembers struct {
	Message    string      `json:"message"`
	Type       string      `json:"type"`
	Param      *string     `json:"param"`
	Code       string      `json:"code"`
	InnerError *innerError `json:"innererror,omitzero"`
}

// ErrorBody is an error in OpenAI's shape.
func (Protocol) ErrorBody(status int, code, message string) []byte {
	return errorJSON(errorMembers{Message: message, Type: errorType(status, code), Code: code})
}

func errorJSON(e errorMembers) []byte {
	b, _ := json.Marshal(errorBody{e}, jsontext.AllowInvalidUTF8(true)) // strings marshal
	return b
}

func errorType(status int, code string) string {
	switch {
	case code == "content_filter" || code == "contained":
		return "policy_violation"
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// ErrorEvent is an error within a stream. In this form every client library makes an
// error of it, in every API.
func (p Protocol) ErrorEvent(code, message string) (eventType, data string) {
	return "", string(p.ErrorBody(http.StatusBadGateway, code, message))
}
