package normalize

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold makes the view on which rules for natural language are written: lower
// case, Latin letters without accents, typographic quotes and dashes as ASCII,
// each run of white space one space (a newline when it held one), Markdown
// emphasis and inline HTML tags gone. v should be a clean view.
func Fold(v *View) *View {
	s := v.Text
	b := newBuilder(v)
	copied := 0 // s[copied:i] is unchanged so far and not yet written
	flush := func(i int) {
		b.copy(copied, i)
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			to, same := foldRune(r, n)
			if !same {
				flush(i)
				b.replace(i, i+n, to)
				copied = i + n
			}
			i += n
			continue
		}
		switch foldAction[c] {
		case keep:
			i++
		case lower:
			// In place: lower-casing keeps every offset.
			flush(i)
			b.mark(i, 1, 1)
			for i < len(s) && s[i] < utf8.RuneSelf && foldAction[s[i]] <= lower {
				x := s[i]
				if foldAction[x] == lower {
					x += 'a' - 'A'
				}
				b.out = append(b.out, x)
				i++
			}
			copied = i
		case space:
			j := i + 1
			newline := c == '\n'
			for j < len(s) && s[j] < utf8.RuneSelf && foldAction[s[j]] == space {
				newline = newline || s[j] == '\n'
				j++
			}
			to := " "
			if newline {
				to = "\n"
			}
			if j == i+1 && to[0] == c {
				i = j
				continue
			}
			flush(i)
			b.replace(i, j, to)
			i, copied = j, j
		case markup:
			n, to := markupAt(s, i)
			if n == 0 {
				i++
				continue
			}
			flush(i)
			b.replace(i, i+n, to)
			i += n
			copied = i
		}
	}
	flush(len(s))
	return b.view("folded")
}

// What Fold does with an ASCII byte.
const (
	keep = iota
	lower
	space
	markup
)

var foldAction = func() (t [utf8.RuneSelf]byte) {
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = lower
	}
	for _, c := range " \t\n\r\f\v" {
		t[c] = space
	}
	for _, c := range "*`_~<" {
		t[c] = markup
	}
	return t
}()

// foldRune folds one rune outside ASCII; same: it stays as it is.
func foldRune(r rune, n int) (to string, same bool) {
	switch r {
	case utf8.RuneError:
		return "", true
	case '‘', '’', '‚', '‛', '′', '´', 'ʼ', 'ʹ':
		return "'", false
	case '“', '”', '„', '‟', '″', '«', '»', '「', '」', '『', '』':
		return `"`, false
	case '‐', '‑', '‒', '–', '—', '―', '−':
		return "-", false
	case '…':
		return "...", false
	case 0xA0, 0x3000, 0x2028, 0x2029, 0x85:
		return " ", false
	}
	if unicode.IsSpace(r) {
		return " ", false
	}
	low := unicode.ToLower(r)
	if base, ok := latinBase(low); ok {
		return base, false
	}
	if low == r {
		return "", true
	}
	return string(low), false
}

// latinBase gives the plain letters of an accented Latin letter.
func latinBase(r rune) (string, bool) {
	switch r {
	case 'ß':
		return "ss", true
	case 'æ':
		return "ae", true
	case 'œ':
		return "oe", true
	case 'ø':
		return "o", true
	case 'ł':
		return "l", true
	case 'đ', 'ð':
		return "d", true
	case 'ı':
		return "i", true
	}
	if 0x300 <= r && r <= 0x36F { // a mark of its own, as stacked on letters to disguise them
		return "", true
	}
	if (r < 0xE0 || 0x24F < r) && (r < 0x1E00 || 0x1EFF < r) {
		return "", false
	}
	d := norm.NFD.PropertiesString(string(r)).Decomposition()
	if len(d) > 1 && 'a' <= d[0] && d[0] <= 'z' {
		return string(d[:1]), true
	}
	return "", false
}

// blockTags end a line when a browser shows them; inlineTags show nothing.
var (
	inlineTags = map[string]bool{"b": true, "i": true, "u": true, "em": true, "strong": true, "span": true, "code": true, "small": true, "font": true, "mark": true, "a": true, "sup": true, "sub": true, "wbr": true}
	blockTags  = map[string]bool{"br": true, "p": true, "div": true, "li": true, "ul": true, "ol": true, "td": true, "tr": true, "h1": true, "h2": true, "h3": true, "h4": true, "pre": true}
)

// markupAt says how many bytes of markup are at i, and what they show as.
func markupAt(s string, i int) (n int, to string) {
	c := s[i]
	if c == '<' {
		return tagAt(s, i)
	}
	j := i
	for j < len(s) && s[j] == c && j-i < 3 {
		j++
	}
	if c == '_' && i > 0 && j < len(s) && alnum(s[i-1]) && alnum(s[j]) {
		return 0, "" // snake_case
	}
	if c == '~' && j-i < 2 {
		return 0, ""
	}
	// Emphasis touches a letter on exactly one side, or parts a word in two;
	// elsewhere these are list marks, operators or paths.
	before, after := i > 0 && wordish(s[i-1]), j < len(s) && wordish(s[j])
	if !before && !after {
		return 0, ""
	}
	return j - i, ""
}

func tagAt(s string, i int) (n int, to string) {
	rest := s[i+1:]
	if strings.HasPrefix(rest, "!--") { // an empty comment parts a word in two
		if end := strings.Index(rest[:min(len(rest), 32)], "-->"); end > 0 && strings.TrimSpace(rest[3:end]) == "" {
			return 1 + end + 3, ""
		}
		return 0, ""
	}
	rest = strings.TrimPrefix(rest, "/")
	k := 0
	for k < len(rest) && k < 7 && alnum(rest[k]) {
		k++
	}
	name := strings.ToLower(rest[:k])
	inline, block := inlineTags[name], blockTags[name]
	if !inline && !block {
		return 0, ""
	}
	end := strings.IndexByte(rest[:min(len(rest), 256)], '>')
	if end < 0 || strings.IndexByte(rest[k:end], '<') >= 0 || k < end && rest[k] != ' ' && rest[k] != '/' {
		return 0, ""
	}
	n = len(s) - i - len(rest) + end + 1
	if block {
		to = "\n"
	}
	return n, to
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func wordish(c byte) bool { return alnum(c) || c >= utf8.RuneSelf }
