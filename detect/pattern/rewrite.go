package pattern

import (
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// maxSpace is how many characters \s* and \s+ stand for in rules, at most.
const maxSpace = 8

// allSpace reports whether a class holds nothing but white space.
func allSpace(ranges []rune) bool {
	for i := 0; i < len(ranges); i += 2 {
		if lo, hi := ranges[i], ranges[i+1]; lo < '\t' || hi > ' ' || lo <= 0x1f && hi > '\r' {
			return false
		}
	}
	return true
}

// parse reads an expression as rules write it and gives it pack semantics: \s*
// and \s+ are bounded by maxSpace; (?i) folds ASCII letters with ASCII letters only (RE2 also folds k with the
// Kelvin sign and s with the long s, which no byte automaton can), and, where
// wide is set, a space matches a newline, too.
func parse(expr string, wide bool) (*syntax.Regexp, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return rewrite(re, wide), nil
}

func rewrite(re *syntax.Regexp, wide bool) *syntax.Regexp {
	for i, s := range re.Sub {
		re.Sub[i] = rewrite(s, wide)
	}
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus:
		if c := re.Sub[0]; c.Op == syntax.OpCharClass && allSpace(c.Rune) {
			least := 0
			if re.Op == syntax.OpPlus {
				least = 1
			}
			return &syntax.Regexp{Op: syntax.OpRepeat, Flags: re.Flags, Sub: re.Sub, Min: least, Max: maxSpace}
		}
	case syntax.OpCharClass:
		re.Rune = dropFoldedRunes(re.Rune)
		if wide && smallWithSpace(re.Rune) {
			re.Rune = append([]rune{'\n', '\n'}, re.Rune...)
		}
	case syntax.OpLiteral:
		fold := re.Flags&syntax.FoldCase != 0
		plain := true
		for _, r := range re.Rune {
			if fold && folds(r) || wide && r == ' ' {
				plain = false
			}
		}
		if plain {
			return re
		}
		var subs []*syntax.Regexp
		for _, r := range re.Rune {
			switch {
			case fold && folds(r):
				subs = append(subs, class(variants(r)))
			case wide && r == ' ':
				subs = append(subs, class([]rune{'\n', ' '}))
			default:
				subs = append(subs, &syntax.Regexp{Op: syntax.OpLiteral, Flags: re.Flags, Rune: []rune{r}})
			}
		}
		return &syntax.Regexp{Op: syntax.OpConcat, Sub: subs}
	}
	return re
}

// smallWithSpace reports whether a class lists a few characters, a space among
// them but no newline: "[ ,-]". (A class like [^.\n] is large.)
func smallWithSpace(ranges []rune) bool {
	n, space := 0, false
	for i := 0; i < len(ranges); i += 2 {
		n += int(ranges[i+1]-ranges[i]) + 1
		if ranges[i] <= '\n' && '\n' <= ranges[i+1] {
			return false
		}
		space = space || ranges[i] <= ' ' && ' ' <= ranges[i+1]
	}
	return space && n <= 16
}

// folds reports whether a rune's case variants are not just the two ASCII ones.
func folds(r rune) bool {
	switch r {
	case 'k', 'K', 's', 'S':
		return true
	}
	return r >= utf8.RuneSelf && unicode.SimpleFold(r) != r
}

func variants(r rune) []rune {
	switch r {
	case 'k', 'K':
		return []rune{'K', 'k'}
	case 's', 'S':
		return []rune{'S', 's'}
	}
	out := []rune{r}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		out = append(out, f)
	}
	return out
}

func class(runes []rune) *syntax.Regexp {
	re := &syntax.Regexp{Op: syntax.OpCharClass}
	for _, r := range runes {
		re.Rune = append(re.Rune, r, r)
	}
	return re
}

// dropFoldedRunes takes the Kelvin sign and the long s, which only (?i) adds as
// ranges of their own, out of a class.
func dropFoldedRunes(ranges []rune) []rune {
	var out []rune
	for i := 0; i < len(ranges); i += 2 {
		if lo := ranges[i]; lo == ranges[i+1] && (lo == 0x17F || lo == 0x212A) {
			continue
		}
		out = append(out, ranges[i], ranges[i+1])
	}
	return out
}
