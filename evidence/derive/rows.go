package derive

import (
	"strings"

	"github.com/guardbook/guardbook"
)

// frameworks names the OWASP agentic threat and the MITRE ATLAS technique that a
// threat class belongs to.
var frameworks = map[guardbook.Class][2]string{
	guardbook.ClassPromptInjection:     {"ASI01", "AML.T0051"},
	guardbook.ClassJailbreak:           {"ASI01", "AML.T0054"},
	guardbook.ClassDataExfiltration:    {"ASI02", "AML.T0086"},
	guardbook.ClassPII:                 {"ASI02", "AML.T0057"},
	guardbook.ClassSecret:              {"ASI03", "AML.T0098"},
	guardbook.ClassPrivilegeEscalation: {"ASI03", "AML.T0012"},
	guardbook.ClassToolMisuse:          {"ASI02", "AML.T0053"},
	guardbook.ClassToolPoisoning:       {"ASI04", "AML.T0110"},
	guardbook.ClassCodeExecution:       {"ASI05", "AML.T0050"},
	guardbook.ClassMemoryPoisoning:     {"ASI06", "AML.T0080"},
	guardbook.ClassAnomaly:             {"ASI10", ""},
}

// scanColumns are the columns of CC7.2.
var scanColumns = []column{
	{"row_id", "id of the row: the id of the decision's entry", "text", "decision.id", false},
	{"seq", "place in the log", "count", "decision.seq", false},
	{"log", "the log's origin", "text", "decision.log", false},
	{"occurred_at", "when the interaction reached the guard", "time", "decision.ts", false},
	{"recorded_at", "when the decision was recorded, before anything was released", "time", "decision.rec", false},
	{"tenant", "the tenant", "text", "decision.tenant", false},
	{"agent_id", "the agent", "text", "decision.agent", false},
	{"instance", "the instance that decided", "text", "decision.instance", false},
	{"session_id", "the agent's session", "text", "decision.session", true},
	{"path", "how it came in", "text", "decision.path", false},
	{"direction", "what it was", "input, output, tool_call, tool_result, tool_definition, memory", "decision.kind", false},
	{"tool_server", "server of the tool", "text", "decision.tool.server", true},
	{"tool", "the tool", "text", "decision.tool.name", true},
	{"layers_run", "layers that looked, with version", "text", "decision.layers", true},
	{"verdict", "what policy decided, in monitor mode too", "allow, log, flag, redact, hold, block", "decision.would, else decision.decision", false},
	{"action", "what was done", "allow, log, flag, redact, hold, block", "decision.decision", false},
	{"mode", "enforce, or monitor: the verdict is not obeyed", "text", "decision.mode", false},
	{"threat_class", "class of the most severe finding", "text", "decision.findings", true},
	{"owasp", "OWASP agentic threat of that class", "text", "threat_class", true},
	{"atlas", "MITRE ATLAS technique of that class", "text", "threat_class", true},
	{"severity", "severity of the decision", "info to critical", "decision.severity", false},
	{"confidence", "confidence of the most severe finding", "0 to 1", "decision.findings.confidence", true},
	{"findings", "number of findings", "count", "decision.findings, decision.truncated", false},
	{"rule_id", "the rule that decided", "text", "decision.rule", true},
	{"policy", "the policy that decided", "text", "decision.policy", true},
	{"policy_hash", "hash of the bundle in force", "text", "decision.bundle", false},
	{"latency_us", "from arrival at the guard to decision", "microseconds", "decision.us", false},
	{"cached", "whether the findings were known from the same content", "true or false", "decision.cached", false},
	{"degraded", "whether a layer failed, did not finish or was let pass", "true or false", "decision.layers.error, decision.fail_open", false},
	{"degraded_detail", "what failed", "text", "decision.layers.error", true},
	{"client_seq", "the caller's own number", "count", "decision.client_seq", true},
	{"content_commitment", "salted commitment to the content", "text", "decision.commitment", true},
	{"alert_id", "the alert that it opened or repeated", "text", "the alert of the agent and rule that it opened, or that was open", true},
	{"containment_id", "the containment that stopped it", "text", "decision.containment", true},
}

// accessColumns are the columns of CC6.1.
var accessColumns = []column{
	{"row_id", "id of the row: the id of the decision's entry", "text", "decision.id", false},
	{"seq", "place in the log", "count", "decision.seq", false},
	{"log", "the log's origin", "text", "decision.log", false},
	{"occurred_at", "when the call reached the guard", "time", "decision.ts", false},
	{"recorded_at", "when the decision was recorded, before the call was released", "time", "decision.rec", false},
	{"agent_id", "the agent", "text", "decision.agent", false},
	{"session_id", "the agent's session", "text", "decision.session", true},
	{"user", "on whose behalf, if told", "text", "decision.user", true},
	{"parent_agent", "the agent that delegated, if told", "text", "decision.parent", true},
	{"tool_server", "server of the tool", "text", "decision.tool.server", true},
	{"tool", "the tool", "text", "decision.tool.name", true},
	{"decided", "what policy decided, in monitor mode too", "allow, log, flag, redact, hold, block", "decision.would, else decision.decision", false},
	{"action", "what was done", "allow, log, flag, redact, hold, block", "decision.decision", false},
	{"released", "whether the call went on", "true or false", "action", false},
	{"mode", "enforce, or monitor: the decision is not obeyed", "text", "decision.mode", false},
	{"rule_id", "the rule that decided", "text", "decision.rule", true},
	{"policy", "the policy that decided", "text", "decision.policy", true},
	{"policy_hash", "hash of the bundle in force", "text", "decision.bundle", false},
	{"severity", "severity of the decision", "info to critical", "decision.severity", false},
	{"message", "what the agent was told", "text", "decision.message", true},
	{"fail_open", "whether it went on although a layer failed", "true or false", "decision.fail_open", false},
	{"containment_id", "the containment that stopped it", "text", "decision.containment", true},
	{"content_commitment", "salted commitment to the arguments", "text", "decision.commitment", true},
}

// verdictOf is what policy decided, whether it was obeyed or not.
func verdictOf(b *guardbook.DecisionEntry) string {
	if b.Would != "" {
		return string(b.Would)
	}
	return string(b.Decision)
}

// degradedDecision reports whether a layer failed on a decision.
func degradedDecision(b *guardbook.DecisionEntry) bool {
	if b.FailOpen {
		return true
	}
	for _, l := range b.Layers {
		if l.Error != "" {
			return true
		}
	}
	return false
}

// worst is the most severe finding; of equals the most confident, then the first.
func worst(fs []guardbook.Finding) *guardbook.Finding {
	var top *guardbook.Finding
	for i := range fs {
		f := &fs[i]
		if top == nil || f.Severity > top.Severity || f.Severity == top.Severity && f.Confidence > top.Confidence {
			top = f
		}
	}
	return top
}

func toolOf(b *guardbook.DecisionEntry) (server, name string) {
	if b.Tool == nil {
		return "", ""
	}
	return b.Tool.Server, b.Tool.Name
}

func (w *writer) scanRow(x event, b *guardbook.DecisionEntry) error {
	server, tool := toolOf(b)
	var layers, failed []string
	for _, l := range b.Layers {
		layers = append(layers, strings.TrimSpace(l.Name+" "+l.Version))
		if l.Error != "" {
			failed = append(failed, l.Name+": "+l.Error)
		}
	}
	class, owasp, atlas := "", "", ""
	var confidence, clientSeq any
	if f := worst(b.Findings); f != nil {
		class, confidence = string(f.Class), f.Confidence
		owasp, atlas = frameworks[f.Class][0], frameworks[f.Class][1]
	}
	if b.ClientSeq > 0 {
		clientSeq = b.ClientSeq
	}
	return w.scans.t.row(x.ID, x.Seq, x.Log, x.TS, x.Rec, x.Tenant, b.Agent, x.Instance, b.Session, b.Path, string(b.Kind), server, tool,
		strings.Join(layers, "; "), verdictOf(b), string(b.Decision), string(b.Mode), class, owasp, atlas, b.Severity.String(), confidence,
		len(b.Findings)+b.Truncated, b.Rule, b.Policy, b.Bundle, b.Micros, b.Cached, degradedDecision(b), strings.Join(failed, "; "), clientSeq,
		b.Commitment, w.s.alertID(x.ref, b), b.Containment)
}

func (w *writer) accessRow(x event, b *guardbook.DecisionEntry) error {
	server, tool := toolOf(b)
	return w.access.t.row(x.ID, x.Seq, x.Log, x.TS, x.Rec, b.Agent, b.Session, b.User, b.Parent, server, tool, verdictOf(b), string(b.Decision),
		b.Decision.Releases(), string(b.Mode), b.Rule, b.Policy, b.Bundle, b.Severity.String(), b.Message, b.FailOpen, b.Containment, b.Commitment)
}

// alertID is the alert that gathers a decision, if one does.
func (s *state) alertID(at Ref, b *guardbook.DecisionEntry) string {
	if b.Alert == "" {
		return ""
	}
	class := guardbook.Class("")
	if f := worst(b.Findings); f != nil {
		class = f.Class
	}
	if a := s.alerts.of(b.Agent, b.Rule, class, at); a != nil {
		return a.Alert
	}
	return ""
}
