package respond

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
)

// ScopeKind says what a containment is about.
type ScopeKind string

// The kinds of scope.
const (
	ScopeAgent   ScopeKind = "agent"   // everything that the agent takes in or puts out
	ScopeSession ScopeKind = "session" // everything in the session, whichever agent
	// ScopeTool is every call of the tool, whichever agent. Its definition and its
	// earlier results stay part of other agents' conversations, which go on.
	ScopeTool   ScopeKind = "tool"
	ScopeTenant ScopeKind = "tenant" // everything of the tenant
)

const maxScopeName = 1024 // bytes

// Scope is what a containment covers.
type Scope struct {
	Kind ScopeKind
	Name string
}

// String writes the scope as entries do: "agent:billing-bot".
func (s Scope) String() string { return string(s.Kind) + ":" + s.Name }

// ParseScope reads NAME (an agent), agent:NAME, session:ID, tool:NAME or
// tenant:NAME. An agent whose name has a colon needs the prefix.
func ParseScope(text string) (Scope, error) {
	s := Scope{Kind: ScopeAgent, Name: text}
	if kind, name, ok := strings.Cut(text, ":"); ok {
		s = Scope{ScopeKind(kind), name}
	}
	switch s.Kind {
	case ScopeAgent, ScopeSession, ScopeTool, ScopeTenant:
	default:
		return Scope{}, badScope(text, fmt.Sprintf("%q is no kind of scope", string(s.Kind)))
	}
	switch {
	case s.Name == "":
		return Scope{}, badScope(text, "the name is missing")
	case len(s.Name) > maxScopeName:
		return Scope{}, badScope(text, fmt.Sprintf("the name has %d bytes, at most %d are allowed", len(s.Name), maxScopeName))
	case !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, unicode.IsControl):
		return Scope{}, badScope(text, "the name has control characters or is not UTF-8")
	case strings.TrimSpace(s.Name) != s.Name:
		return Scope{}, badScope(text, "the name begins or ends with a space")
	}
	return s, nil
}

func badScope(text, why string) error {
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "..."
	}
	return &problem{kind: ErrInvalid, text: fmt.Sprintf("scope %q: %s: use NAME (an agent), session:ID, tool:NAME or tenant:NAME", text, why)}
}

func tenantOf(in *guardbook.Interaction) string {
	if in.Tenant == "" {
		return guardbook.DefaultTenant
	}
	return in.Tenant
}
