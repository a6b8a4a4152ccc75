package pattern

import "github.com/guardbook/guardbook"

type prefixer struct{}

func newPrefixer(string) *prefixer { return &prefixer{} }

// Hold is how many bytes at the end of text must be held back.
func (e *Engine) Hold(kind guardbook.Kind, text string) int { return min(len(text), 256) }
