package pattern

import (
	"regexp/syntax"
	"strings"
	"unicode"
)

// A must is a few literals of which each match holds at least one, beside the
// keywords. A window without them is not read: searching a few hundred bytes for
// a literal costs a hundredth of running an expression over them.
//
// Safety: like a need, it names only what every match must pass, and it is looked
// for in the whole window, which holds the whole match.
type must []string

const (
	maxMust  = 16 // literals of a must
	maxMusts = 4  // musts of a rule
)

// musts lists what an expression's matches hold, the most telling first.
// Letters that may come in either case do not count.
func musts(re *syntax.Regexp) []must {
	all := mustsOf(re)
	if len(all) > maxMusts {
		all = all[:maxMusts]
	}
	return all
}

func mustsOf(re *syntax.Regexp) []must {
	var out []must
	switch re.Op {
	case syntax.OpCapture, syntax.OpPlus:
		return mustsOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return mustsOf(re.Sub[0])
		}
	case syntax.OpLiteral:
		if l := string(re.Rune); usable(re, l) {
			out = append(out, must{l})
		}
	case syntax.OpConcat:
		for _, s := range re.Sub {
			for _, m := range mustsOf(s) {
				out = insert(out, m)
			}
		}
	case syntax.OpAlternate:
		var joined must
		for _, s := range re.Sub {
			of := mustsOf(s)
			if len(of) == 0 || len(joined)+len(of[0]) > maxMust {
				return nil
			}
			joined = append(joined, of[0]...)
		}
		out = append(out, joined)
	}
	return out
}

func usable(re *syntax.Regexp, l string) bool {
	if strings.ContainsRune(l, unicode.ReplacementChar) {
		return false // also stands for any invalid byte
	}
	return re.Flags&syntax.FoldCase == 0 || strings.IndexFunc(l, unicode.IsLetter) < 0
}

// insert keeps the most telling musts first: few and long literals.
func insert(all []must, m must) []must {
	i := 0
	for i < len(all) && all[i].weight() >= m.weight() {
		i++
	}
	all = append(all, nil)
	copy(all[i+1:], all[i:])
	all[i] = m
	return all
}

func (m must) weight() int {
	shortest := infinite
	for _, l := range m {
		shortest = min(shortest, len(l))
	}
	return shortest*16 - len(m)
}

// in reports whether one of the literals is in a text.
func (m must) in(text string) bool {
	for _, l := range m {
		if strings.Contains(text, l) {
			return true
		}
	}
	return false
}
