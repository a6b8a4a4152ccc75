// Package guardbook holds the words that every part of Guardbook shares: what an
// agent takes in and puts out (Interaction), what a Detector reads from it
// (Finding), what the guard makes of it (Decision) and how each fact is written
// down (Entry). It imports nothing else of this module.
package guardbook

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Kind says which way an interaction goes and what it is.
type Kind string

// The kinds of interaction, as they appear in policy (channels), in entries and
// on the wire.
const (
	KindInput          Kind = "input"           // text on its way to a model: user, system, earlier assistant turns
	KindOutput         Kind = "output"          // text that a model produced
	KindToolCall       Kind = "tool_call"       // a tool about to run, with typed arguments
	KindToolResult     Kind = "tool_result"     // what a tool gave back; untrusted
	KindToolDefinition Kind = "tool_definition" // name, description and schema of a tool offered to a model; untrusted
	KindMemory         Kind = "memory"          // text written to, or read from, an agent's store
)

// Kinds lists every kind in the order of documentation.
var Kinds = []Kind{KindInput, KindOutput, KindToolCall, KindToolResult, KindToolDefinition, KindMemory}

// Class is a threat class. One list serves detectors, policy, archive, dashboard
// and evidence.
type Class string

// The threat classes.
const (
	ClassPromptInjection     Class = "prompt_injection"
	ClassJailbreak           Class = "jailbreak"
	ClassDataExfiltration    Class = "data_exfiltration"
	ClassPII                 Class = "pii"
	ClassSecret              Class = "secret"
	ClassPrivilegeEscalation Class = "privilege_escalation"
	ClassToolMisuse          Class = "tool_misuse"
	ClassToolPoisoning       Class = "tool_poisoning"
	ClassCodeExecution       Class = "code_execution"
	ClassMemoryPoisoning     Class = "memory_poisoning"
	ClassAnomaly             Class = "anomaly"
)

// Classes lists every threat class in the order of documentation.
var Classes = []Class{
	ClassPromptInjection, ClassJailbreak, ClassDataExfiltration, ClassPII, ClassSecret, ClassPrivilegeEscalation,
	ClassToolMisuse, ClassToolPoisoning, ClassCodeExecution, ClassMemoryPoisoning, ClassAnomaly,
}

// Severity orders findings, decisions and alerts. The zero value is "info".
type Severity int

// The severities, lowest first.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

var severityNames = []string{"info", "low", "medium", "high", "critical"}

// SeverityNames lists the allowed spellings, lowest first.
func SeverityNames() []string { return slices.Clone(severityNames) }

// ParseSeverity reads one of SeverityNames.
func ParseSeverity(s string) (Severity, error) {
	if i := slices.Index(severityNames, s); i >= 0 {
		return Severity(i), nil
	}
	return 0, fmt.Errorf("unknown severity %q: use one of %s", s, strings.Join(severityNames, ", "))
}

func (s Severity) String() string {
	if s < 0 || int(s) >= len(severityNames) {
		return fmt.Sprintf("severity(%d)", int(s))
	}
	return severityNames[s]
}

// MarshalText writes the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the severity's name.
func (s *Severity) UnmarshalText(b []byte) error {
	v, err := ParseSeverity(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// Action is what a decision does with an interaction.
type Action string

// The actions, mildest first.
const (
	ActionAllow  Action = "allow"  // let it pass
	ActionLog    Action = "log"    // let it pass; the finding is recorded
	ActionFlag   Action = "flag"   // let it pass; recorded, shown and alerted on
	ActionRedact Action = "redact" // let it pass with the findings' spans replaced
	ActionHold   Action = "hold"   // wait for a person's approval
	ActionBlock  Action = "block"  // stop it
)

// Actions lists every action, mildest first.
var Actions = []Action{ActionAllow, ActionLog, ActionFlag, ActionRedact, ActionHold, ActionBlock}

// Stricter returns the stricter of two actions; the empty action is the mildest.
func Stricter(a, b Action) Action {
	if slices.Index(Actions, b) > slices.Index(Actions, a) {
		return b
	}
	return a
}

// Releases reports whether an interaction goes on under this action, perhaps
// with its content redacted.
func (a Action) Releases() bool { return a != ActionHold && a != ActionBlock }

// Mode is a policy's mode.
type Mode string

// The modes.
const (
	ModeEnforce Mode = "enforce" // decisions are obeyed
	ModeMonitor Mode = "monitor" // everything passes; decisions record what would have happened
)

// Detector reads one interaction and says what it found. It does not decide.
// It must honour ctx (the guard sets its time budget as the deadline), must not
// keep the interaction, and is called from many goroutines at once.
type Detector interface {
	// Layer is the detector's layer and name on decisions: "L1", "L2".
	Layer() string
	// Version identifies the rules or model in use: a short name and a content
	// hash. A change of version invalidates cached findings.
	Version() string
	// Detect returns the findings, in no particular order. With an error it may
	// still return what it found before; the error is recorded on the decision.
	Detect(ctx context.Context, in *Interaction) ([]Finding, error)
}
