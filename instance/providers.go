package instance

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/anthropic"
	"github.com/guardbook/guardbook/gateway/openai"
)

// providers makes the doors of all providers' APIs, by the path that each begins with.
func (i *Instance) providers() (map[string]http.Handler, error) {
	makers := map[string]func(*gateway.Gateway, gateway.Upstream) (http.Handler, error){
		"openai": openai.Handler, "anthropic": anthropic.Handler, "azure": openai.AzureHandler,
	}
	own := map[string]gateway.Upstream{
		"openai":    {URL: i.cfg.OpenAIUpstream, Key: i.cfg.OpenAIKey},
		"anthropic": {URL: i.cfg.AnthropicUpstream, Key: i.cfg.AnthropicKey},
		"azure":     {}, // every Azure resource has an address of its own: clients name it
	}
	doors := map[string]http.Handler{}
	for protocol, up := range own {
		h, err := makers[protocol](i.gateway, up)
		if err != nil {
			return nil, err
		}
		doors["/"+protocol+"/"] = h
	}
	for _, up := range i.upstreams() {
		h, err := makers[i.cfg.Upstreams[up.Name].Protocol](i.gateway, up)
		if err != nil {
			return nil, err
		}
		doors["/up/"+up.Name+"/"] = h
	}
	return doors, nil
}

// upstreams lists the further upstreams of the config file.
func (i *Instance) upstreams() []gateway.Upstream {
	var out []gateway.Upstream
	for _, name := range slices.Sorted(maps.Keys(i.cfg.Upstreams)) {
		u := i.cfg.Upstreams[name]
		out = append(out, gateway.Upstream{Name: name, URL: u.URL, Key: u.Key})
	}
	return out
}

// keyInPath serves "/k/KEY/..." at the door that follows the key; the door reads the
// key itself.
func keyInPath(doors map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/k/"), "/")
		for prefix, h := range doors {
			if strings.HasPrefix("/"+rest, prefix) {
				h.ServeHTTP(w, r)
				return
			}
		}
		doors["/openai/"].ServeHTTP(w, r) // which says what paths there are
	})
}

// stray answers agents' requests to paths where no door is: most often a base URL
// without the provider's name.
func (i *Instance) stray(w http.ResponseWriter, r *http.Request) {
	i.gateway.Refuse(r.Context(), w, openai.Protocol{}, "stray", &gateway.Refusal{Status: http.StatusNotFound, Code: "not_found",
		Message: "There is no agents' API at this path. Base URLs end in /openai/v1, /anthropic, /azure or, for an upstream that is configured, /up/NAME/v1; SDKs ask at /v1/inspect."})
}
