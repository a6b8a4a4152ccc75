package pattern

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/guardbook/guardbook/detect/normalize"
)

// scanner reads a text once and emits what it finds, in order, until emit
// answers false. It is for what has no keyword: numbers and addresses.
type scanner func(text string, emit func(start, end int) bool)

// scanners by their name in rules.
var scanners = map[string]scanner{
	"email":       scanEmail,
	"card":        scanCard,
	"ssn":         scanSSN,
	"iban":        scanIBAN,
	"phone-plus":  scanPhonePlus,
	"phone-local": scanPhoneLocal,
	"ipv4":        scanIPv4,
	"ipv6":        scanIPv6,
	"hidden":      scanHidden,
}

// Scanners lists the names that a rule's scanner may hold.
func Scanners() []string { return slices.Sorted(maps.Keys(scanners)) }

func digit(c byte) bool { return '0' <= c && c <= '9' }
func letter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
func alnum(c byte) bool { return digit(c) || letter(c) }

// emailReach bounds an address: 64 bytes before the @ and 190 after it.
const emailLocal, emailDomain = 64, 190

func localByte(c byte) bool {
	return alnum(c) || c >= utf8.RuneSelf || strings.IndexByte("._%+-'", c) >= 0
}

func domainByte(c byte) bool {
	return alnum(c) || c == '-' || c == '.' || c >= utf8.RuneSelf
}

// scanEmail finds local@domain.tld (RFC 5322 in the form that people write).
func scanEmail(text string, emit func(start, end int) bool) {
	for at := 0; ; at++ {
		k := strings.IndexByte(text[at:], '@')
		if k < 0 {
			return
		}
		at += k
		start := at
		for start > 0 && at-start < emailLocal && localByte(text[start-1]) {
			start--
		}
		for start < at && (strings.IndexByte(".'-%", text[start]) >= 0 || !utf8.RuneStart(text[start])) {
			start++
		}
		end := at + 1
		for end < len(text) && end-at < emailDomain && domainByte(text[end]) {
			end++
		}
		for end > at+1 && (text[end-1] == '.' || text[end-1] == '-') {
			end--
		}
		domain := text[at+1 : end]
		dot := strings.LastIndexByte(domain, '.')
		if start == at || dot < 1 || !validTLD(domain[dot+1:]) {
			continue
		}
		if !emit(start, end) {
			return
		}
	}
}

func validTLD(s string) bool {
	if len(s) < 2 || len(s) > 24 {
		return false
	}
	for _, c := range []byte(s) {
		if !letter(c) && c < utf8.RuneSelf {
			return false
		}
	}
	return true
}

// digitGroups calls fn for each stretch of digits that may be parted by single
// separators, begins at the start of a word and holds at least least digits.
func digitGroups(text, separators string, least int, fn func(start, end, digits int) bool) {
	for i := 0; i < len(text); i++ {
		if !digit(text[i]) {
			continue
		}
		if i > 0 && (alnum(text[i-1]) || text[i-1] == '.' && i > 1 && digit(text[i-2])) {
			for i+1 < len(text) && digit(text[i+1]) {
				i++
			}
			continue
		}
		j, n := i, 0
		for j < len(text) && n < 24 {
			if digit(text[j]) {
				n++
				j++
			} else if j+1 < len(text) && strings.IndexByte(separators, text[j]) >= 0 && digit(text[j+1]) {
				j++
			} else {
				break
			}
		}
		if n >= least && (j == len(text) || !alnum(text[j])) {
			if !fn(i, j, n) {
				return
			}
		}
		i = j - 1
	}
}

// scanCard finds payment card numbers, in one block or in groups of at least two
// digits parted by the same separator.
func scanCard(text string, emit func(start, end int) bool) {
	digitGroups(text, " -", 12, func(start, end, n int) bool {
		if n <= 19 && card(text[start:end]) && evenGroups(text[start:end]) {
			return emit(start, end)
		}
		// A number beside others, as in a table: try each block on its own.
		for s := start; s < end; {
			e := s
			for e < end && digit(text[e]) {
				e++
			}
			if e-s >= 13 && card(text[s:e]) && !emit(s, e) {
				return false
			}
			s = e + 1
		}
		return true
	})
}

// evenGroups reports whether one kind of separator parts groups as cards do.
func evenGroups(s string) bool {
	sep, size := byte(0), 0
	for i := range len(s) {
		if digit(s[i]) {
			size++
			continue
		}
		if sep != 0 && s[i] != sep || size < 4 {
			return false
		}
		sep, size = s[i], 0
	}
	return sep == 0 || size >= 3
}

// scanSSN finds US social security numbers written 3-2-4.
func scanSSN(text string, emit func(start, end int) bool) {
	digitGroups(text, " -", 9, func(start, end, n int) bool {
		s := text[start:end]
		if n == 9 && len(s) == 11 && s[3] == s[6] && !digit(s[3]) && ssn(s) {
			return emit(start, end)
		}
		return true
	})
}

// scanIBAN finds international bank account numbers, in one block or in groups.
func scanIBAN(text string, emit func(start, end int) bool) {
	for i := 2; i+12 < len(text); i++ {
		if !digit(text[i]) || !digit(text[i+1]) || !letter(text[i-1]) || !letter(text[i-2]) || i > 2 && alnum(text[i-3]) {
			continue
		}
		want := ibanLength[strings.ToUpper(text[i-2:i])]
		j, n := i-2, 0
		for j < len(text) && n < want {
			if alnum(text[j]) {
				n++
			} else if text[j] != ' ' && text[j] != '-' || j+1 < len(text) && !alnum(text[j+1]) {
				break
			}
			j++
		}
		if want > 0 && n == want && (j == len(text) || !alnum(text[j])) && iban(text[i-2:j]) {
			if !emit(i-2, j) {
				return
			}
			i = j
		}
	}
}

// scanPhonePlus finds telephone numbers with their country code: +, then 8 to 15
// digits (ITU-T E.164) in groups.
func scanPhonePlus(text string, emit func(start, end int) bool) {
	for i := 0; ; i++ {
		k := strings.IndexByte(text[i:], '+')
		if k < 0 {
			return
		}
		i += k
		if i > 0 && (alnum(text[i-1]) || text[i-1] == '/' || text[i-1] == '+') || i+1 >= len(text) || !digit(text[i+1]) && text[i+1] != '(' {
			continue
		}
		if end, n := phoneEnd(text, i+1); n >= 8 && n <= 15 {
			if !emit(i, end) {
				return
			}
			i = end - 1
		}
	}
}

// phoneEnd reads digits in groups parted by a space, dot, dash or parentheses.
func phoneEnd(text string, i int) (end, digits int) {
	gap := 0
	for ; i < len(text) && digits <= 15; i++ {
		switch c := text[i]; {
		case digit(c):
			digits++
			end, gap = i+1, 0
		case strings.IndexByte(" .-()", c) >= 0 && gap < 2:
			gap++
		default:
			if alnum(c) && gap == 0 {
				return end, 0
			}
			return end, digits
		}
	}
	return end, digits
}

// scanPhoneLocal finds numbers in national form: (201) 555-0123, 201-555-0123,
// 020 7946 0018. Without a word such as "phone" nearby they mean little.
func scanPhoneLocal(text string, emit func(start, end int) bool) {
	digitGroups(text, " -.()/", 7, func(start, end, n int) bool {
		s := text[start:end]
		if start > 0 && text[start-1] == '+' || n > 11 || strings.Count(s, ".") > 2 && n < 9 {
			return true
		}
		groups, size, shortest := 1, 0, 99
		for i := range len(s) {
			if digit(s[i]) {
				size++
				continue
			}
			groups, shortest, size = groups+1, min(shortest, size), 0
		}
		if groups < 2 || groups > 6 || shortest < 2 && s[0] != '1' && s[0] != '0' || dateLike(s) {
			return true
		}
		return emit(start, end)
	})
	// (201) 555-0123: the parenthesis parts it from its digits.
	for i := 0; ; i++ {
		k := strings.IndexByte(text[i:], '(')
		if k < 0 {
			return
		}
		i += k
		c := strings.IndexByte(text[i:min(len(text), i+6)], ')')
		if c < 3 || !allDigits(text[i+1:i+c]) {
			continue
		}
		if end, n := phoneEnd(text, i); n >= 9 && n <= 11 {
			if !emit(i, end) {
				return
			}
		}
	}
}

func allDigits(s string) bool {
	for i := range len(s) {
		if !digit(s[i]) {
			return false
		}
	}
	return s != ""
}

// dateLike reports whether grouped digits are more likely a date or a time.
func dateLike(s string) bool {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 3 {
		return false
	}
	year := func(p string) bool { return len(p) == 4 && (p[:2] == "19" || p[:2] == "20") }
	return year(parts[0]) && len(parts[1]) <= 2 && len(parts[2]) <= 2 || len(parts[0]) <= 2 && len(parts[1]) <= 2 && year(parts[2])
}

// scanIPv4 finds dotted addresses that can be somebody's; versions such as
// 1.2.3.4.5 are passed over.
func scanIPv4(text string, emit func(start, end int) bool) {
	digitGroups(text, ".", 4, func(start, end, n int) bool {
		s := text[start:end]
		if n <= 12 && strings.Count(s, ".") == 3 && publicIP(s) && (start == 0 || strings.IndexByte("v-_/", text[start-1]|0x20) < 0 || strings.HasSuffix(text[:start], "//")) {
			return emit(start, end)
		}
		return true
	})
}

// scanIPv6 finds IPv6 addresses of at least three groups that can be somebody's.
func scanIPv6(text string, emit func(start, end int) bool) {
	for i := 0; ; {
		k := strings.IndexByte(text[i:], ':')
		if k < 0 {
			return
		}
		k += i
		start := k
		for start > i && k-start < 4 && hexDigit(text[start-1]) {
			start--
		}
		end := k
		for end < len(text) && end-start < 40 && (hexDigit(text[end]) || text[end] == ':') {
			end++
		}
		i = max(end, k+1)
		s := strings.TrimRight(text[start:end], ":")
		if strings.Count(s, ":") < 3 || start > 0 && alnum(text[start-1]) || end < len(text) && alnum(text[end]) {
			continue
		}
		if publicIP(s) && !emit(start, start+len(s)) {
			return
		}
	}
}

func hexDigit(c byte) bool {
	return digit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
}

// scanHidden finds text that is invisible to people: words spelled in Unicode
// tags (but for the flags of England, Scotland and Wales) and long runs of
// variation selectors or zero-width characters, which carry bytes.
func scanHidden(text string, emit func(start, end int) bool) {
	for i := 0; i < len(text); {
		if text[i] < 0xC2 { // ASCII, or no start of a rune
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if !normalize.Invisible(r) {
			i += n
			continue
		}
		start, count, tags := i, 0, 0
		for i < len(text) {
			r, n = utf8.DecodeRuneInString(text[i:])
			if !normalize.Invisible(r) {
				break
			}
			if 0xE0020 <= r && r <= 0xE007E {
				tags++
			}
			count++
			i += n
		}
		if tags > 6 || count >= 12 {
			if !emit(start, i) {
				return
			}
		}
	}
}
