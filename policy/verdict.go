package policy

import (
	"slices"
	"strings"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy/argument"
)

// Refusal is the sentence that an agent reads when policy name refuses it.
// Reason is a clause without a full stop.
func Refusal(name, reason string) string {
	return "Blocked by policy " + name + ": " + reason + ". Choose another approach; do not retry."
}

// Finding returns the verdict on a finding in an interaction of this kind, and
// whether any findings rule applies to it. Where several apply the strictest
// action wins, and the first in the file of those.
func (p *Policy) Finding(kind guardbook.Kind, f guardbook.Finding) (Verdict, bool) {
	k := slices.Index(guardbook.Kinds, kind)
	var best *FindingRule
	for i := range p.Findings {
		r := &p.Findings[i]
		// A confidence that is no number compares false with everything: written
		// this way round it reaches every threshold.
		if r.Class != f.Class || k < 0 || r.channels&(1<<k) == 0 || f.Confidence < r.Threshold {
			continue
		}
		if best == nil || guardbook.Stricter(best.Action, r.Action) != best.Action {
			best = r
		}
	}
	if best == nil {
		return Verdict{}, false
	}
	v := Verdict{Action: best.Action, Rule: best.rule, Severity: f.Severity, Class: f.Class}
	if best.Severity != nil {
		v.Severity = *best.Severity
	}
	if !v.Action.Releases() {
		v.Message = Refusal(p.Name, strings.ReplaceAll(string(f.Class), "_", " ")+" was found in "+channelWords[k])
	}
	return v, true
}

// channelWords say in a sentence where a finding was, in the order of guardbook.Kinds.
var channelWords = []string{"the input", "the output", "the tool call", "the tool's result", "the tool's definition", "the memory"}

// OnError says what happens to an interaction of this kind when a detector
// fails: allow or block. A policy that does not say blocks tool calls and
// allows texts.
func (p *Policy) OnError(kind guardbook.Kind) guardbook.Action {
	if a, ok := p.Failure.Kinds[kind]; ok {
		return a
	}
	if kind == guardbook.KindToolCall {
		return guardbook.ActionBlock
	}
	return guardbook.ActionAllow
}

// OnBookError says what happens to an interaction whose decision cannot be
// written down: block unless the policy says allow.
func (p *Policy) OnBookError() guardbook.Action {
	if p.Failure.Book == guardbook.ActionAllow {
		return guardbook.ActionAllow
	}
	return guardbook.ActionBlock
}

// Alert says whether a decision of severity s opens an alert, and for whom.
func (p *Policy) Alert(s guardbook.Severity) (receiver string, ok bool) {
	if p.Alerts.To == "" || s < p.Alerts.From {
		return "", false
	}
	return p.Alerts.To, true
}

// endpoint is one entry of Endpoints, taken apart.
type endpoint struct{ method, path, rule string }

// Endpoint reports whether a request to a provider endpoint that Guardbook does
// not read may pass, and by which rule. Path is the request's URL path as it
// goes upstream, without the provider's prefix. A path that another reader could
// take for a different one (dot segments, doubled slashes, escapes, backslashes)
// never passes.
func (p *Policy) Endpoint(method, path string) (rule string, ok bool) {
	if !plainPath(path) {
		return "", false
	}
	for i := range p.endpoints {
		if e := &p.endpoints[i]; e.method == method && Match(e.path, path) {
			return e.rule, true
		}
	}
	return "", false
}

func plainPath(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "%\\?#;") || strings.Contains(path, "//") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// compile fills in what evaluation needs from what was parsed.
func (p *Policy) compile() {
	var names []string
	for i := range p.Tools {
		t := &p.Tools[i]
		t.rule = p.Name + "/tools/" + t.Name
		t.severity = guardbook.High
		if t.Severity != nil {
			t.severity = *t.Severity
		}
		if t.Deny == "" && !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
		if t.Arguments != nil {
			t.rules = make([]string, len(t.Arguments.Fields))
			for j, f := range t.Arguments.Fields {
				t.rules[j] = t.rule + "/" + f.Name
			}
		}
	}
	p.toolNames = argument.Among(names)
	for i := range p.Findings {
		r := &p.Findings[i]
		r.rule = p.Name + "/findings/" + string(r.Class)
		for k, kind := range guardbook.Kinds {
			if len(r.Channels) == 0 || slices.Contains(r.Channels, kind) {
				r.channels |= 1 << k
			}
		}
	}
	list, byDefault := p.Endpoints, p.Endpoints == nil
	if byDefault {
		list = DefaultEndpoints()
	}
	p.endpoints = nil
	for _, s := range list {
		method, path, _ := strings.Cut(s, " ")
		rule := p.Name + "/endpoints/" + s
		if byDefault {
			rule = p.Name + "/endpoints/default"
		}
		p.endpoints = append(p.endpoints, endpoint{method, path, rule})
	}
}
