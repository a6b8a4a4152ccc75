package guard

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
)

// layerPolicy is the layer of findings that policy itself makes.
const layerPolicy = "policy"

// maxFindings bounds the findings of one entry; what is over is counted.
const maxFindings = 48

// judgement is a decision on its way into the book.
type judgement struct {
	in          *guardbook.Interaction
	policy      *policy.Policy
	decision    guardbook.Decision
	at          time.Time
	micros      int64
	bytes       int64
	failOpen    bool
	alert       string
	containment string
}

// verdict is one reason for an action; the strictest decides.
type verdict struct {
	action   guardbook.Action
	rule     string
	severity guardbook.Severity
	message  string
}

// judge decides on one interaction: containment, policy, limits, detectors.
func (g *Guard) judge(ctx context.Context, bundle *policy.Bundle, in *guardbook.Interaction, counted *requestCount) judgement {
	start := time.Now()
	if in.Tenant == "" {
		in.Tenant = guardbook.DefaultTenant
	}
	j := judgement{in: in, policy: policyOf(bundle, in.Agent), at: g.o.Now(), bytes: contentBytes(in)}
	d := &j.decision
	d.Entry, d.Bundle, d.Findings = newEntryID(), bundle.Hash, []guardbook.Finding{}
	if j.policy != nil {
		d.Policy, d.Mode = j.policy.Name, j.policy.Mode
	}

	if c, ok := g.o.Containments.Check(in); ok {
		g.o.Containments.Refused(c.ID)
		j.containment = c.ID
		// A kill is obeyed in monitor mode, too: it is a person's order, not a policy's.
		d.Mode = guardbook.ModeEnforce
		j.settle(verdict{guardbook.ActionBlock, "containment/" + c.Scope, guardbook.High,
			"Stopped by an operator: " + c.Scope + " is contained. Do not retry."}, nil)
		j.micros = time.Since(start).Microseconds()
		return j
	}
	if j.policy == nil {
		d.Mode = guardbook.ModeEnforce
		j.settle(verdict{guardbook.ActionBlock, "no-policy", guardbook.High,
			fmt.Sprintf("Blocked: no policy covers agent %q. Ask whoever runs Guardbook to write one.", in.Agent)}, nil)
		j.micros = time.Since(start).Microseconds()
		return j
	}

	var reasons []verdict
	if v, over := g.overLimit(j.policy, in, j.at, counted); over {
		reasons = append(reasons, v)
	}
	if in.Kind == guardbook.KindToolCall {
		began := time.Now()
		v := j.policy.Tool(ctx, in)
		d.Layers = append(d.Layers, guardbook.LayerRun{Name: layerPolicy, Micros: time.Since(began).Microseconds()})
		reasons = append(reasons, verdict{v.Action, v.Rule, v.Severity, v.Message})
		if !v.Action.Releases() {
			d.Findings = append(d.Findings, guardbook.Finding{
				Class: cmp.Or(v.Class, guardbook.ClassToolMisuse), Severity: v.Severity, Confidence: 1, Rule: v.Rule, Layer: layerPolicy,
			})
		}
	}
	found, hit := g.scan(ctx, in)
	d.Cached = hit
	d.Layers = append(d.Layers, found.layers...)
	spans := j.applyFindings(found.findings, &reasons)
	for _, l := range found.layers {
		if l.Error != "" {
			if j.policy.OnError(in.Kind) == guardbook.ActionBlock {
				reasons = append(reasons, verdict{guardbook.ActionBlock, j.policy.Name + "/on_error/" + string(in.Kind), guardbook.High,
					"Blocked by policy " + j.policy.Name + ": detector " + l.Name + " failed, and this policy does not let a " + string(in.Kind) + " pass unread. Try again later."})
			} else {
				j.failOpen = true
			}
		}
	}
	var decided verdict
	for _, v := range reasons {
		if decided.rule == "" || guardbook.Stricter(decided.action, v.action) != decided.action ||
			v.action == decided.action && v.severity > decided.severity {
			decided = v
		}
	}
	if decided.action == "" {
		decided.action = guardbook.ActionAllow
	}
	j.settle(decided, spans)
	j.micros = time.Since(start).Microseconds()
	return j
}

// applyFindings lets policy judge what the detectors found. It returns the spans
// to redact; severities on the decision are the policy's.
func (j *judgement) applyFindings(found []guardbook.Finding, reasons *[]verdict) []guardbook.Span {
	var spans []guardbook.Span
	for _, f := range found {
		v, ok := j.policy.Finding(j.in.Kind, f)
		if ok {
			f.Severity = v.Severity
			message := v.Message
			if message == "" {
				message = fmt.Sprintf("Blocked by policy %s: %s found in %s. Choose another approach; do not retry.", j.policy.Name, f.Class, j.in.Kind)
			}
			*reasons = append(*reasons, verdict{v.Action, v.Rule, v.Severity, message})
			if v.Action == guardbook.ActionRedact {
				spans = append(spans, j.spanOf(f)...)
			}
		}
		j.decision.Findings = append(j.decision.Findings, f)
	}
	return spans
}

// spanOf is what must go when a finding is redacted: its span, or everything that
// was read when the detector could not say where.
func (j *judgement) spanOf(f guardbook.Finding) []guardbook.Span {
	if f.Span != nil {
		return []guardbook.Span{*f.Span}
	}
	texts, _ := j.in.Texts()
	var all []guardbook.Span
	for _, t := range texts {
		all = append(all, guardbook.Span{Path: t.Path, Start: 0, End: len(t.Text)})
	}
	return all
}

// settle writes the deciding verdict onto the decision, obeys the mode and makes
// the redacted content.
func (j *judgement) settle(v verdict, spans []guardbook.Span) {
	d := &j.decision
	d.Action, d.Rule, d.Severity = v.action, v.rule, v.severity
	if v.action == guardbook.ActionRedact {
		content, args, err := Redact(j.in, spans, d.Findings)
		if err != nil { // what cannot be redacted must not pass
			d.Action = guardbook.ActionBlock
			v.message = "Blocked by policy " + d.Policy + ": it held what must be redacted, in a place where it cannot be. Choose another approach; do not retry."
		} else {
			d.Content, d.Arguments = content, args
		}
	}
	if !d.Action.Releases() {
		d.Message = v.message
	}
	if d.Action == guardbook.ActionAllow {
		d.Severity = guardbook.Info
	}
	effective := d.Action
	// Who defers asks again; a kill is obeyed at once.
	deferred := j.in.Deferred && j.policy != nil && j.containment == ""
	if (d.Mode == guardbook.ModeMonitor || deferred) && (!d.Action.Releases() || d.Action == guardbook.ActionRedact) {
		d.Would, d.Action = d.Action, guardbook.ActionAllow
		d.Content, d.Arguments, d.Message = nil, nil, ""
	}
	// Whoever killed something knows that its attempts are refused: the containment
	// counts them, and no alert says it again.
	if j.policy != nil && j.containment == "" && effective != guardbook.ActionAllow && effective != guardbook.ActionLog {
		if to, ok := j.policy.Alert(d.Severity); ok {
			j.alert = to
		}
	}
}

// requestCount makes the inputs of one Decide one request: a conversation that is
// sent again with every turn is not counted by its length.
type requestCount struct{ done, over bool }

// overLimit counts the interaction against the policy's limits.
func (g *Guard) overLimit(p *policy.Policy, in *guardbook.Interaction, now time.Time, counted *requestCount) (verdict, bool) {
	var name string
	var n int
	switch {
	case in.Deferred: // it is counted when it is asked again
		return verdict{}, false
	case in.Kind == guardbook.KindToolCall && p.Limits.ToolCallsPerMinute > 0:
		name, n = "tool_calls_per_minute", p.Limits.ToolCallsPerMinute
	case in.Kind == guardbook.KindInput && in.Role != "system" && in.Role != "assistant" && p.Limits.RequestsPerMinute > 0:
		name, n = "requests_per_minute", p.Limits.RequestsPerMinute
	default:
		return verdict{}, false
	}
	over := counted.over
	if in.Kind == guardbook.KindToolCall || !counted.done {
		over = !g.limits.allow(limitKey{in.Tenant, in.Agent, name}, n, now)
	}
	if in.Kind == guardbook.KindInput {
		counted.done, counted.over = true, over
	}
	if !over {
		return verdict{}, false
	}
	return verdict{guardbook.ActionBlock, p.Name + "/limits/" + name, guardbook.Medium,
		fmt.Sprintf("Blocked by policy %s: more than %d %s. Wait before the next one.", p.Name, n, strings.ReplaceAll(name, "_", " "))}, true
}

// draft is the decision's entry.
func (j *judgement) draft(commitmentKey []byte) guardbook.Draft {
	d := &j.decision
	e := guardbook.DecisionEntry{
		Agent: j.in.Agent, Session: j.in.Session, User: j.in.User, Parent: j.in.Parent,
		Kind: j.in.Kind, Role: j.in.Role, Path: j.in.Path,
		Layers: d.Layers, Findings: d.Findings,
		Decision: d.Action, Would: d.Would, Rule: d.Rule, Severity: d.Severity, Message: d.Message,
		Policy: d.Policy, Bundle: d.Bundle, Mode: d.Mode, Cached: d.Cached, FailOpen: j.failOpen,
		Bytes: j.bytes, Micros: j.micros, Deferred: j.in.Deferred, Client: j.in.Client, ClientSeq: j.in.ClientSeq, Alert: j.alert, Containment: j.containment,
		Commitment: Commitment(Salt(commitmentKey, d.Entry), j.in),
	}
	if e.Layers == nil {
		e.Layers = []guardbook.LayerRun{}
	}
	if len(e.Findings) > maxFindings {
		e.Truncated = len(e.Findings) - maxFindings
		e.Findings = e.Findings[:maxFindings]
	}
	if t := j.in.Tool; t != nil {
		e.Tool = &guardbook.ToolRef{Server: clip(t.Server, 256), Name: clip(t.Name, 256), CallID: clip(t.CallID, 256)}
	}
	return guardbook.Draft{ID: d.Entry, Type: guardbook.TypeDecision, Time: j.at, Tenant: j.in.Tenant, Body: e}
}
