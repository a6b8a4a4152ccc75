package policy

import (
	"context"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy/argument"
)

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

	var space [16]argument.Member
	args, problem := argument.Members(in.Tool.Arguments, space[:0])
	var hold, nearest *Tool
	var why argument.Misfit
	for i := range p.Tools {
		t := &p.Tools[i]
		if !t.matches(server, name) {
			continue
		}
		if problem != "" { // true of every entry: the first explains it
			return p.refuse(t.rule, t.severity, problem)
		}
		switch m := t.Arguments.Fit(ctx, args); {
		case m.Reason != "":
			if nearest == nil || m.Passed > why.Passed {
				nearest, why = t, m
			}
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
	rule := nearest.rule
	if why.Field >= 0 {
		rule = nearest.rules[why.Field]
	}
	return p.refuse(rule, nearest.severity, why.Reason)
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
