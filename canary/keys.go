package canary

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
)

// Keys are the agents' keys and, beside them, the one of the test agent. It is made
// anew at every start and is nowhere but in memory.
type Keys struct {
	gateway.Keys
	key string
}

// NewKeys puts the test agent's key beside those of the registered agents.
func NewKeys(registered gateway.Keys) *Keys {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return &Keys{registered, "gbk_canary_" + hex.EncodeToString(b)}
}

// Authenticate knows whose key it is. No registered agent can be the test agent.
func (k *Keys) Authenticate(key string) (agent, tenant string, ok bool) {
	if subtle.ConstantTimeCompare([]byte(key), []byte(k.key)) == 1 {
		return guardbook.CanaryAgent, guardbook.DefaultTenant, true
	}
	agent, tenant, ok = k.Keys.Authenticate(key)
	if agent == guardbook.CanaryAgent {
		return "", "", false
	}
	return agent, tenant, ok
}
