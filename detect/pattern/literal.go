package pattern

import (
	"math"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// need is what every match of an expression must hold: at least one of the
// literals, folded as the keyword automaton reads bytes (see foldByte), with at
// most before bytes of the match in front of the literal's first byte, and at
// most after bytes from there to the match's end.
//
// Safety: need only ever over-approximates. A literal is taken from the
// expression where each of its matches must pass; whatever is optional, repeated
// from zero, or too varied to list is left out. So the keyword pass may send a
// text to the expression for nothing, but a text that it does not send holds no
// match. The windows follow from the same two lengths: a match lies wholly
// inside the window of its literal, with at least one more rune on both sides, so
// that \b, ^ and $ see what they would see in the whole text. Expressions without
// a longest match are cut at maxReach; Rule.Reach states the promise that is left.
type need struct {
	literals      []string
	before, after int
	unbounded     bool // cut at maxReach
}

const (
	useless     = -1000   // the score of literals that tell nothing
	maxReach    = 8 << 10 // bytes on either side of a literal, for expressions without a longest match
	maxLiterals = 96      // literals that one part of an expression may give
	minLiteral  = 3       // shortest literal that tells anything
	infinite    = math.MaxInt32
)

// part is what is known of a sub-expression.
type part struct {
	max   int      // longest match in bytes; infinite
	exact []string // every match, folded; nil: too many or unknown
	start []string // each match begins with one of these, folded; nil: unknown
	best  *need    // the best literals inside it; nil: none
}

// wordStart stands in literals for \b. At their start, before a letter or digit,
// it says that the byte before must be none; elsewhere it is dropped.
const wordStart = "\b"

// literal is a keyword as the automaton looks for it.
type literal struct {
	text string
	word bool // only at the start of a word
}

// keywords takes the marks of word starts out of a need's literals.
func (n *need) keywords() []literal {
	out := make([]literal, 0, len(n.literals))
	seen := map[literal]bool{}
	for _, s := range n.literals {
		text := strings.ReplaceAll(s, wordStart, "")
		l := literal{text, strings.HasPrefix(s, wordStart) && text != "" && wordByte(text[0])}
		if !seen[l] {
			seen[l] = true
			out = append(out, l)
		}
	}
	return out
}

// wordByte reports whether a byte is of a word as \b sees it.
func wordByte(c byte) bool { return alnum(c) || c == '_' }

// requirements works out the need of an expression; ok is false when there is none.
func requirements(re *syntax.Regexp) (need, bool) {
	p := analyse(re)
	if p.best == nil || p.best.score() <= useless {
		return need{}, false
	}
	n := *p.best
	if n.before > maxReach {
		n.before, n.unbounded = maxReach, true
	}
	if n.after > maxReach {
		n.after, n.unbounded = maxReach, true
	}
	return n, true
}

// score prefers long and few literals, and those at the start of a match, where
// a stream must hold back least.
func (n *need) score() float64 {
	if len(n.literals) == 0 {
		return useless
	}
	shortest := infinite
	for _, l := range n.keywords() {
		length := len(l.text)
		if l.word && length > 1 {
			length++ // as telling as another letter
		}
		shortest = min(shortest, length)
	}
	if shortest < minLiteral {
		return useless
	}
	s := float64(min(shortest, 9))*10 - 2.5*math.Log2(float64(len(n.literals)))
	if n.before == 0 {
		s += 4
	}
	if n.before > maxReach || n.after > maxReach {
		s -= 30
	}
	return s
}

func better(a, b *need) *need {
	if a == nil || b != nil && b.score() > a.score() {
		return b
	}
	return a
}

func analyse(re *syntax.Regexp) part {
	p := analyseOp(re)
	if p.exact != nil {
		p.start = p.exact
	}
	return p
}

func analyseOp(re *syntax.Regexp) part {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpNoWordBoundary:
		return part{exact: []string{""}}
	case syntax.OpWordBoundary:
		return part{exact: []string{wordStart}}
	case syntax.OpLiteral:
		return literalPart(re)
	case syntax.OpCharClass:
		return classPart(re)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return part{max: utf8.UTFMax}
	case syntax.OpCapture:
		return analyse(re.Sub[0])
	case syntax.OpConcat:
		return concatPart(re.Sub)
	case syntax.OpAlternate:
		return alternatePart(re.Sub)
	case syntax.OpQuest:
		p := analyse(re.Sub[0])
		if p.exact != nil {
			p.exact = union(p.exact, []string{""})
		}
		p.best = nil
		return p
	case syntax.OpStar:
		return part{max: infinite}
	case syntax.OpPlus:
		return repeatPart(analyse(re.Sub[0]), 1, -1)
	case syntax.OpRepeat:
		return repeatPart(analyse(re.Sub[0]), re.Min, re.Max)
	}
	return part{max: infinite} // OpNoMatch and whatever comes later: nothing is promised
}

func literalPart(re *syntax.Regexp) part {
	var b strings.Builder
	n := 0
	for _, r := range re.Rune {
		if r == utf8.RuneError { // also stands for any invalid byte
			return part{max: utf8.UTFMax * len(re.Rune)}
		}
		n += utf8.RuneLen(r)
		b.WriteRune(r)
	}
	if re.Flags&syntax.FoldCase != 0 {
		for _, r := range re.Rune {
			if r >= utf8.RuneSelf { // asciiFold leaves none that have another case
				return part{max: utf8.UTFMax * len(re.Rune)}
			}
		}
	}
	lit := foldString(b.String())
	p := part{max: n, exact: []string{lit}}
	p.best = &need{literals: p.exact, after: n}
	return p
}

func classPart(re *syntax.Regexp) part {
	p := part{}
	var runes []string
	few := true
	for i := 0; i < len(re.Rune); i += 2 {
		lo, hi := re.Rune[i], re.Rune[i+1]
		p.max = max(p.max, utf8.RuneLen(hi))
		if hi >= 0xD800 && p.max < 3 {
			p.max = 3
		}
		// U+FFFD also stands for any invalid byte, which no literal can.
		few = few && hi-lo < 10 && len(runes) < 24 && !(lo <= utf8.RuneError && utf8.RuneError <= hi)
		if few {
			for r := lo; r <= hi; r++ {
				runes = append(runes, foldString(string(r)))
			}
		}
	}
	if few && len(runes) > 0 {
		p.exact = union(runes, nil)
	}
	return p
}

func repeatPart(p part, least, most int) part {
	out := part{max: infinite}
	if most >= 0 && p.max < infinite {
		out.max = min(p.max*most, infinite)
	}
	if least == 0 {
		if most == 1 && p.exact != nil {
			out.exact = union(p.exact, []string{""})
		}
		if most == 2 && p.exact != nil {
			if twice := product(p.exact, p.exact); twice != nil {
				out.exact = union(union(p.exact, []string{""}), twice)
			}
		}
		return out
	}
	out.start = p.start
	if p.exact != nil && least == most && least <= 4 {
		exact := p.exact
		for range least - 1 {
			if exact = product(exact, p.exact); exact == nil {
				break
			}
		}
		out.exact = exact
		if exact != nil {
			out.best = better(out.best, &need{literals: exact, after: out.max})
		}
	}
	if p.best != nil { // the first turn holds it
		n := *p.best
		n.after = add(n.after, out.max)
		out.best = better(out.best, &n)
	}
	return out
}

func alternatePart(subs []*syntax.Regexp) part {
	out := part{exact: []string{}, start: []string{}, best: &need{}}
	for _, s := range subs {
		p := analyse(s)
		out.max = max(out.max, p.max)
		if out.start != nil {
			if p.start == nil {
				out.start = nil
			} else {
				out.start = shorten(union(out.start, p.start), maxLiterals)
			}
		}
		if out.exact != nil {
			if p.exact == nil || len(out.exact)+len(p.exact) > maxLiterals {
				out.exact = nil
			} else {
				out.exact = union(out.exact, p.exact)
			}
		}
		if out.best != nil {
			if p.best == nil || p.best.score() <= useless || len(out.best.literals)+len(p.best.literals) > maxLiterals {
				out.best = nil
			} else {
				out.best = &need{
					literals: union(out.best.literals, p.best.literals),
					before:   max(out.best.before, p.best.before),
					after:    max(out.best.after, p.best.after),
				}
			}
		}
	}
	for _, set := range [][]string{out.exact, out.start} {
		if len(set) > 0 {
			out.best = better(out.best, &need{literals: set, after: out.max})
		}
	}
	return out
}

func concatPart(subs []*syntax.Regexp) part {
	parts := make([]part, len(subs))
	rest := make([]int, len(subs)+1) // longest match from part i on
	for i := len(subs) - 1; i >= 0; i-- {
		parts[i] = analyse(subs[i])
		rest[i] = add(parts[i].max, rest[i+1])
	}
	out := part{max: rest[0]}
	before := 0
	for i, p := range parts {
		if p.best != nil {
			n := *p.best
			n.before, n.after = add(before, n.before), add(n.after, rest[i+1])
			out.best = better(out.best, &n)
		}
		exact := []string{""}
		for j := i; j < len(parts); j++ {
			if start := product(exact, shorten(parts[j].start, maxLiterals/len(exact))); len(start) > 0 {
				out.best = better(out.best, &need{literals: start, before: before, after: rest[i]})
				if i == 0 {
					out.start = start
				}
			}
			if parts[j].exact == nil {
				break
			}
			if exact = product(exact, parts[j].exact); exact == nil {
				break
			}
			out.best = better(out.best, &need{literals: exact, before: before, after: rest[i]})
			if i == 0 && j == len(parts)-1 {
				out.exact = exact
			}
		}
		before = add(before, p.max)
	}
	return out
}

func add(a, b int) int {
	if a >= infinite || b >= infinite {
		return infinite
	}
	return min(a+b, infinite)
}

// product joins each of a with each of b; nil when they are too many.
func product(a, b []string) []string {
	if len(a)*len(b) > maxLiterals {
		return nil
	}
	out := make([]string, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+y)
		}
	}
	return union(out, nil)
}

// shorten cuts starts of matches to common shorter ones until they are few
// enough; nil when they would become too short to tell anything.
func shorten(set []string, most int) []string {
	if len(set) <= most {
		return set
	}
	for _, n := range []int{10, 8, 6, 5, 4, 3} {
		var cut []string
		for _, s := range set {
			k := min(len(s), n)
			if strings.HasPrefix(s, wordStart) {
				k = min(len(s), n+1)
			}
			cut = append(cut, s[:k])
		}
		if cut = union(cut, nil); len(cut) <= most {
			return cut
		}
	}
	return nil
}

// union joins two sets of strings, each once, in order.
func union(a, b []string) []string {
	out := make([]string, 0, len(a)+len(b))
	seen := make(map[string]bool, len(a)+len(b))
	for _, set := range [][]string{a, b} {
		for _, s := range set {
			if !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	return out
}

// parse reads an expression as rules write it and gives it pack semantics:
// (?i) folds ASCII letters with ASCII letters only (RE2 also folds k with the
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

// foldByte is how the keyword automaton reads a byte: ASCII letters in lower
// case, and every white space as a space.
func foldByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		return ' '
	}
	return c
}

func foldString(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = foldByte(c)
	}
	return string(b)
}
