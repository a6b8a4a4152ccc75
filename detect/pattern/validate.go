package pattern

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// validators by their name in rules.
var validators = map[string]func(string) bool{
	"luhn":   luhn,
	"iban":   iban,
	"ssn":    ssn,
	"public": publicIP,
	"mixed":  mixed,
	"card":   card,

	"mixed-password": mixedPassword,
}

// Validators lists the names that a rule's validate may hold.
func Validators() []string { return slices.Sorted(maps.Keys(validators)) }

// digitsOf is s without spaces, dots and dashes.
func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '.' {
			return -1
		}
		return r
	}, s)
}

// luhn checks the check digit of ISO/IEC 7812-1, annex B.
func luhn(s string) bool {
	s = digitsOf(s)
	sum, double := 0, false
	for i := len(s) - 1; i >= 0; i-- {
		d := int(s[i] - '0')
		if d < 0 || d > 9 {
			return false
		}
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		double = !double
	}
	return len(s) > 1 && sum%10 == 0
}

// card checks a payment card's number: an issuer's prefix and length, and Luhn.
func card(s string) bool {
	d := digitsOf(s)
	if len(d) < 12 || len(d) > 19 || !luhn(d) || strings.Count(d, d[:1]) == len(d) {
		return false
	}
	two := int(d[0]-'0')*10 + int(d[1]-'0')
	four := two*100 + int(d[2]-'0')*10 + int(d[3]-'0')
	switch n := len(d); {
	case d[0] == '4': // Visa
		return n == 13 || n == 16 || n == 19
	case 51 <= two && two <= 55, 2221 <= four && four <= 2720: // Mastercard
		return n == 16
	case two == 34, two == 37: // American Express
		return n == 15
	case two == 36, two == 38, two == 39, 3000 <= four && four <= 3059: // Diners Club
		return n == 14 || n == 16 || n == 19
	case 3528 <= four && four <= 3589: // JCB
		return n == 16
	case two == 62, two == 65, four == 6011, 644 <= four/10 && four/10 <= 649: // UnionPay, Discover
		return n >= 16
	case two == 50, 56 <= two && two <= 58, two == 63, two == 67: // Maestro
		return true
	case four == 2131, four == 1800: // older JCB
		return n == 15
	}
	return false
}

// ibanLength is the length of an IBAN by country (SWIFT IBAN registry).
var ibanLength = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27,
	"GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
	"MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}

// iban checks country, length and the check digits of ISO 13616 (mod 97).
func iban(s string) bool {
	s = strings.ToUpper(digitsOf(s))
	if len(s) < 15 || ibanLength[s[:2]] != len(s) {
		return false
	}
	rest := 0
	for _, c := range []byte(s[4:] + s[:4]) {
		switch {
		case '0' <= c && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case 'A' <= c && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return rest == 1
}

// ssn checks the parts of a US social security number that were never issued:
// areas 000, 666 and 900-999, group 00, serial 0000, and two numbers made public.
func ssn(s string) bool {
	d := digitsOf(s)
	return len(d) == 9 && d[:3] != "000" && d[:3] != "666" && d[0] != '9' && d[3:5] != "00" && d[5:] != "0000" && d != "078051120" && d != "219099999" && d != "123456789"
}

// publicIP reports whether an address can be somebody's on the internet: not
// private, local, reserved, nor set aside for documentation.
func publicIP(s string) bool {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	switch s {
	case "8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "1.2.3.4":
		return false // public resolvers, and everybody's example
	}
	return true
}

var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("100::/64"),
}

// mixed reports whether s looks drawn at random rather than written: it holds
// letters and digits, and changes between them and between cases often.
func mixed(s string) bool {
	digits, letters, changes := 0, 0, 0
	last := byte(0)
	for _, c := range []byte(s) {
		k := kindOf(c)
		switch k {
		case 'd':
			digits++
		case 'u', 'l':
			letters++
		}
		if last != 0 && k != last {
			changes++
		}
		last = k
	}
	return digits >= 2 && letters >= 2 && changes*4 >= len(s)
}

// mixedPassword reports whether s holds letters and something else, as a word
// that follows "password" in a sentence does not.
func mixedPassword(s string) bool {
	digits, letters := 0, 0
	for _, c := range []byte(s) {
		switch kindOf(c) {
		case 'd':
			digits++
		case 'u', 'l':
			letters++
		}
	}
	return digits > 0 && letters > 0
}

func kindOf(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return 'd'
	case 'a' <= c && c <= 'z':
		return 'l'
	case 'A' <= c && c <= 'Z':
		return 'u'
	}
	return 'o'
}

// entropy is the Shannon entropy of a string in bits a byte.
func entropy(s string) float64 {
	var count [256]int
	for i := range len(s) {
		count[s[i]]++
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return h
}
