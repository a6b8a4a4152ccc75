package normalize

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of decoding. They bound what a hostile text can cost.
const (
	// Depth is how many encodings inside one another are undone.
	Depth = 2
	// minEncoded is the shortest run of base64 or hex that is worth decoding:
	// 18 or 12 bytes of text.
	minEncoded = 24
)

// Budget is how many bytes of decoded text a text of n bytes may give in all.
func Budget(n int) int { return 64<<10 + 2*n }

// Views lists the readings of a text in which case and white space are kept: the
// raw text, the clean one where it differs, and what decoding either gives,
// cleaned. complete is false when the budget of decoded bytes ran out.
func Views(text string, budget int) (views []*View, complete bool) {
	raw := Raw(text)
	views = []*View{raw}
	level := []*View{Clean(raw)}
	if level[0] != raw {
		views = append(views, level[0])
	}
	complete = true
	for range Depth {
		var next []*View
		for _, v := range level {
			for _, d := range decoded(v) {
				if budget -= len(d.Text); budget < 0 {
					return views, false
				}
				d = named(Clean(d), d.Name)
				views = append(views, d)
				next = append(next, d)
			}
		}
		level = next
	}
	return views, complete
}

func named(v *View, name string) *View {
	v.Name = name
	return v
}

// decoded undoes each encoding that v holds, one view an encoding.
func decoded(v *View) []*View {
	var out []*View
	for _, decode := range []func(*View) *View{base64Runs, hexRuns, unescaped, rot13} {
		if d := decode(v); d != nil {
			out = append(out, d)
		}
	}
	return out
}

// base64Value is a base64 digit's value in either alphabet, or 0xff.
var base64Value = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = byte(i)
	}
	t['-'], t['_'] = 62, 63
	return t
}()

// base64Runs decodes the stretches of base64 that hold text, one a line of the
// view. Lines of a wrapped block are joined.
func base64Runs(v *View) *View {
	s := v.Text
	var b *builder
	for i := 0; i < len(s); {
		if base64Value[s[i]] == 0xff {
			i++
			continue
		}
		j := i
		for j < len(s) && base64Value[s[j]] != 0xff {
			j++
		}
		if j-i < minEncoded {
			i = j
			continue
		}
		lines := [][2]int{{i, j}}
		for first := j - i; first >= 60 && first%4 == 0; { // a wrapped block goes on below
			k := j
			if k < len(s) && s[k] == '\r' {
				k++
			}
			if k >= len(s) || s[k] != '\n' {
				break
			}
			k++
			m := k
			for m < len(s) && base64Value[s[m]] != 0xff {
				m++
			}
			if m == k || m-k > first {
				break
			}
			lines, j = append(lines, [2]int{k, m}), m
			if m-k < first {
				break
			}
		}
		b = appendBase64(v, b, lines)
		i = j
	}
	if b == nil {
		return nil
	}
	return b.view("base64")
}

func appendBase64(v *View, b *builder, lines [][2]int) *builder {
	s := v.Text
	var buf []byte
	for _, l := range lines {
		for k := l[0]; k < l[1]; k += 4 {
			buf = appendQuad(buf, s[k:min(k+4, l[1])])
		}
		if l[0] == lines[0][0] && !readable(buf) {
			return b // decided on the first line, so that noise costs little
		}
	}
	if b == nil {
		b = newBuilder(v)
	} else {
		b.mark(lines[0][0], 1, 1)
		b.out = append(b.out, '\n')
	}
	for _, l := range lines {
		whole := (l[1] - l[0]) / 4 * 4
		if whole > 0 {
			b.mark(l[0], 3, 4)
			for k := l[0]; k < l[0]+whole; k += 4 {
				b.out = appendQuad(b.out, s[k:k+4])
			}
		}
		if rest := l[1] - l[0] - whole; rest > 1 {
			b.mark(l[0]+whole, rest-1, rest)
			b.out = appendQuad(b.out, s[l[0]+whole:l[1]])
		}
	}
	return b
}

// appendQuad decodes up to four base64 digits; one alone carries no byte.
func appendQuad(out []byte, q string) []byte {
	var n uint32
	for i := range 4 {
		n <<= 6
		if i < len(q) {
			n |= uint32(base64Value[q[i]])
		}
	}
	three := [3]byte{byte(n >> 16), byte(n >> 8), byte(n)}
	return append(out, three[:max(len(q)-1, 0)]...)
}

// readable reports whether decoded bytes look like text and not like noise.
func readable(b []byte) bool {
	bad, letters := 0, 0
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r == utf8.RuneError && n <= 1 && len(b)-i < utf8.UTFMax: // cut in the middle
		case r == utf8.RuneError && n <= 1, r < ' ' && r != '\n' && r != '\t' && r != '\r', r == 0x7f:
			bad++
		case unicode.IsLetter(r) || r == ' ':
			letters++
		}
		i += n
	}
	return bad*20 <= len(b) && letters*3 >= utf8.RuneCount(b)
}

// hexRuns decodes stretches of hexadecimal that hold text: "69676e6f7265...",
// or pairs parted by one space, colon or comma.
func hexRuns(v *View) *View {
	s := v.Text
	var b *builder
	for i := 0; i+1 < len(s); {
		if hexValue[s[i]] > 15 || hexValue[s[i+1]] > 15 || i > 0 && alnum(s[i-1]) {
			i++
			continue
		}
		step := 2
		if i+4 < len(s) && (s[i+2] == ' ' || s[i+2] == ':' || s[i+2] == ',') && hexValue[s[i+3]] < 16 {
			step = 3
		}
		j := i
		var buf []byte
		for j+1 < len(s) && hexValue[s[j]] < 16 && hexValue[s[j+1]] < 16 && (j == i || step == 2 || s[j-1] == s[i+2]) {
			buf = append(buf, hexValue[s[j]]<<4|hexValue[s[j+1]])
			j += step
		}
		if len(buf)*2 < minEncoded || !readable(buf) {
			i = min(max(j, i+1), len(s))
			continue
		}
		if b == nil {
			b = newBuilder(v)
		} else {
			b.mark(i, 1, 1)
			b.out = append(b.out, '\n')
		}
		b.mark(i, 1, step)
		b.out = append(b.out, buf[:len(buf)-1]...)
		b.mark(i+(len(buf)-1)*step, 1, 2)
		b.out = append(b.out, buf[len(buf)-1])
		i = min(j, len(s))
	}
	if b == nil {
		return nil
	}
	return b.view("hex")
}

var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range 10 {
		t['0'+i] = byte(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = byte(10+i), byte(10+i)
	}
	return t
}()

// unescaped undoes percent encoding, HTML entities and backslash escapes
// wherever they stand in the text.
func unescaped(v *View) *View {
	s := v.Text
	if !strings.ContainsAny(s, `%&\`) {
		return nil
	}
	// Far from any escape the view would say again what the text says already, so
	// only its surroundings are copied, each stretch a paragraph of its own.
	b := newBuilder(v)
	copied, last := 0, -1
	for i := 0; i < len(s); {
		k := strings.IndexAny(s[i:], `%&\`)
		if k < 0 {
			break
		}
		i += k
		n, to := escapeAt(s, i)
		if n == 0 {
			i++
			continue
		}
		if last < 0 || i-last > 2*surroundings {
			if last >= 0 {
				b.copy(copied, runeAt(s, last+surroundings))
			}
			copied = runeAt(s, i-surroundings)
			if len(b.out) > 0 {
				b.mark(copied, 1, 1)
				b.out = append(b.out, '\n')
			}
		}
		b.copy(copied, i)
		b.replace(i, i+n, to)
		i += n
		copied, last = i, i
	}
	if last < 0 {
		return nil
	}
	b.copy(copied, runeAt(s, last+surroundings))
	return b.view("unescaped")
}

// surroundings is how much of the text on either side of an escape goes into the
// unescaped view, in bytes.
const surroundings = 1 << 10

// runeAt is position i of s, moved back to the start of a rune and into s.
func runeAt(s string, i int) int {
	i = min(max(i, 0), len(s))
	for k := 0; k < utf8.UTFMax && i > 0 && i < len(s) && !utf8.RuneStart(s[i]); k++ {
		i--
	}
	return i
}

// escapeAt reads the escape at i: its length, and what it stands for.
func escapeAt(s string, i int) (n int, to string) {
	switch s[i] {
	case '%':
		var buf []byte
		j := i
		for j+2 < len(s) && s[j] == '%' && hexValue[s[j+1]] < 16 && hexValue[s[j+2]] < 16 && len(buf) < utf8.UTFMax {
			buf = append(buf, hexValue[s[j+1]]<<4|hexValue[s[j+2]])
			j += 3
			if r, _ := utf8.DecodeRune(buf); r != utf8.RuneError {
				return j - i, string(r)
			}
		}
		return 0, ""
	case '&':
		end := strings.IndexByte(s[i:min(len(s), i+34)], ';')
		if end < 2 {
			return 0, ""
		}
		if to = html.UnescapeString(s[i : i+end+1]); to != s[i:i+end+1] {
			return end + 1, to
		}
		return 0, ""
	}
	if i+1 >= len(s) {
		return 0, ""
	}
	switch s[i+1] {
	case 'n', 'r':
		return 2, "\n"
	case 't':
		return 2, "\t"
	case '"', '\\', '/', '\'':
		return 2, s[i+1 : i+2]
	case 'x':
		if r, ok := hexDigits(s, i+2, 2); ok {
			return 4, string(r)
		}
	case 'u':
		if r, ok := hexDigits(s, i+2, 4); ok {
			if 0xD800 <= r && r < 0xDC00 && i+8 <= len(s) && s[i+6:i+8] == `\u` {
				if low, ok := hexDigits(s, i+8, 4); ok && 0xDC00 <= low && low < 0xE000 {
					return 12, string((r-0xD800)<<10 + (low - 0xDC00) + 0x10000)
				}
			}
			return 6, string(r)
		}
	}
	return 0, ""
}

func hexDigits(s string, at, n int) (r rune, ok bool) {
	if at+n > len(s) {
		return 0, false
	}
	for _, c := range []byte(s[at : at+n]) {
		if hexValue[c] > 15 {
			return 0, false
		}
		r = r<<4 | rune(hexValue[c])
	}
	return r, true
}

// rotMarks are common words of English as ROT13 writes them; two different ones
// tell ROT13 from any language.
var rotMarks = []string{"gur ", " naq ", "lbhe", "vtaber", "cerivbhf", "vafgehpg", "flfgrz", "cebzcg", "cnffjbeq", "frperg"}

// rot13 undoes ROT13 where the text looks like it.
func rot13(v *View) *View {
	low := strings.ToLower(v.Text)
	found := 0
	for _, m := range rotMarks {
		if strings.Contains(low, m) {
			found++
		}
	}
	if found < 2 || v.Name == "rot13" {
		return nil
	}
	b := newBuilder(v)
	b.mark(0, 1, 1)
	for _, c := range []byte(v.Text) {
		switch {
		case 'a' <= c && c <= 'z':
			c = 'a' + (c-'a'+13)%26
		case 'A' <= c && c <= 'Z':
			c = 'A' + (c-'A'+13)%26
		}
		b.out = append(b.out, c)
	}
	return b.view("rot13")
}
