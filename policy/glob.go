package policy

import "strings"

// Match reports whether name matches pattern, in which every * stands for any
// run of characters, also none. Everything else is compared exactly.
func Match(pattern, name string) bool {
	head, rest, glob := strings.Cut(pattern, "*")
	if !glob {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, head)
	if !ok {
		return false
	}
	for {
		middle, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, rest)
		}
		i := strings.Index(name, middle)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(middle):], after
	}
}

// specificity orders the patterns that match one name: an exact name before any
// glob, then the glob with more characters that are not *.
func specificity(pattern string) int {
	n := len(pattern) - strings.Count(pattern, "*")
	if n == len(pattern) {
		return 1 << 20
	}
	return n
}
