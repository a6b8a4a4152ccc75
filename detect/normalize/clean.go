package normalize

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Clean takes away what a reader does not see and gives every letter its plain
// form: invisible characters go, Unicode tags become the ASCII they spell,
// compatibility forms their normal ones (NFKC), and look-alike letters in words
// that mix scripts their Latin ones. Case stays. It returns v itself when there
// is nothing to do, as for almost all ASCII text.
func Clean(v *View) *View {
	i := firstUnclean(v.Text)
	if i < 0 {
		return v
	}
	b := newBuilder(v)
	s := v.Text
	b.copy(0, i)
	for i < len(s) {
		if c := s[i]; c < utf8.RuneSelf {
			j := i + 1
			if !control(c) {
				for j < len(s) && s[j] < utf8.RuneSelf && !control(s[j]) {
					j++
				}
				// A combining mark that follows belongs to the last letter.
				if j < len(s) && s[j] >= utf8.RuneSelf && j > i+1 && !norm.NFKC.PropertiesString(s[j:]).BoundaryBefore() {
					j--
				}
				if j == i+1 && j < len(s) && s[j] >= utf8.RuneSelf {
					i = b.segment(i)
					continue
				}
				b.copy(i, j)
			}
			i = j
			continue
		}
		i = b.segment(i)
	}
	clean := b.view("clean")
	return unmix(clean)
}

// firstUnclean is the position of the first byte that may need work, or -1.
// When the byte begins a combining sequence, the letter before it is included.
func firstUnclean(s string) int {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || control(s[i]) {
			return max(i-1, 0)
		}
	}
	return -1
}

// control reports whether an ASCII byte is a control character other than white space.
func control(c byte) bool {
	return c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != '\v' || c == 0x7f
}

// segment normalises one composing sequence at i and returns its end.
func (b *builder) segment(i int) int {
	s := b.src.Text
	r, n := utf8.DecodeRuneInString(s[i:])
	switch {
	case r == utf8.RuneError && n <= 1:
		b.copy(i, i+1) // an invalid byte stays what it is
		return i + 1
	case 0xE0020 <= r && r <= 0xE007E: // tags spell ASCII invisibly
		b.replace(i, i+n, string(r-0xE0000))
		return i + n
	case 0x1F1E6 <= r && r <= 0x1F1FF: // regional indicators, letters in little boxes
		b.replace(i, i+n, string(r-0x1F1E6+'A'))
		return i + n
	case Invisible(r):
		return i + n
	}
	j := i + n
	// Composing takes what follows up to the next boundary; 64 bytes are more
	// than any real letter needs, and bound what stacked marks can cost.
	for j < len(s) && j-i < 64 {
		next, m := utf8.DecodeRuneInString(s[j:])
		if next == utf8.RuneError && m <= 1 || Invisible(next) || norm.NFKC.PropertiesString(s[j:]).BoundaryBefore() {
			break
		}
		j += m
	}
	seq := s[i:j]
	if to, ok := smallLetters[r]; ok && j == i+n {
		b.replace(i, j, string(to))
		return j
	}
	if norm.NFKC.IsNormalString(seq) {
		b.copy(i, j)
		return j
	}
	b.replace(i, j, norm.NFKC.String(seq))
	return j
}

// Invisible reports whether a rune shows nothing: zero-width characters, joiners,
// directional controls, soft hyphens, variation selectors, fillers and tags.
func Invisible(r rune) bool {
	switch {
	case r < 0xAD:
		return false
	case r == 0xAD, r == 0x34F, r == 0x61C, r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5, r == 0x3164, r == 0xFEFF, r == 0xFFA0:
		return true
	case 0x180B <= r && r <= 0x180F, 0x200B <= r && r <= 0x200F, 0x202A <= r && r <= 0x202E,
		0x2060 <= r && r <= 0x206F, 0xFE00 <= r && r <= 0xFE0F, 0xFFF0 <= r && r <= 0xFFFB:
		return true
	}
	return 0x1D173 <= r && r <= 0x1D17A || 0xE0000 <= r && r <= 0xE0FFF
}

// unmix replaces look-alike letters in words that mix Latin with another script.
// A word of one script is left alone: it is somebody's language.
func unmix(v *View) *View {
	s := v.Text
	var b *builder
	done := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !unicode.IsLetter(r) {
			i += n
			continue
		}
		start, latin, alike := i, false, false
		for i < len(s) {
			r, n = utf8.DecodeRuneInString(s[i:])
			if !unicode.IsLetter(r) && !unicode.IsMark(r) {
				break
			}
			if r < utf8.RuneSelf {
				latin = true
			} else if _, ok := lookAlikes[r]; ok {
				alike = true
			}
			i += n
		}
		if !latin || !alike {
			continue
		}
		if b == nil {
			b = newBuilder(v)
		}
		b.copy(done, start)
		for j := start; j < i; {
			r, n := utf8.DecodeRuneInString(s[j:])
			if to, ok := lookAlikes[r]; ok {
				b.replace(j, j+n, string(to))
			} else {
				b.copy(j, j+n)
			}
			j += n
		}
		done = i
	}
	if b == nil {
		return v
	}
	b.copy(done, len(s))
	return b.view("clean")
}
