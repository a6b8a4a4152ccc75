package policy

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
)

// Render writes the policy in its own language with every default written out,
// so that what applies can be read without knowing them. Parse reads it as a
// policy that decides the same.
func (p *Policy) Render() []byte {
	var w strings.Builder
	for _, f := range p.effective().fields {
		w.WriteString(plain(f.name) + ":")
		writeBlock(&w, f.value, "  ")
	}
	return []byte(w.String())
}

// RenderJSON writes what Render writes as one line of JSON.
func (p *Policy) RenderJSON() jsontext.Value {
	var w strings.Builder
	writeFlow(&w, p.effective(), jsonString)
	return jsontext.Value(w.String())
}

// effective is the policy as it was written, plus its defaults.
func (p *Policy) effective() *node {
	root := &node{kind: kindMapping}
	take := func(name string, otherwise *node) *node {
		v := p.root.field(name)
		if v == nil {
			v = otherwise
		}
		if v != nil {
			root.fields = append(root.fields, pair{name: name, value: v})
		}
		return v
	}
	take("policy", nil)
	take("version", nil)
	take("owner", nil)
	take("agents", nil)
	take("mode", textNode(string(p.Mode)))
	failure := &node{kind: kindMapping}
	for _, k := range guardbook.Kinds {
		failure.fields = append(failure.fields, pair{name: string(k), value: textNode(string(p.OnError(k)))})
	}
	failure.fields = append(failure.fields, pair{name: "book", value: textNode(string(p.OnBookError()))})
	root.fields = append(root.fields, pair{name: "on_error", value: failure})

	tools := &node{kind: kindList}
	for i, t := range p.root.field("tools").list() {
		defaults := []pair{{name: "server", value: textNode("*")}, {name: "severity", value: textNode(p.Tools[i].severity.String())}}
		if p.Tools[i].Deny == "" {
			defaults = append(defaults, pair{name: "additional", value: boolNode(false)})
		}
		tools.items = append(tools.items, with(t, defaults...))
	}
	root.fields = append(root.fields, pair{name: "tools", value: tools})

	findings := &node{kind: kindList}
	for i, f := range p.root.field("findings").list() {
		all := &node{kind: kindList}
		for _, k := range kinds() {
			all.items = append(all.items, textNode(k))
		}
		threshold, _ := json.Marshal(p.Findings[i].Threshold) // a number from 0 to 1
		findings.items = append(findings.items, with(f, pair{name: "channels", value: all}, pair{name: "threshold", value: &node{kind: kindNumber, text: string(threshold)}}))
	}
	root.fields = append(root.fields, pair{name: "findings", value: findings})
	take("limits", nil)
	if a := p.root.field("alerts"); a != nil {
		root.fields = append(root.fields, pair{name: "alerts", value: with(a, pair{name: "from", value: textNode(p.Alerts.From.String())})})
	}
	endpoints := &node{kind: kindList}
	for _, e := range DefaultEndpoints() {
		endpoints.items = append(endpoints.items, textNode(e))
	}
	take("endpoints", endpoints)
	return root
}

// with returns a mapping with defaults for the fields that it does not have.
func with(n *node, defaults ...pair) *node {
	out := &node{kind: kindMapping, fields: slices.Clone(n.fields)}
	for _, d := range defaults {
		if n.field(d.name) == nil {
			out.fields = append(out.fields, d)
		}
	}
	return out
}

// list returns a list's items; nil has none.
func (n *node) list() []*node {
	if n == nil {
		return nil
	}
	return n.items
}

func textNode(s string) *node { return &node{kind: kindText, text: s} }

func boolNode(b bool) *node {
	if b {
		return &node{kind: kindBool, text: "true"}
	}
	return &node{kind: kindBool, text: "false"}
}

// writeBlock writes a value behind "name:": what is a list of mappings or a
// mapping of mappings on lines of its own, everything else in flow style.
func writeBlock(w *strings.Builder, n *node, indent string) {
	nested := func(n *node) bool { return n.kind == kindMapping && len(n.fields) > 0 }
	switch {
	case n.kind == kindList && slices.ContainsFunc(n.items, nested):
		w.WriteByte('\n')
		for _, item := range n.items {
			w.WriteString(indent + "-")
			if !nested(item) || !slices.ContainsFunc(item.fields, func(f pair) bool { return nested(f.value) }) {
				w.WriteByte(' ')
				writeFlow(w, item, plain)
				w.WriteByte('\n')
				continue
			}
			for i, f := range item.fields {
				if i == 0 {
					w.WriteString(" " + plain(f.name) + ":")
				} else {
					w.WriteString(indent + "  " + plain(f.name) + ":")
				}
				writeBlock(w, f.value, indent+"    ")
			}
		}
	case nested(n) && slices.ContainsFunc(n.fields, func(f pair) bool { return nested(f.value) }):
		w.WriteByte('\n')
		for _, f := range n.fields {
			w.WriteString(indent + plain(f.name) + ":")
			writeBlock(w, f.value, indent+"  ")
		}
	default:
		w.WriteByte(' ')
		writeFlow(w, n, plain)
		w.WriteByte('\n')
	}
}

// writeFlow writes a value on one line; text is how names and texts are written.
func writeFlow(w *strings.Builder, n *node, text func(string) string) {
	switch n.kind {
	case kindMapping:
		w.WriteByte('{')
		for i, f := range n.fields {
			if i > 0 {
				w.WriteString(", ")
			}
			w.WriteString(text(f.name) + ": ")
			writeFlow(w, f.value, text)
		}
		w.WriteByte('}')
	case kindList:
		w.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				w.WriteString(", ")
			}
			writeFlow(w, item, text)
		}
		w.WriteByte(']')
	case kindText:
		w.WriteString(text(n.text))
	case kindNull:
		w.WriteString("null")
	default:
		w.WriteString(n.text)
	}
}

var plainScalar = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./@-]*$`)

// plain writes a text as YAML, in quotes where it could be read as something else.
func plain(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return jsonString(s)
	}
	if plainScalar.MatchString(s) {
		return s
	}
	return jsonString(s)
}

// jsonString writes a text as JSON, which is YAML, too.
func jsonString(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		return `""` // not UTF-8, which the reader refuses
	}
	return string(b)
}
