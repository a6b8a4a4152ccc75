package inspect

import (
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// request is one interaction to decide on.
type request struct {
	in    guardbook.Interaction
	plain bool // content came as a string
}

var (
	members     = []string{"kind", "session", "user", "parent", "role", "tool", "content", "context", "client", "client_seq", "via"}
	toolMembers = []string{"server", "name", "call_id", "arguments"}
	partMembers = []string{"type", "text"}
	roles       = []string{"system", "user", "assistant"}
)

// read reads a request body: one interaction, or a batch.
func read(root document.Value, batch bool, c gateway.Caller) ([]request, error) {
	if root.Kind() != '{' {
		return nil, fmt.Errorf("the body must be a JSON object")
	}
	if !batch {
		r, err := one(root, "", c)
		return []request{r}, err
	}
	if err := known(root, "", []string{"interactions"}); err != nil {
		return nil, err
	}
	list := root.Get("interactions")
	if list.Kind() != '[' || !list.First().Exists() {
		return nil, fmt.Errorf("interactions must be a list of 1 to %d interactions", BatchLimit)
	}
	if n := list.Left(); n > BatchLimit {
		return nil, fmt.Errorf("interactions holds %d interactions, more than %d", n, BatchLimit)
	}
	var out []request
	for v := list.First(); v.Exists(); v = v.Next() {
		r, err := one(v, fmt.Sprintf("interactions[%d]", len(out)), c)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func one(v document.Value, prefix string, c gateway.Caller) (request, error) {
	r := request{in: guardbook.Interaction{Tenant: c.Tenant, Agent: c.Agent, Session: c.Session, User: c.User, Parent: c.Parent,
		Client: c.Client, ClientSeq: c.ClientSeq, Path: entryPath}}
	in := &r.in
	if v.Kind() != '{' {
		return r, fmt.Errorf("%s must be an object", prefix)
	}
	if err := known(v, prefix, members); err != nil {
		return r, err
	}
	in.Kind = guardbook.Kind(v.Get("kind").Text())
	if !slices.Contains(guardbook.Kinds, in.Kind) {
		return r, fmt.Errorf("%s must be one of %s", at(prefix, "kind"), joinKinds())
	}
	for member, field := range map[string]*string{"session": &in.Session, "user": &in.User, "parent": &in.Parent, "role": &in.Role, "client": &in.Client} {
		if err := text(v, prefix, member, field, 256); err != nil {
			return r, err
		}
	}
	if in.Role != "" && !slices.Contains(roles, in.Role) {
		return r, fmt.Errorf("%s must be one of %s", at(prefix, "role"), strings.Join(roles, ", "))
	}
	if err := text(v, prefix, "context", &in.Context, 1<<20); err != nil {
		return r, err
	}
	if s := v.Get("client_seq"); s.Exists() {
		n := s.Int(-1)
		if n < 1 {
			return r, fmt.Errorf("%s must be an integer of at least 1", at(prefix, "client_seq"))
		}
		in.ClientSeq = int64(n)
	}
	var via string
	if err := text(v, prefix, "via", &via, 40); err != nil {
		return r, err
	}
	if via != "" {
		if !Via(via) {
			return r, fmt.Errorf("%s must be of a-z, 0-9, '.', '_', '/' and '-'", at(prefix, "via"))
		}
		in.Path = entryPath + "/" + via
	}
	if err := tool(v.Get("tool"), at(prefix, "tool"), in); err != nil {
		return r, err
	}
	return r, content(v.Get("content"), at(prefix, "content"), &r)
}

// Via reports whether s can name the way by which an SDK came to ask: "python/langchain".
func Via(s string) bool {
	return len(s) > 0 && len(s) <= 40 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._/-", r)
	})
}

// known refuses members that the API does not have: a misspelled one must not
// quietly mean nothing.
func known(v document.Value, prefix string, allowed []string) error {
	for m := v.First(); m.Exists(); m = m.Next() {
		if !slices.Contains(allowed, m.Name()) {
			name := m.Name()
			if !document.Plain(name) {
				name = "of another name"
			}
			return fmt.Errorf("unknown member %s: use %s", at(prefix, name), strings.Join(allowed, ", "))
		}
	}
	return nil
}

func text(v document.Value, prefix, member string, into *string, limit int) error {
	m := v.Get(member)
	switch {
	case !m.Exists():
		return nil
	case !m.IsString():
		return fmt.Errorf("%s must be a string", at(prefix, member))
	case len(m.Text()) > limit:
		return fmt.Errorf("%s must be at most %d bytes", at(prefix, member), limit)
	}
	*into = m.Text()
	return nil
}

func tool(v document.Value, prefix string, in *guardbook.Interaction) error {
	if !v.Exists() {
		if in.Kind == guardbook.KindToolCall {
			return fmt.Errorf("%s is required for a tool_call", prefix)
		}
		return nil
	}
	if v.Kind() != '{' {
		return fmt.Errorf("%s must be an object", prefix)
	}
	if err := known(v, prefix, toolMembers); err != nil {
		return err
	}
	t := &guardbook.Tool{}
	for member, field := range map[string]*string{"server": &t.Server, "name": &t.Name, "call_id": &t.CallID} {
		if err := text(v, prefix, member, field, 1024); err != nil {
			return err
		}
	}
	if t.Name == "" {
		return fmt.Errorf("%s is required", at(prefix, "name"))
	}
	switch args := v.Get("arguments"); {
	case args.Kind() == '{':
		t.Arguments = jsontext.Value(args.Raw())
	case args.Exists():
		return fmt.Errorf("%s must be an object", at(prefix, "arguments"))
	case in.Kind == guardbook.KindToolCall:
		t.Arguments = jsontext.Value("{}")
	}
	in.Tool = t
	return nil
}

func content(v document.Value, prefix string, r *request) error {
	in := &r.in
	switch v.Kind() {
	case 0:
		if in.Kind != guardbook.KindToolCall {
			return fmt.Errorf("%s is required for kind %s", prefix, in.Kind)
		}
		return nil
	case '"':
		r.plain = true
		in.Content = []guardbook.Part{guardbook.TextPart(v.Text())}
	case '[':
		for p := v.First(); p.Exists(); p = p.Next() {
			here := fmt.Sprintf("%s[%d]", prefix, len(in.Content))
			if p.Kind() != '{' {
				return fmt.Errorf("%s must be an object", here)
			}
			if err := known(p, here, partMembers); err != nil {
				return err
			}
			var part guardbook.Part
			if err := text(p, here, "type", &part.Type, 64); err != nil {
				return err
			}
			if part.Type == "" {
				return fmt.Errorf("%s is required: text, image, audio, file", at(here, "type"))
			}
			if err := text(p, here, "text", &part.Text, bodyLimit); err != nil {
				return err
			}
			if part.Type != "text" && part.Text != "" {
				return fmt.Errorf("%s has a text, so its type must be text", here)
			}
			in.Content = append(in.Content, part)
		}
	default:
		return fmt.Errorf("%s must be a string or a list of parts", prefix)
	}
	if in.Kind == guardbook.KindToolCall {
		return fmt.Errorf("%s does not go with a tool_call: its texts are tool.arguments", prefix)
	}
	return nil
}

func joinKinds() string {
	names := make([]string, len(guardbook.Kinds))
	for i, k := range guardbook.Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}
