package policy

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// MaxFileSize is the largest policy file, in bytes, that Parse reads.
const MaxFileSize = 1 << 20

// defaultThreshold is the least confidence that a finding rule acts on when it
// names none: below it L1 reports what is more often harmless than not.
const defaultThreshold = 0.4

// namePattern is the form of a policy's name, which begins its rules' ids.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Parse reads one policy file. File is its name in messages. The error is an
// *Errors with every problem of the file, each with its line and column.
func Parse(file string, src []byte) (*Policy, error) {
	p, r := read(file, src)
	if len(r.errs) > 0 {
		return nil, &Errors{List: r.sorted()}
	}
	return p, nil
}

// read reads a policy as far as it can be read; its problems are in the reader.
func read(file string, src []byte) (*Policy, *reader) {
	r := &reader{file: file, src: bytes.Clone(src)}
	p := &Policy{File: file, Source: r.src, Mode: guardbook.ModeEnforce}
	root := r.read()
	if root == nil {
		return p, r
	}
	r.object(root, "the policy", r.policyFields(p))
	p.root, p.sql = root, r.sql
	p.compile()
	return p, r
}

// errorAt is a problem of a policy that is fine by itself, at one of its fields
// or at one item of it.
func (p *Policy) errorAt(name string, item int, message string) *Error {
	n := p.root.field(name)
	if n != nil && item < len(n.items) {
		n = n.items[item]
	}
	e := &Error{File: p.File, Line: 1, Column: 1, Message: message}
	if n != nil {
		e.Line, e.Column = n.line, n.column
	}
	e.Excerpt = excerpt(p.Source, e.Line, e.Column)
	return e
}

// policyFields are the fields of a policy file.
func (r *reader) policyFields(p *Policy) []field {
	return []field{
		{
			name: "policy", required: true, shape: shape{kind: "string", pattern: namePattern.String()},
			doc: "the policy's name, unique over all files: letters, digits, dot, underscore and hyphen",
			read: func(n *node) {
				if s, ok := r.text(n, "policy"); ok && !namePattern.MatchString(s) {
					r.failAt(n, "policy %s is no name for a policy: use up to 64 letters, digits, dots, underscores and hyphens", shown(s))
				} else {
					p.Name = s
				}
			},
		},
		{
			name: "version", required: true, shape: shape{kind: "integer", one: Version},
			doc: "the version of the policy language: 1",
			read: func(n *node) {
				if n.kind != kindNumber || n.text != "1" {
					r.failAt(n, "version %s is not known: this is the version of the policy language, allowed: 1", shown(n.text))
					return
				}
				p.Version = Version
			},
		},
		{
			name: "owner", shape: shape{kind: "string"},
			doc:  "who answers for the policy: a person or a team, usually an e-mail address",
			read: func(n *node) { p.Owner, _ = r.text(n, "owner") },
		},
		{
			name: "agents", required: true, shape: shape{kind: "array", nonempty: true, items: &shape{kind: "string"}},
			doc: "the names of the agents that it is for; * stands for any run of characters",
			read: func(n *node) {
				p.Agents = r.texts(n, "agents")
				for _, item := range n.items {
					r.glob(item, "agents", item.text)
				}
			},
		},
		{
			name: "mode", shape: shape{kind: "string", enum: modes()},
			doc: "enforce (decisions are obeyed, the default) or monitor (everything passes, decisions say what would have happened)",
			read: func(n *node) {
				if s, ok := r.word(n, "mode", modes()); ok {
					p.Mode = guardbook.Mode(s)
				}
			},
		},
		{
			name: "on_error", shape: shape{kind: "object", fields: r.failureFields(p)},
			doc:  "what happens when a detector fails (by kind of interaction) or the book cannot be written (book): allow or block",
			read: func(n *node) { r.object(n, "on_error", r.failureFields(p)) },
		},
		{
			name: "tools", shape: shape{kind: "array", items: &shape{kind: "object", fields: r.toolFields(&Tool{})}},
			doc: "the tools that may be called; every other tool is refused, and an explicit deny wins over every allow",
			read: func(n *node) {
				if n.kind == kindList && len(n.items) == 0 {
					return // no tool at all
				}
				r.list(n, "tools", func(item *node) { p.Tools = append(p.Tools, r.tool(item)) })
				r.neverApplies(n, p.Tools)
			},
		},
		{
			name: "findings", shape: shape{kind: "array", items: &shape{kind: "object", fields: r.findingFields(&FindingRule{})}},
			doc: "what a detector's finding leads to; of several rules that apply the strictest action wins",
			read: func(n *node) {
				if n.kind == kindList && len(n.items) == 0 {
					return
				}
				r.list(n, "findings", func(item *node) { p.Findings = append(p.Findings, r.finding(item)) })
			},
		},
		{
			name: "limits", shape: shape{kind: "object", fields: r.limitFields(p)},
			doc:  "how often an agent may act; what is over is blocked",
			read: func(n *node) { r.object(n, "limits", r.limitFields(p)) },
		},
		{
			name: "alerts", shape: shape{kind: "object", fields: r.alertFields(p)},
			doc: "from which severity a decision opens an alert, and who gets it",
			read: func(n *node) {
				p.Alerts.From = guardbook.High
				r.object(n, "alerts", r.alertFields(p))
			},
		},
		{
			name: "endpoints", shape: shape{kind: "array", items: &shape{kind: "string", pattern: endpointPattern.String()}},
			doc: "provider endpoints that pass unread, METHOD /path with * for any run of characters; an empty list passes none",
			read: func(n *node) {
				p.Endpoints = []string{}
				if n.kind == kindList && len(n.items) == 0 {
					return
				}
				p.Endpoints = append(p.Endpoints, r.texts(n, "endpoints")...)
				for _, item := range n.items {
					if item.kind == kindText && !endpointPattern.MatchString(item.text) {
						r.failAt(item, "endpoint %s has to be a method in capitals, a space and a path without escapes: \"GET /v1/models*\"", shown(item.text))
					}
				}
			},
		},
	}
}

var endpointPattern = regexp.MustCompile(`^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /[A-Za-z0-9._~:@!,=*/-]*$`)

func modes() []string {
	return []string{string(guardbook.ModeEnforce), string(guardbook.ModeMonitor)}
}

func kinds() []string {
	var out []string
	for _, k := range guardbook.Kinds {
		out = append(out, string(k))
	}
	return out
}

func classes() []string {
	var out []string
	for _, c := range guardbook.Classes {
		out = append(out, string(c))
	}
	return out
}

func actions() []string {
	var out []string
	for _, a := range guardbook.Actions {
		out = append(out, string(a))
	}
	return out
}

func (r *reader) failureFields(p *Policy) []field {
	outcomes := []string{string(guardbook.ActionAllow), string(guardbook.ActionBlock)}
	var fields []field
	for _, k := range kinds() {
		fields = append(fields, field{
			name: k, shape: shape{kind: "string", enum: outcomes},
			doc: "when a detector fails on such an interaction; default: " + string((&Policy{}).OnError(guardbook.Kind(k))),
			read: func(n *node) {
				if s, ok := r.word(n, "action", outcomes); ok {
					if p.Failure.Kinds == nil {
						p.Failure.Kinds = map[guardbook.Kind]guardbook.Action{}
					}
					p.Failure.Kinds[guardbook.Kind(k)] = guardbook.Action(s)
				}
			},
		})
	}
	return append(fields, field{
		name: "book", shape: shape{kind: "string", enum: outcomes},
		doc: "when a decision cannot be written into the book; default: block",
		read: func(n *node) {
			if s, ok := r.word(n, "action", outcomes); ok {
				p.Failure.Book = guardbook.Action(s)
			}
		},
	})
}

func (r *reader) findingFields(f *FindingRule) []field {
	zero, one := 0.0, 1.0
	return []field{
		{
			name: "class", required: true, shape: shape{kind: "string", enum: classes()},
			doc: "the threat class",
			read: func(n *node) {
				s, _ := r.word(n, "class", classes())
				f.Class = guardbook.Class(s)
			},
		},
		{
			name: "channels", shape: shape{kind: "array", nonempty: true, items: &shape{kind: "string", enum: kinds()}},
			doc: "the kinds of interaction; default: all",
			read: func(n *node) {
				for _, s := range r.words(n, "channel", kinds()) {
					f.Channels = append(f.Channels, guardbook.Kind(s))
				}
			},
		},
		{
			name: "threshold", shape: shape{kind: "number", min: &zero, max: &one},
			doc: "the least confidence of a finding, 0 to 1; default: 0.4",
			read: func(n *node) {
				if v, ok := r.fraction(n, "threshold"); ok {
					f.Threshold = v
				}
			},
		},
		{
			name: "action", required: true, shape: shape{kind: "string", enum: actions()},
			doc: "what is done with the interaction",
			read: func(n *node) {
				s, _ := r.word(n, "action", actions())
				f.Action = guardbook.Action(s)
			},
		},
		r.severityField("in place of the finding's own", &f.Severity),
	}
}

func (r *reader) severityField(doc string, into **guardbook.Severity) field {
	return field{
		name: "severity", shape: shape{kind: "string", enum: guardbook.SeverityNames()}, doc: doc,
		read: func(n *node) {
			if s, ok := r.word(n, "severity", guardbook.SeverityNames()); ok {
				v, _ := guardbook.ParseSeverity(s)
				*into = &v
			}
		},
	}
}

func (r *reader) finding(n *node) FindingRule {
	f := FindingRule{Threshold: defaultThreshold}
	r.object(n, "a finding rule", r.findingFields(&f))
	if f.Action == guardbook.ActionRedact && len(f.Channels) == 1 && f.Channels[0] == guardbook.KindToolDefinition {
		r.failAt(n, "redact has no meaning for a tool's definition: use flag or block")
	}
	return f
}

func (r *reader) limitFields(p *Policy) []field {
	limit := func(name, doc string, into *int) field {
		least, most := 1.0, 1e6
		return field{name: name, doc: doc, shape: shape{kind: "integer", min: &least, max: &most}, read: func(n *node) {
			*into, _ = r.integer(n, name, 1, 1_000_000)
		}}
	}
	return []field{
		limit("tool_calls_per_minute", "tool calls of one agent in a minute", &p.Limits.ToolCallsPerMinute),
		limit("requests_per_minute", "requests of one agent in a minute", &p.Limits.RequestsPerMinute),
	}
}

func (r *reader) alertFields(p *Policy) []field {
	return []field{
		{
			name: "from", shape: shape{kind: "string", enum: guardbook.SeverityNames()},
			doc: "the least severity; default: high",
			read: func(n *node) {
				if s, ok := r.word(n, "severity", guardbook.SeverityNames()); ok {
					p.Alerts.From, _ = guardbook.ParseSeverity(s)
				}
			},
		},
		{
			name: "to", required: true, shape: shape{kind: "string"}, doc: "the name of a receiver in the server's configuration",
			read: func(n *node) { p.Alerts.To, _ = r.text(n, "to") },
		},
	}
}

// tool reads one entry of tools.
func (r *reader) tool(n *node) Tool {
	var t Tool
	r.object(n, "a tool", r.toolFields(&t))
	if n.kind != kindMapping {
		return t
	}
	allow, deny := n.field("allow"), n.field("deny")
	switch {
	case !n.has("allow") && !n.has("deny"):
		r.failAt(n, "a tool needs either allow or deny: allow: {} is for a tool that is called without arguments")
	case allow != nil && deny != nil:
		r.failAt(deny, "a tool has either allow or deny, not both")
	}
	for _, name := range []string{"approval", "additional"} {
		if f := n.field(name); f != nil && deny != nil && allow == nil {
			r.failAt(f, "%s has no meaning for a tool that is denied", name)
		}
	}
	return t
}

// neverApplies tells of entries that allow what another one denies altogether.
func (r *reader) neverApplies(list *node, tools []Tool) {
	for i, t := range tools {
		if t.Name == "" || t.Deny != "" {
			continue
		}
		for k, d := range tools {
			// A pattern covers another if it matches its text.
			if d.Deny != "" && Match(d.Name, t.Name) && (d.Server == "" || t.Server != "" && Match(d.Server, t.Server)) {
				r.failAt(list.items[i], "this entry never applies: the one in line %d denies %s, and deny wins over allow", list.items[k].line, shown(d.Name))
				break
			}
		}
	}
}

func (r *reader) toolFields(t *Tool) []field {
	var additional bool // may come before allow or after it
	return []field{
		{
			name: "name", required: true, shape: shape{kind: "string"}, doc: "the tool's name; * stands for any run of characters",
			read: func(n *node) {
				if s, ok := r.text(n, "name"); ok && r.glob(n, "name", s) {
					t.Name = s
				}
			},
		},
		{
			name: "server", shape: shape{kind: "string"}, doc: "the server that offers the tool; * stands for any run of characters; default: any",
			read: func(n *node) {
				if s, ok := r.text(n, "server"); ok && r.glob(n, "server", s) {
					t.Server = s
				}
			},
		},
		{
			name: "allow", shape: shape{kind: "object", values: argumentShape()},
			doc:  "the arguments that the tool may be called with, each with its type",
			read: func(n *node) { t.Arguments = r.arguments(n, additional) },
		},
		{
			name: "additional", shape: shape{kind: "boolean"}, doc: "arguments that allow does not name pass unchecked; default: false",
			read: func(n *node) {
				additional = r.boolean(n, "additional")
				if t.Arguments != nil {
					t.Arguments.Additional = additional
				}
			},
		},
		{
			name: "deny", shape: shape{kind: "string"}, doc: "why the tool is never called: the agent reads it",
			read: func(n *node) {
				s, ok := r.text(n, "deny")
				switch {
				case !ok:
				case len(s) > 300 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' }):
					r.failAt(n, "deny has to be one line of at most 300 characters")
				default:
					t.Deny = strings.TrimSuffix(strings.TrimSpace(s), ".")
				}
			},
		},
		{
			name: "approval", shape: shape{kind: "object", fields: r.approvalFields(&Approval{})},
			doc: "who has to agree before the tool runs",
			read: func(n *node) {
				t.Approval = &Approval{}
				r.object(n, "approval", r.approvalFields(t.Approval))
			},
		},
		r.severityField("of a refusal by this entry; default: high", &t.Severity),
	}
}

func (r *reader) approvalFields(a *Approval) []field {
	return []field{
		{
			name: "from", required: true, shape: shape{kind: "array", nonempty: true, items: &shape{kind: "string"}},
			doc: "the groups or people who may agree", read: func(n *node) { a.From = r.texts(n, "from") },
		},
		{
			name: "within", required: true, shape: shape{kind: "string", pattern: `^([0-9.]+(ms|s|m|h))+$`},
			doc:  "how long the call waits before it is refused: 90s, 15m, 2h",
			read: func(n *node) { a.Within, _ = r.duration(n, "within", time.Second, 7*24*time.Hour) },
		},
	}
}

// fraction reads a number from 0 to 1.
func (r *reader) fraction(n *node, what string) (float64, bool) {
	s, ok := r.decimal(n, what)
	if !ok {
		return 0, false
	}
	v, ok := parseFraction(s)
	if !ok {
		r.failAt(n, "%s has to be a number from 0 to 1", what)
	}
	return v, ok
}

func parseFraction(s string) (float64, bool) {
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && v >= 0 && v <= 1
}
