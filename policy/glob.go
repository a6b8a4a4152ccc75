package policy

import (
	"strings"

	"github.com/guardbook/guardbook/policy/argument"
)

// Match reports whether name matches pattern, in which every * stands for any
// run of characters, also none. Everything else is compared exactly.
func Match(pattern, name string) bool { return argument.Match(pattern, name) }

// specificity orders the patterns that match one name: an exact name before any
// glob, then the glob with more characters that are not *.
func specificity(pattern string) int {
	n := len(pattern) - strings.Count(pattern, "*")
	if n == len(pattern) {
		return 1 << 20
	}
	return n
}
