package pattern

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
)

// maxExcerpt is the longest excerpt in bytes.
const maxExcerpt = 80

// excerpt shows what was found with everything sensitive masked.
func excerpt(m match) string {
	switch m.rule.Class {
	case guardbook.ClassSecret:
		return cut(fmt.Sprintf("%s %s... (%d bytes)", lastPart(m.rule.ID), printable(prefix(m.text, 4)), len(m.text)))
	case guardbook.ClassPII:
		return cut(maskPII(lastPart(m.rule.ID), m.text))
	}
	return cut(maskText(m.text))
}

func lastPart(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// prefix is the first n bytes at most, and never more than a third of s.
func prefix(s string, n int) string {
	n = min(n, len(s)/3)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// maskPII keeps the shape: j***@example.com, ****1111.
func maskPII(kind, s string) string {
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		r, _ := utf8.DecodeRuneInString(s)
		return printable(string(r) + "***" + s[i:])
	}
	var digits []byte
	for _, c := range []byte(s) {
		if digit(c) {
			digits = append(digits, c)
		}
	}
	if len(digits) >= 9 {
		return kind + " ***" + string(digits[len(digits)-2:])
	}
	return kind + " ***"
}

// maskText masks digits and the local parts of e-mail addresses, and shows
// control characters as spaces.
func maskText(s string) string {
	s = s[:min(len(s), 4*maxExcerpt)] // more is not shown
	var b strings.Builder
	done := 0
	scanEmail(s, func(start, end int) bool {
		b.WriteString(s[done:start])
		b.WriteString("***" + s[strings.LastIndexByte(s[:end], '@'):end])
		done = end
		return true
	})
	b.WriteString(s[done:])
	return printable(strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return '#'
		}
		return r
	}, b.String()))
}

// printable drops what would not show or would move a cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError || unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, s)
}

// cut shortens to maxExcerpt bytes at a rune.
func cut(s string) string {
	if len(s) <= maxExcerpt {
		return s
	}
	n := maxExcerpt - 3
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
