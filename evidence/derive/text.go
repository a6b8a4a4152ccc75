package derive

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxCell bounds a CSV cell, in bytes; the JSON lines hold the whole value.
const maxCell = 8192

// ansi matches terminal control sequences: CSI, OSC and two-byte escapes.
var ansi = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|\x{9b}[0-?]*[ -/]*[@-~]`)

// Plain takes from a text what could move a cursor, colour a terminal, reorder a
// line or hide characters: escape sequences, control characters, bidirectional
// and other invisible format characters, and invalid UTF-8. Line ends become
// spaces.
func Plain(s string) string {
	if !hostile(s) {
		return s
	}
	s = ansi.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029' || r == '\u0085':
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs):
			return -1
		}
		return r
	}, s)
}

// hostile is the fast path of Plain: anything but printable ASCII is looked at.
func hostile(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return true
		}
	}
	return false
}

// Cell makes a text safe for a CSV cell: Plain, bounded, and with a leading
// apostrophe when a spreadsheet would take it for a formula. The JSON lines are
// authoritative.
func Cell(s string) string {
	s = Plain(s)
	if len(s) > maxCell {
		cut := maxCell
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + " [cut]"
	}
	if r, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(s, unicode.IsSpace)); strings.ContainsRune("=+-@|%\uFF1D\uFF0B\uFF0D\uFF20", r) {
		return "'" + s
	}
	return s
}
