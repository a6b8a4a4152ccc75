package pattern

import (
	"strings"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/normalize"
)

// HoldReach is the longest match, in bytes, of which Hold keeps every byte back.
// Of a longer one (a private key), the beginning may have been released before
// its end is known; its beginning alone is a finding, too.
const HoldReach = 4 << 10

// maxOpen bounds how many places one call of Hold follows through expressions;
// beyond, it holds from the first that it did not follow.
const maxOpen = 256

// Hold is how many bytes at the end of text a stream must hold back: those that
// belong to a match which more text could complete or lengthen. 0 means that all
// may go. text is what was received so far, or at least its last HoldReach bytes
// beginning where nothing was held.
//
// Safety: as long as a match of at most HoldReach bytes is unfinished, none of its
// bytes is outside of what Hold says. Matches inside encoded text (base64, hex)
// and in words spelled letter by letter are not followed.
func (e *Engine) Hold(kind guardbook.Kind, text string) int {
	active, ok := e.active[kind]
	if !ok || text == "" {
		return 0
	}
	cut := runeStart(text, len(text)-HoldReach)
	tail := text[cut:]
	// A rune that is cut off is not there yet.
	missing := partialRune(tail)
	tail = tail[:len(tail)-missing]
	raw := normalize.Raw(tail)
	clean := normalize.Clean(raw)
	folded := normalize.Fold(clean)
	from := len(tail)
	hold := func(v *normalize.View, at int) {
		if at < len(v.Text) {
			start, _ := v.Origin(at, len(v.Text))
			from = min(from, start)
		}
	}
	hold(raw, e.openFrom(e.text, active, raw.Text))
	hold(folded, e.openFrom(e.folded, active, folded.Text))
	hold(raw, e.openNumbers(active, raw.Text))
	if clean != raw {
		hold(clean, e.openFrom(e.text, active, clean.Text))
		hold(clean, e.openNumbers(active, clean.Text))
		hold(raw, trailingInvisible(raw.Text))
	}
	return len(tail) - from + missing
}

// openFrom is the first byte of what could still become a match of an automaton's
// branches, or len(text).
func (e *Engine) openFrom(a *automaton, active []bool, text string) int {
	from, followed := len(text), 0
	state := a.scan(text, func(end int, outs []output) bool {
		for _, o := range outs {
			at := end - int(o.length)
			first := max(0, at-int(o.before))
			if first >= from || at+int(o.after) < len(text) || !active[e.of[o.branch]] || o.word && at > 0 && wordByte(text[at-1]) {
				continue
			}
			if followed++; followed > maxOpen {
				from = first
				continue
			}
			if open := e.branches[o.branch].alive().open(text, runeStart(text, first), at); open >= 0 {
				from = min(from, open)
			}
		}
		return true
	})
	// A keyword may have begun at the end of the text...
	from = min(from, len(text)-int(a.depth[int(state)/a.stride]))
	// ...or be still to come, where a match begins before its keyword.
	for i, b := range e.branches {
		if !active[e.of[i]] || (b.rule.On == onFolded) != (a == e.folded) {
			continue
		}
		if lead := b.need.lead(); lead > 0 {
			if first := runeStart(text, len(text)-lead); first < from {
				if open := b.alive().open(text, first, from); open >= 0 {
					from = min(from, open)
				}
			}
		}
	}
	return from
}

// lead is how far before the end of a text a match can begin whose keyword is not
// there in full; 0 when matches begin with their keyword.
func (n need) lead() int {
	most := 0
	for _, l := range n {
		if l.before > 0 {
			most = max(most, l.before+len(l.text))
		}
	}
	return most
}

// partialRune is the length of a rune at the end of text that is cut off.
func partialRune(text string) int {
	for k := 1; k < utf8.UTFMax && k <= len(text); k++ {
		if c := text[len(text)-k]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRuneInString(text[len(text)-k:]) {
				return k
			}
			return 0
		}
	}
	return 0
}

// trailingInvisible is where the invisible characters at the end of text begin.
func trailingInvisible(text string) int {
	i := len(text)
	for i > 0 {
		r, n := utf8.DecodeLastRuneInString(text[:i])
		if !normalize.Invisible(r) {
			break
		}
		i -= n
	}
	return i
}

// openNumbers is where a number or address at the end of text begins that the
// scanners could still find or lengthen, or len(text).
func (e *Engine) openNumbers(active []bool, text string) int {
	from := len(text)
	for _, i := range e.scanning {
		if !active[i] {
			continue
		}
		switch e.rules[i].Scanner {
		case "email":
			from = min(from, trailing(text, emailLocal+emailDomain+1, func(c byte) bool { return localByte(c) || c == '@' }))
		case "ipv6":
			from = min(from, trailing(text, 45, func(c byte) bool { return hexDigit(c) || c == ':' || c == '.' }))
		case "iban":
			from = min(from, openIBAN(text))
		case "card", "ssn", "phone-plus", "phone-local", "ipv4":
			from = min(from, openDigits(text))
		}
	}
	return from
}

// trailing is where the run of bytes at the end of text begins that is accepts,
// at most most bytes of it.
func trailing(text string, most int, is func(byte) bool) int {
	i := len(text)
	for i > 0 && len(text)-i < most && is(text[i-1]) {
		i--
	}
	return i
}

// openDigits is where digits with their separators at the end of text begin.
func openDigits(text string) int {
	i := trailing(text, 64, func(c byte) bool { return digit(c) || strings.IndexByte(" -.()/+", c) >= 0 })
	for i < len(text) && !digit(text[i]) && text[i] != '+' && text[i] != '(' {
		i++
	}
	return i
}

// openIBAN is where what could be the beginning of an IBAN at the end of text
// begins: two letters that name a country, digits, then groups.
func openIBAN(text string) int {
	for i := max(0, len(text)-48); i < len(text); i++ {
		if i > 0 && alnum(text[i-1]) || !letter(text[i]) {
			continue
		}
		s := text[i:]
		if len(s) == 1 {
			return i
		}
		want, ok := ibanLength[strings.ToUpper(s[:2])]
		if !ok {
			continue
		}
		n, fits := 0, true
		for k := range len(s) {
			switch c := s[k]; {
			case alnum(c):
				n++
				fits = fits && (n <= 2 || n > 4 || digit(c))
			default:
				fits = fits && n >= 4 && (c == ' ' || c == '-')
			}
		}
		if fits && n <= want {
			return i
		}
	}
	return len(text)
}
