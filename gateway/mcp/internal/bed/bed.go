// Package bed is what tests of MCP guarding stand on: the real guard, policy, rules,
// book, containments and pins.
package bed

import (
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// The agents of the tests, and their keys.
const (
	Agent    = testbed.Agent
	Key      = testbed.Key
	Other    = "other-bot"
	OtherKey = "gbk_other-key"
)

// Policy is what the agents may do unless a test says otherwise.
const Policy = `
policy: billing-bot
version: 1
owner: payments-team@example.com
agents: ["billing-bot", "other-bot"]
mode: enforce
tools:
  - {name: "*", server: "loose", allow: {}, additional: true}
  - name: query
    server: crm
    allow: {query: {type: string, max_length: 200}, region: {type: string, optional: true}}
  - name: greet
    server: crm
    allow: {name: {type: string}}
  - {name: "time", server: crm, allow: {}}
findings:
  - {class: prompt_injection, channels: [input, tool_result, tool_definition], threshold: 0.8, action: block, severity: critical}
  - {class: secret, channels: [output], action: block, severity: critical}
  - {class: secret, channels: [tool_call, tool_result], action: redact, severity: high}
  - {class: pii, channels: [input, output, tool_call, tool_result], threshold: 0.4, action: redact, severity: high}
`

// The texts that the rule pack finds something in.
const (
	Injection = testbed.Injection
	Mail      = testbed.Mail
	Redacted  = testbed.Redacted
	Secret    = testbed.Secret
)

// Bed is what a session stands on.
type Bed struct {
	*testbed.Bed
	Pins  *pin.Store
	Texts string // the directory of the definitions' texts

	texts *pin.Texts
}

// New makes a bed for the length of a test. An empty policy stands for Policy.
func New(t testing.TB, policy string) *Bed {
	t.Helper()
	if policy == "" {
		policy = Policy
	}
	b := &Bed{Bed: testbed.New(t, testbed.Options{Policy: policy, Gateway: gateway.Options{Keys: keys{}}}), Texts: t.TempDir()}
	var err error
	if b.texts, err = pin.OpenTexts(b.Texts, nil); err != nil {
		t.Fatal(err)
	}
	b.Pins = b.NewPins()
	return b
}

// NewPins returns an empty store of pins over the same book.
func (b *Bed) NewPins() *pin.Store {
	return pin.NewStore(pin.Options{
		Recorder: testbed.Recorder{Bed: b.Bed}, Texts: b.texts,
		Mode: func(agent string) guardbook.Mode {
			if p := b.Guard.Policy(agent); p != nil {
				return p.Mode
			}
			return guardbook.ModeEnforce
		},
		Receiver: func(string, guardbook.Severity) string { return "security" },
	})
}

// Keeper is the keeper of the bed's sessions.
func (b *Bed) Keeper() *mcp.Local {
	return &mcp.Local{Guard: b.Gateway.Guard(), Pins: b.Pins, Tenant: guardbook.DefaultTenant}
}

// Session returns a session with a server by a name.
func (b *Bed) Session(server string) *mcp.Session {
	return mcp.NewSession(mcp.Options{
		Keeper: b.Keeper(), Server: pin.Server{Name: server, Identity: pin.URLIdentity("https://" + server + ".example/mcp")},
		Caller: gateway.Caller{Agent: Agent, Tenant: guardbook.DefaultTenant, Session: "s-1"},
	})
}

// All returns every entry of a type in the book, "" for every entry.
func (b *Bed) All(t testing.TB, kind guardbook.EntryType) []guardbook.Entry {
	return testbed.All(t, b.Bed, kind)
}

// Decisions returns every decision in the book.
func (b *Bed) Decisions(t testing.TB) []guardbook.DecisionEntry {
	return testbed.Entries[guardbook.DecisionEntry](t, b.Bed, guardbook.TypeDecision)
}

// Refusals returns every refusal in the book.
func (b *Bed) Refusals(t testing.TB) []guardbook.RefusalEntry {
	return testbed.Entries[guardbook.RefusalEntry](t, b.Bed, guardbook.TypeRefusal)
}

// Steps returns every step of a tool in the book.
func (b *Bed) Steps(t testing.TB) []guardbook.ToolEntry {
	return testbed.Entries[guardbook.ToolEntry](t, b.Bed, guardbook.TypeTool)
}

type keys struct{}

func (keys) Authenticate(key string) (agent, tenant string, ok bool) {
	switch key {
	case Key:
		return Agent, guardbook.DefaultTenant, true
	case OtherKey:
		return Other, guardbook.DefaultTenant, true
	}
	return "", "", false
}
