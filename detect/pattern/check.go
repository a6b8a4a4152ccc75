package pattern

import (
	"context"
	"fmt"

	"github.com/guardbook/guardbook"
)

// Check runs every rule's examples through an engine of that rule alone, on the
// first of its channels, and returns what did not come out as the rule says.
func (p *Pack) Check() []error {
	var out []error
	for _, r := range p.Rules {
		e := New(&Pack{Version: p.Version, Rules: []*Rule{r}}, Options{})
		kind := guardbook.KindOutput
		if len(r.Channels) > 0 {
			kind = r.Channels[0]
		}
		for want, texts := range map[bool][]string{true: r.Examples.Match, false: r.Examples.Pass} {
			for _, text := range texts {
				found, err := e.Detect(context.Background(), &guardbook.Interaction{Kind: kind, Content: []guardbook.Part{guardbook.TextPart(text)}})
				if err != nil {
					out = append(out, fmt.Errorf("rule %q: example %.60q: %w", r.ID, text, err))
				} else if (len(found) > 0) != want {
					out = append(out, fmt.Errorf("rule %q: example %.90q: found %v, want %v", r.ID, text, len(found) > 0, want))
				}
			}
		}
	}
	return out
}
