package guard

import (
	"sync"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
)

// canaryPolicy is the policy of the instance's own test interactions. It is no file
// of the bundle: a test must mean the same whatever the operators' policies say, and
// must neither use up an agent's limits nor open an alert.
const canaryPolicy = `
policy: guardbook-canary
version: 1
agents: [guardbook-canary]
mode: enforce
tools:
  - {name: "*", allow: {}, additional: true}
findings:
  - {class: anomaly, action: redact, severity: info}
`

var readCanaryPolicy = sync.OnceValue(func() *policy.Policy {
	b, err := policy.NewBundle([]policy.File{{Name: "guardbook-canary.yaml", Source: []byte(canaryPolicy)}})
	if err != nil {
		return nil // without a policy everything is blocked, and every canary is a miss
	}
	return b.For(guardbook.CanaryAgent)
})

// policyOf is the policy of an agent under a bundle.
func policyOf(b *policy.Bundle, agent string) *policy.Policy {
	if agent == guardbook.CanaryAgent {
		return readCanaryPolicy()
	}
	return b.For(agent)
}
