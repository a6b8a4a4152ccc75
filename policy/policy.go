// Package policy says what an agent may do and what a finding leads to: it
// parses policy files, names the policy that applies to an agent, and gives a
// verdict on a tool call or a finding. A policy does not change after Parse and
// may be used from many goroutines at once.
package policy

import (
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy/argument"
)

// Version is the version of the policy language that this build reads.
const Version = 1

// Policy is one file: what one agent, or a set of matching agents, may do.
type Policy struct {
	Name    string
	Version int    // of the language
	Owner   string // who answers for it: a person or a team, usually an e-mail address
	File    string // as given to Parse
	Agents  []string
	Mode    guardbook.Mode
	Failure Failure
	Tools   []Tool // in the order of the file
	// Findings holds the rules in the order of the file. Of several that apply
	// to a finding the strictest action wins.
	Findings  []FindingRule
	Limits    Limits
	Alerts    Alerts
	Endpoints []string // "METHOD /path"; nil: DefaultEndpoints
	Source    []byte   // the file as it was read

	endpoints []endpoint
	toolNames string // the names of every tool with an allow, for a refusal's message
	root      *node  // for the positions of problems found later
	sql       bool   // some argument needs the SQL parser
}

// Failure says what happens to an interaction when a detector fails or the book
// cannot be written (on_error in a policy file).
type Failure struct {
	Kinds map[guardbook.Kind]guardbook.Action // allow | block; a kind that is absent has its default
	Book  guardbook.Action                    // allow | block; empty: block
}

// Tool is one entry of a policy's tools.
type Tool struct {
	Name   string // exact, or a glob with *
	Server string // exact, or a glob with *; empty: any server
	// Deny is the reason for which the tool is never called; empty if the entry
	// allows.
	Deny string
	// Arguments holds the arguments that the entry allows; nil if it denies.
	Arguments *argument.Set
	Approval  *Approval           // a person has to agree before the tool runs
	Severity  *guardbook.Severity // of a refusal by this entry; nil: high

	rule     string   // "billing-bot/tools/query_database"
	rules    []string // of each argument: "billing-bot/tools/query_database/query"
	severity guardbook.Severity
}

// Approval says who has to agree to a call, and within what time.
type Approval struct {
	From   []string
	Within time.Duration
}

// FindingRule says what a finding leads to.
type FindingRule struct {
	Class     guardbook.Class
	Channels  []guardbook.Kind // empty: every kind
	Threshold float64          // the least confidence, 0 to 1
	Action    guardbook.Action
	Severity  *guardbook.Severity // overrides the finding's

	rule     string // "billing-bot/findings/prompt_injection"
	channels uint8  // bit i: guardbook.Kinds[i]
}

// Limits bounds how often an agent may act; 0 is no limit.
type Limits struct {
	ToolCallsPerMinute int
	RequestsPerMinute  int
}

// Alerts says from which severity a decision opens an alert, and who gets it.
type Alerts struct {
	From guardbook.Severity
	To   string // a receiver's name; empty: no alerts
}

// Verdict is what a policy says to a tool call or a finding.
type Verdict struct {
	Action   guardbook.Action
	Rule     string // id of the rule that decided
	Severity guardbook.Severity
	Class    guardbook.Class
	Message  string    // for the agent; empty when nothing is refused
	Approval *Approval // set when Action is hold because of the tool's approval
}

// DefaultEndpoints are the provider endpoints that pass unread when a policy
// names none: the lists of models.
func DefaultEndpoints() []string { return []string{"GET /v1/models", "GET /v1/models/*"} }
