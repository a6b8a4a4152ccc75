package normalize

import "strings"

// Loosen undoes spelling that parts or disguises words: letters written singly
// ("i g n o r e", "i-g-n-o-r-e") and digits or signs standing for letters
// ("1gn0r3"). It guesses, so only rules that need several words in a row should
// read it. It returns nil when there is nothing of the kind in v.
func Loosen(v *View) *View {
	s := v.Text
	var b *builder
	copied := 0
	take := func(from, to int, text string) {
		if b == nil {
			b = newBuilder(v)
		}
		b.copy(copied, from)
		b.replace(from, to, text)
		copied = to
	}
	for i := 0; i < len(s); {
		if !leet(s[i]) || i > 0 && leet(s[i-1]) {
			i++
			continue
		}
		if i+1 < len(s) && !leet(s[i+1]) {
			if n := spaced(s[i:]); n > 0 {
				join(s, i, i+n, take)
				i += n
				continue
			}
		}
		j, letters, signs := i, 0, 0
		for j < len(s) && leet(s[j]) {
			if l := s[j] | 0x20; 'a' <= l && l <= 'z' {
				letters++
			} else {
				signs++
			}
			j++
		}
		// At the end of a word ! and | are punctuation, and so is a leading $ or @.
		for j > i && (s[j-1] == '!' || s[j-1] == '|') {
			j, signs = j-1, signs-1
		}
		if signs > 0 && letters > 0 && letters+signs >= 3 && letters+signs <= 20 {
			word := s[i:j]
			if to, ok := plainWord(word); ok {
				for k := range len(word) {
					if to[k] != word[k] {
						take(i+k, i+k+1, to[k:k+1])
					}
				}
			}
		}
		i = max(j, i+1)
	}
	if b == nil {
		return nil
	}
	b.copy(copied, len(s))
	return b.view("loose")
}

const leetSigns, leetLetters = "013457@$!|", "oieastasil"

func leet(c byte) bool { return alnum(c) || c == '@' || c == '$' || c == '!' || c == '|' }

// plainWord replaces the signs that stand for letters; not ok when a digit is
// left, as in numbers, names and keys.
func plainWord(w string) (string, bool) {
	out := []byte(w)
	for i, c := range out {
		if k := strings.IndexByte(leetSigns, c); k >= 0 {
			out[i] = leetLetters[k]
			if c == '1' && (i > 0 && (w[i-1] == '1' || w[i-1] == 'l') || i+1 < len(w) && (w[i+1] == '1' || w[i+1] == 'l')) {
				out[i] = 'l'
			}
		} else if '0' <= c && c <= '9' {
			return "", false
		}
	}
	return string(out), true
}

// spaced is the length of the letters written singly at the start of s: at least
// four, parted by the same separator or by wider gaps between words.
func spaced(s string) int {
	sep := s[1]
	if strings.IndexByte(" .-_*,/+\n", sep) < 0 {
		return 0
	}
	letters, i, end := 0, 0, 0
	for i < len(s) && leet(s[i]) && (i+1 >= len(s) || !leet(s[i+1])) {
		letters++
		i++
		end = i
		gap := 0
		for i < len(s) && (s[i] == sep || s[i] == ' ' || s[i] == '\n') && gap < 4 {
			i++
			gap++
		}
		if gap == 0 {
			break
		}
	}
	if letters < 4 {
		return 0
	}
	return end
}

// join writes single letters as words; a gap wider than one separator parts words.
func join(s string, from, to int, take func(from, to int, text string)) {
	for i := from; i < to; {
		i++ // the letter stays
		j := i
		for j < to && !leet(s[j]) {
			j++
		}
		switch {
		case j == i:
		case j-i == 1:
			take(i, j, "")
		default:
			take(i, j, " ")
		}
		i = j
	}
}
