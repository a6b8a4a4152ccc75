package openai

import (
	"net/http"
	"strings"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// Azure is OpenAI's API as Azure serves it: below /openai/v1/ as at OpenAI, below
// /openai/deployments/NAME/ with the model in the path.
type Azure struct{ Protocol }

var (
	_ gateway.Protocol  = Azure{}
	_ gateway.Explainer = Azure{}
)

// AzureHandler returns the handler of "/azure/openai/..." and "/k/KEY/azure/openai/...".
// The upstream's URL ends before "/openai".
func AzureHandler(g *gateway.Gateway, up gateway.Upstream) (http.Handler, error) {
	return g.Handler(Azure{Protocol{&owedResults{}}}, up)
}

// Name is the first segment of the path at the gateway.
func (Azure) Name() string { return "azure" }

// Serves reports whether a path is one of Azure's.
func (Azure) Serves(path string) bool { return strings.HasPrefix(path, "/openai/") }

// Endpoint returns the guarded endpoint at a path.
func (p Azure) Endpoint(method, path string) gateway.Endpoint {
	rest, ok := cutPrefix(path, "/openai")
	if !ok || method != http.MethodPost {
		return nil
	}
	a := api{provider: "azure", owed: p.owed}
	if rest == "/responses" { // before there was a v1
		return responses{a}
	}
	if v1, ok := cutPrefix(rest, "/v1"); ok {
		return endpoint(a, v1)
	}
	name, ok := strings.CutPrefix(rest, "/deployments/")
	if !ok {
		return nil
	}
	name, rest, ok = strings.Cut(name, "/")
	if !ok || name == "" || !document.Plain(name) {
		return nil
	}
	a.deployment = name
	return endpoint(a, "/"+rest)
}

// cutPrefix cuts whole segments of a path.
func cutPrefix(path, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, prefix)
	return rest, ok && strings.HasPrefix(rest, "/")
}

// SetKey puts the provider's key into a request's headers.
func (Azure) SetKey(h http.Header, key string) { h.Set("Api-Key", key) }

// innerError is how Azure says more of a block. Clients look for its code.
type innerError struct {
	Code string `json:"code"`
}

// ErrorBody is an error in Azure's shape. A block keeps the status 403 that it has
// with every provider, and has the codes by which clients of Azure know one.
func (Azure) ErrorBody(status int, code, message string) []byte {
	e := errorMembers{Message: message, Type: errorType(status, code), Code: code}
	if code == "content_filter" {
		param := "prompt"
		e.Param, e.InnerError = &param, &innerError{"ResponsibleAIPolicyViolation"}
	}
	return errorJSON(e)
}

// ErrorEvent is an error within a stream.
func (a Azure) ErrorEvent(code, message string) (eventType, data string) {
	return "", string(a.ErrorBody(http.StatusBadGateway, code, message))
}
