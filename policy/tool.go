package policy

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"io"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy/argument"
)

// maxArguments bounds how many arguments a call may have.
const maxArguments = 256

// Tool returns the verdict on a tool call.
//
// A tool that no entry allows is refused. An entry that denies wins over every
// entry that allows. Of several entries that allow the tool one that fits the
// arguments suffices, one without approval before one with; if none fits, the
// message explains the one that came nearest.
func (p *Policy) Tool(ctx context.Context, in *guardbook.Interaction) Verdict {
	if in.Tool == nil {
		return p.refuse(p.Name+"/tools/default", guardbook.High, "the call names no tool")
	}
	server, name := in.Tool.Server, in.Tool.Name
	allowed := false
	for i := range p.Tools {
		t := &p.Tools[i]
		if !t.matches(server, name) {
			continue
		}
		if t.Deny != "" {
			return p.refuse(t.rule, t.severity, t.Deny)
		}
		allowed = true
	}
	if !allowed {
		reason := "tool " + argument.Quote(name) + " is not allowed"
		if p.toolNames != "" {
			reason = "tool " + argument.Quote(name) + " is not among " + p.toolNames
		}
		return p.refuse(p.Name+"/tools/default", guardbook.High, reason)
	}

	var space [16]member
	args, problem := members(in.Tool.Arguments, space[:0])
	var hold *Tool
	nearest := misfit{passed: -1}
	for i := range p.Tools {
		t := &p.Tools[i]
		if !t.matches(server, name) {
			continue
		}
		if problem != "" { // true of every entry: the first explains it
			return p.refuse(t.rule, t.severity, problem)
		}
		switch m := t.fit(ctx, args); {
		case m.reason != "" && m.passed > nearest.passed:
			m.tool = t
			nearest = m
		case m.reason != "":
		case t.Approval == nil:
			return Verdict{Action: guardbook.ActionAllow, Rule: t.rule}
		case hold == nil:
			hold = t
		}
	}
	if hold != nil {
		return Verdict{
			Action: guardbook.ActionHold, Rule: hold.rule, Severity: hold.severity, Class: guardbook.ClassToolMisuse,
			Message: Refusal(p.Name, "the call needs the approval of "+argument.Among(hold.Approval.From)), Approval: hold.Approval,
		}
	}
	return p.refuse(nearest.rule, nearest.tool.severity, nearest.reason)
}

func (p *Policy) refuse(rule string, s guardbook.Severity, reason string) Verdict {
	return Verdict{
		Action: guardbook.ActionBlock, Rule: rule, Severity: s, Class: guardbook.ClassToolMisuse,
		Message: Refusal(p.Name, reason),
	}
}

func (t *Tool) matches(server, name string) bool {
	return Match(t.Name, name) && (t.Server == "" || Match(t.Server, server))
}

// misfit is why an entry does not allow a call, and how many of its checks the
// call had passed by then.
type misfit struct {
	tool   *Tool
	rule   string
	reason string // empty: it fits
	passed int
}

func (t *Tool) fit(ctx context.Context, args []member) misfit {
	passed := 0
	for i := range args {
		known, near := t.argument(args[i].name)
		switch {
		case known:
			passed++
		case near != "":
			// A reader that ignores case would take it for the argument that is checked.
			return misfit{rule: t.rule, passed: passed, reason: "argument " + argument.Quote(args[i].name) + " differs from " + near + " only in its case"}
		case !t.Additional && t.names == "":
			return misfit{rule: t.rule, passed: passed, reason: "argument " + argument.Quote(args[i].name) + " is not allowed, as the tool may be called without arguments only"}
		case !t.Additional:
			return misfit{rule: t.rule, passed: passed, reason: "argument " + argument.Quote(args[i].name) + " is not among " + t.names}
		}
	}
	for i := range t.Arguments {
		a := &t.Arguments[i]
		value := find(args, a.Name)
		if a.Optional && (value == nil || value.Kind() == 'n') {
			passed++
			continue
		}
		if value == nil {
			return misfit{rule: a.rule, passed: passed, reason: "argument " + argument.Quote(a.Name) + " is missing"}
		}
		if reason := a.Type.Check(ctx, a.Name, value); reason != "" {
			return misfit{rule: a.rule, passed: passed, reason: reason}
		}
		passed++
	}
	return misfit{passed: passed}
}

// argument reports whether the entry names an argument, or else one that
// differs from it in case only.
func (t *Tool) argument(name string) (known bool, near string) {
	for i := range t.Arguments {
		if t.Arguments[i].Name == name {
			return true, ""
		}
	}
	for i := range t.Arguments {
		if strings.EqualFold(t.Arguments[i].Name, name) {
			return false, t.Arguments[i].Name
		}
	}
	return false, ""
}

// member is one member of a call's arguments.
type member struct {
	name  string
	value jsontext.Value
}

func find(args []member, name string) jsontext.Value {
	for i := range args {
		if args[i].name == name {
			return args[i].value
		}
	}
	return nil
}

// members takes a call's arguments apart. They have to be one JSON object without
// duplicate names and in valid UTF-8; the empty text, which some models send for
// a tool without parameters, is the empty object. The values share raw's memory.
func members(raw jsontext.Value, out []member) (_ []member, problem string) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return out, ""
	}
	const notOne = "the arguments are not one valid JSON object"
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, notOne
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, whyNot(err, notOne)
		}
		m := member{name: tok.String()}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, whyNot(err, notOne)
		}
		end := int(dec.InputOffset())
		m.value = raw[end-len(value) : end] // what the decoder returned lives only until its next read
		if out = append(out, m); len(out) > maxArguments {
			return nil, "the call has more than 256 arguments"
		}
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return nil, notOne
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, notOne
	}
	return out, ""
}

func whyNot(err error, otherwise string) string {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return "the arguments hold the same name twice"
	}
	return otherwise
}
