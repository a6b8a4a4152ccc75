// Package pin keeps the definitions of MCP servers' tools as they were when they were
// first seen, so that a tool that changes afterwards (a rug pull), or one that appears
// later, is quarantined until an operator has looked at it.
//
// The state is a fold of entries of type tool in the book, and nothing else decides.
// The definitions' texts are kept beside it, for the difference that an operator is
// shown.
package pin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"fmt"
	"strings"

	"github.com/guardbook/guardbook/gateway/document"
)

// Server is an MCP server: its name in the configuration, and what it really is. The
// name that a server gives itself plays no part: it can say what it likes.
type Server struct {
	Name     string `json:"server"`
	Identity string `json:"identity"` // see URLIdentity and CommandIdentity
}

const (
	byURL     = "http:"
	byCommand = "stdio:"
)

// URLIdentity is the identity of a server that is reached by HTTP.
func URLIdentity(url string) string { return identity(byURL, url) }

// CommandIdentity is the identity of a server that an agent starts, as the agent's side
// tells it.
func CommandIdentity(command []string) string { return identity(byCommand, command...) }

// CheckCommand reports whether an identity that an agent's side tells can be one of
// CommandIdentity.
func CheckCommand(identity string) error {
	sum, ok := strings.CutPrefix(identity, byCommand)
	if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != sha256.Size || strings.ToLower(sum) != sum {
		return fmt.Errorf("the identity of a server that an agent starts is %s and the SHA-256 of its command in lower-case hex", byCommand)
	}
	return nil
}

// scoped is the identity under which tools are pinned. What an agent starts, only its
// own side sees: no agent's key changes what another agent trusts.
func (s Server) scoped(agent string) string {
	if strings.HasPrefix(s.Identity, byURL) {
		return s.Identity
	}
	return s.Identity + "@" + agent
}

func identity(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return kind + hex.EncodeToString(h.Sum(nil))
}

// Definition is what a server says of one tool.
type Definition struct {
	Name string         `json:"name"`
	Hash string         `json:"hash"` // "sha256:" + hex(SHA-256(JSON))
	JSON jsontext.Value `json:"json"` // canonical (RFC 8785)
}

// pinned are the members of a tool's entry that are part of its definition.
var pinned = []string{"name", "title", "description", "inputSchema", "outputSchema", "annotations"}

// Define makes the definition of one element of a tools/list answer.
func Define(entry document.Value) (Definition, error) {
	name := entry.Get("name")
	if !name.IsString() || name.Text() == "" {
		return Definition{}, fmt.Errorf("a tool has no name")
	}
	var b strings.Builder
	b.WriteByte('{')
	for _, member := range pinned {
		v := entry.Get(member)
		if !v.Exists() {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(document.Quote(member) + ":" + v.Raw())
	}
	b.WriteByte('}')
	return Parse([]byte(b.String()))
}

// Parse makes a definition of its JSON, which holds no members but a definition's.
func Parse(src []byte) (Definition, error) {
	doc, err := document.Parse(src)
	if err != nil {
		return Definition{}, fmt.Errorf("a tool's definition: %w", err)
	}
	d := Definition{Name: doc.Root().Get("name").Text(), JSON: jsontext.Value(strings.Clone(doc.Source()))}
	if d.Name == "" || len(d.Name) > 1024 {
		return Definition{}, fmt.Errorf("a tool's definition has no name, or one of more than 1024 bytes")
	}
	if err := d.JSON.Canonicalize(); err != nil {
		return Definition{}, fmt.Errorf("the definition of tool %.80q cannot be made canonical: %w", d.Name, err)
	}
	sum := sha256.Sum256(d.JSON)
	d.Hash = "sha256:" + hex.EncodeToString(sum[:])
	return d, nil
}

// Page is one page of a server's list of tools.
type Page struct {
	Tools []Definition
	// Complete means that the list ends with this page; All then names every tool of
	// all pages, and is nil when not every page was seen.
	Complete bool
	All      []string
}

// State is how a tool stands.
type State string

// The states of a tool.
const (
	Pinned      State = "pinned"      // it is what it was when it was first seen, or approved
	Quarantined State = "quarantined" // it appeared later or has changed; nobody has looked at it
	Rejected    State = "rejected"    // an operator refused it
	Unlisted    State = "unlisted"    // no list of this server has been seen yet
)

// Verdict says whether a tool may be offered, or called.
type Verdict struct {
	State  State  `json:"state"`
	Reason string `json:"reason,omitzero"` // a sentence for the agent; holds nothing of the definition
	// Enforced is false when the agent's policy only watches: the tool passes.
	Enforced bool `json:"enforced"`
	// Entry is the id of the entry that says so.
	Entry string `json:"entry,omitzero"`
}

// Passes reports whether the tool may be offered, or called.
func (v Verdict) Passes() bool {
	return !v.Enforced || v.State == Pinned || v.State == Unlisted
}
