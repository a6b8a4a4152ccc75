package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The request headers that are for Guardbook. Every header that begins with
// headerPrefix is removed before a request goes upstream.
const (
	headerPrefix  = "X-Guardbook-"
	HeaderKey     = "X-Guardbook-Key"
	HeaderSession = "X-Guardbook-Session"
	HeaderUser    = "X-Guardbook-User"
	HeaderParent  = "X-Guardbook-Parent"
	// HeaderClient and HeaderClientSeq are the SDK process's id and its own number of
	// this request.
	HeaderClient    = "X-Guardbook-Client"
	HeaderClientSeq = "X-Guardbook-Client-Seq"
	// HeaderUpstream is the provider's base URL, without /v1, that the request would
	// have gone to.
	HeaderUpstream = "X-Guardbook-Upstream"
	// HeaderBlock says how a block is answered: "respond", or "raise" for a client
	// that makes an error of it.
	HeaderBlock = "X-Guardbook-Block"
	// HeaderToolCalls is "asked" when the client asks about every tool call before it
	// runs it. The decisions on those of an answer are then recorded and not enforced: a
	// denied one goes back to the model as the tool's result, and the agent goes on.
	HeaderToolCalls = "X-Guardbook-Tool-Calls"
)

// The response headers of every guarded answer.
const (
	HeaderDecision = "X-Guardbook-Decision"
	HeaderEntry    = "X-Guardbook-Entry"
)

const (
	agentKeyPrefix = "gbk_"
	operatorPrefix = "gbo_"
)

// Caller is who sends a request.
type Caller struct {
	Agent, Tenant         string
	Session, User, Parent string // as told by headers; each may be empty
	Client                string // id of the SDK's process; may be empty
	ClientSeq             int64  // its number of this request; 0: none
	Upstream              string // base URL that the request is for; empty: the configured one
	Block                 string // "", "respond" or "raise"
	ToolCalls             string // "" or "asked"
}

// Identify finds out who sends a request. pathKey is the key from the path, or "".
// Every key of Guardbook's own is taken out of the request, so that none of them
// goes upstream. The refusal is nil when the caller is known.
func Identify(r *http.Request, pathKey string, keys Keys) (Caller, *Refusal) {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	apiKey := r.Header.Get("X-Api-Key")
	azureKey := r.Header.Get("Api-Key")
	candidates := []string{r.Header.Get(HeaderKey), pathKey, strings.TrimSpace(bearer), apiKey, azureKey}
	c := Caller{
		Session: r.Header.Get(HeaderSession), User: r.Header.Get(HeaderUser), Parent: r.Header.Get(HeaderParent),
		Client: r.Header.Get(HeaderClient), Upstream: r.Header.Get(HeaderUpstream), Block: r.Header.Get(HeaderBlock), ToolCalls: r.Header.Get(HeaderToolCalls),
	}
	seq := r.Header.Get(HeaderClientSeq)
	for name := range r.Header {
		if strings.HasPrefix(name, headerPrefix) {
			r.Header.Del(name)
		}
	}
	operator := false
	for _, k := range candidates {
		operator = operator || strings.HasPrefix(k, operatorPrefix)
	}
	if ours(strings.TrimSpace(bearer)) {
		r.Header.Del("Authorization")
	}
	if ours(apiKey) {
		r.Header.Del("X-Api-Key")
	}
	if ours(azureKey) {
		r.Header.Del("Api-Key")
	}
	if operator {
		return c, &Refusal{Status: http.StatusUnauthorized, Code: "unauthorized",
			Message: "This is an operator's token. Agents' endpoints take an agent's key (gbk_...), and nothing else."}
	}
	key := ""
	for i, k := range candidates {
		if k != "" && (i < 2 || strings.HasPrefix(k, agentKeyPrefix)) {
			key = k
			break
		}
	}
	if key == "" {
		return c, &Refusal{Status: http.StatusUnauthorized, Code: "unauthorized",
			Message: "An agent's key is missing. Send it as " + HeaderKey + ", or use the base URL with /k/KEY, or send it in the place of the provider's key. `guardbook agents create NAME` makes one."}
	}
	agent, tenant, ok := keys.Authenticate(key)
	if !ok {
		return c, &Refusal{Status: http.StatusUnauthorized, Code: "unauthorized",
			Message: "The agent's key is not known here, or was rotated or removed. `guardbook agents list` shows the agents."}
	}
	c.Agent, c.Tenant = agent, tenant
	for name, v := range map[string]string{HeaderSession: c.Session, HeaderUser: c.User, HeaderParent: c.Parent, HeaderClient: c.Client} {
		if !nameable(v) {
			return c, &Refusal{Agent: agent, Status: http.StatusBadRequest, Code: "bad_header",
				Message: name + " must be printable UTF-8 of at most 256 bytes."}
		}
	}
	if seq != "" {
		n, err := strconv.ParseInt(seq, 10, 64)
		if err != nil || n < 1 || c.Client == "" {
			return c, &Refusal{Agent: agent, Status: http.StatusBadRequest, Code: "bad_header",
				Message: HeaderClientSeq + " must be a whole number of at least 1, and goes with " + HeaderClient + "."}
		}
		c.ClientSeq = n
	}
	if c.Block != "" && c.Block != "respond" && c.Block != "raise" {
		return c, &Refusal{Agent: agent, Status: http.StatusBadRequest, Code: "bad_header",
			Message: HeaderBlock + " must be respond or raise."}
	}
	if c.ToolCalls != "" && c.ToolCalls != "asked" {
		return c, &Refusal{Agent: agent, Status: http.StatusBadRequest, Code: "bad_header",
			Message: HeaderToolCalls + " must be asked, or left out."}
	}
	return c, nil
}

func ours(key string) bool {
	return strings.HasPrefix(key, agentKeyPrefix) || strings.HasPrefix(key, operatorPrefix)
}

// nameable reports whether s can stand in an entry as the name of something.
func nameable(s string) bool {
	return len(s) <= 256 && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// cutKey splits "/k/KEY/rest" into KEY and "/rest"; other paths come back whole.
func cutKey(path string) (key, rest string) {
	after, ok := strings.CutPrefix(path, "/k/")
	if !ok {
		return "", path
	}
	key, rest, ok = strings.Cut(after, "/")
	if !ok {
		return key, "/"
	}
	return key, "/" + rest
}
