package guardbook

// Finding is one thing that a detector saw.
type Finding struct {
	Class    Class    `json:"class"`
	Severity Severity `json:"severity"`
	// Confidence is a calibrated probability, 0 to 1, that the finding is what
	// its class says.
	Confidence float64 `json:"confidence"`
	Rule       string  `json:"rule"`  // the rule's id, unique in its pack
	Layer      string  `json:"layer"` // "policy", "L1", "L2", "L3"
	Span       *Span   `json:"span,omitzero"`
	// Excerpt shows what was matched with everything sensitive masked; the only
	// trace of agent text that the book may hold. At most 80 bytes of UTF-8.
	Excerpt string `json:"excerpt,omitzero"`
	Message string `json:"message,omitzero"` // one sentence for people
}

// Span is a half-open range of bytes in the text at Path (see Text).
type Span struct {
	Path  string `json:"path"`
	Start int    `json:"start"`
	End   int    `json:"end"`
}
