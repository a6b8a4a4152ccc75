package guardbook

import "encoding/json/jsontext"

// Decision is what the guard made of one interaction.
type Decision struct {
	Action   Action     `json:"decision"`
	Entry    string     `json:"entry"` // id of its entry in the book
	Rule     string     `json:"rule,omitzero"`
	Severity Severity   `json:"severity"`
	Message  string     `json:"message,omitzero"` // for the agent and for people; never echoes what was matched
	Findings []Finding  `json:"findings"`
	Layers   []LayerRun `json:"layers,omitzero"`
	Policy   string     `json:"policy,omitzero"`
	Bundle   string     `json:"bundle,omitzero"`
	Mode     Mode       `json:"mode,omitzero"`
	// Would is what enforce mode would have done, when the mode is monitor and
	// the answer differs.
	Would  Action `json:"would,omitzero"`
	Cached bool   `json:"cached,omitzero"` // findings came from the cache
	// Content and Arguments replace the interaction's when Action is redact.
	Content   []Part         `json:"content,omitzero"`
	Arguments jsontext.Value `json:"arguments,omitzero"`
}

// LayerRun records one layer's work on a decision: its time, and why it failed
// when it did. Silence is never a pass.
type LayerRun struct {
	Name    string `json:"name"`
	Version string `json:"version,omitzero"`
	Micros  int64  `json:"us"`
	Error   string `json:"error,omitzero"` // "timeout", "panic: ...", "incomplete: ..."
}
