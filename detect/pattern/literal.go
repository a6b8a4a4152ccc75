package pattern

import (
	"math"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// need is what every match of an expression must hold: at least one of the
// literals, folded as the keyword automaton reads bytes (see foldByte), each with
// the most bytes of the match that can stand in front of the literal, and from
// its first byte to the match's end.
//
// Safety: need only ever over-approximates. A literal is taken from the
// expression where each of its matches must pass; whatever is optional, repeated
// from zero, or too varied to list is left out. So the keyword pass may send a
// text to the expression for nothing, but a text that it does not send holds no
// match. The windows follow from the same two lengths: a match lies wholly
// inside the window of its literal, with at least one more rune on both sides, so
// that \b, ^ and $ see what they would see in the whole text. Expressions without
// a longest match are cut at maxReach; Rule.Reach states the promise that is left.
type need []literal

// literal is one of the strings that a match must hold.
type literal struct {
	text          string
	before, after int
	word          bool // only at the start of a word; set by requirements
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
	best  need     // the best literals inside it; nil: none
}

// wordStart stands in literals for \b. At their start, before a letter or digit,
// it says that the byte before must be none; elsewhere it is dropped.
const wordStart = "\b"

// wordByte reports whether a byte is of a word as \b sees it.
func wordByte(c byte) bool { return alnum(c) || c == '_' }

// requirements works out the need of an expression; ok is false when there is none.
func requirements(re *syntax.Regexp) (n need, ok bool) {
	best := analyse(re).best
	if best.score() <= useless {
		return nil, false
	}
	place := map[literal]int{}
	for _, l := range best {
		text := strings.ReplaceAll(l.text, wordStart, "")
		l.word = strings.HasPrefix(l.text, wordStart) && wordByte(text[0])
		if strings.HasPrefix(l.text, wordStart) && !l.word || contextual(re) {
			l.before++ // what stands in front decides, so it must be in the window
		}
		l.text, l.before, l.after = text, min(l.before, maxReach), min(l.after, maxReach)
		key := literal{text: l.text, word: l.word}
		if i, seen := place[key]; seen {
			n[i].before, n[i].after = max(n[i].before, l.before), max(n[i].after, l.after)
			continue
		}
		place[key] = len(n)
		n = append(n, l)
	}
	return n, true
}

// contextual reports whether an expression asks what stands in front of a place
// in another way than \b does.
func contextual(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginLine, syntax.OpBeginText, syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(re.Sub, contextual)
}

// common are words that stand in most English texts, so that they tell little.
var common = map[string]bool{
	"for": true, "the": true, "and": true, "or ": true, "not": true, "when": true, "with": true, "this": true, "that": true, "new": true, "new ": true, "use": true, "get": true, "set": true, "read": true, "all": true, "any": true, "to ": true, "for ": true, "can": true, "will": true,
	"without": true, "never": true, "don't": true, "don't ": true, "cannot": true, "can't": true, "after": true, "before": true, "before ": true, "after ": true, "when ": true, "the user": true, "do not ": true, "send": true, "call": true, "data": true, "text": true, "file": true, "input": true, "user": true, "type": true, "find": true,
	"value": true, "host ": true, "open": true, "is ": true, "are": true, "you": true, "your": true, "from": true, "have": true, "and ": true, "in ": true, "no ": true, "no": true, "if ": true, "if you": true, "message": true, "system": true, "report": true, "include": true, "put": true, "page": true, "document": true, "content": true, "tool": true,
}

// score prefers long, telling and few literals, and those at the start of a match,
// where a stream must hold back least.
func (n need) score() float64 {
	if len(n) == 0 {
		return useless
	}
	shortest, before, reach := infinite, 0, 0
	for _, l := range n {
		text := strings.ReplaceAll(l.text, wordStart, "")
		length := len(text)
		if common[text] {
			length = min(length, minLiteral)
		} else if length > 1 && strings.HasPrefix(l.text, wordStart) && wordByte(text[0]) {
			length++ // as telling as another letter
		}
		shortest = min(shortest, length)
		before, reach = max(before, l.before), max(reach, l.before, l.after)
	}
	if shortest < minLiteral {
		return useless
	}
	s := float64(min(shortest, 9))*10 - 2.5*math.Log2(float64(len(n)))
	if before == 0 {
		s += 25 // tried at one place only (see branch.anchored)
	}
	if reach > maxReach {
		s -= 30
	}
	return s
}

// reach is the longest match that windows hold.
func (n need) reach() int {
	most := 0
	for _, l := range n {
		most = max(most, l.before+l.after)
	}
	return most
}

// whole makes a need of literals that begin a part of at most after bytes.
func whole(texts []string, before, after int) need {
	if len(texts) == 0 {
		return nil
	}
	n := make(need, len(texts))
	for i, t := range texts {
		n[i] = literal{text: t, before: before, after: after}
	}
	return n
}

// shift is the need of an expression with more in front and behind.
func (n need) shift(before, after int) need {
	out := make(need, len(n))
	for i, l := range n {
		out[i] = literal{text: l.text, before: add(l.before, before), after: add(l.after, after)}
	}
	return out
}

func better(a, b need) need {
	if b.score() > a.score() {
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
		p.start, p.best = nil, nil // it may be absent
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
	p.best = whole(p.exact, 0, n)
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
		few = few && hi-lo < 10 && len(runes) < 24 && (hi < utf8.RuneError || utf8.RuneError < lo)
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
		if 2 <= most && most <= 3 && p.exact != nil {
			powers, power := union(p.exact, []string{""}), p.exact
			for range most - 1 {
				if power = product(power, p.exact); power == nil {
					break
				}
				powers = union(powers, power)
			}
			if power != nil && len(powers) <= maxLiterals {
				out.exact = powers
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
			out.best = better(out.best, whole(exact, 0, out.max))
		}
	}
	if p.best != nil { // the first turn holds it
		out.best = better(out.best, p.best.shift(0, out.max))
	}
	return out
}

func alternatePart(subs []*syntax.Regexp) part {
	out := part{exact: []string{}, start: []string{}, best: need{}}
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
			if p.best.score() <= useless || len(out.best)+len(p.best) > 2*maxLiterals {
				out.best = nil
			} else {
				out.best = append(out.best, p.best...)
			}
		}
	}
	for _, set := range [][]string{out.exact, out.start} {
		if len(set) > 0 {
			out.best = better(out.best, whole(set, 0, out.max))
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
			out.best = better(out.best, p.best.shift(before, rest[i+1]))
		}
		exact := []string{""}
		for j := i; j < len(parts); j++ {
			if start := product(exact, shorten(parts[j].start, maxLiterals/len(exact))); len(start) > 0 {
				out.best = better(out.best, whole(start, before, rest[i]))
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
			out.best = better(out.best, whole(exact, before, rest[i]))
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
