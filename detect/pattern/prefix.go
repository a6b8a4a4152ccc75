package pattern

import (
	"regexp/syntax"
	"unicode/utf8"
)

// prefixer tells whether the end of a text could be the beginning of a match. It
// walks the expression's program as a set of threads (Pike), each with the place
// where it began, and asks which still wait for a character when the text ends.
//
// Safety: it keeps threads that a real match would have given up for a better
// one, and takes what stands behind the end for whatever a thread wants; so it
// may say that a match could go on when it could not, and never the other way.
type prefixer struct {
	prog *syntax.Prog
}

func newPrefixer(expr string) *prefixer {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		panic("expression that was checked before: " + err.Error())
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		panic("expression that was checked before: " + err.Error())
	}
	return &prefixer{prog}
}

// threads is a sparse set of program counters, each with where it began.
type threads struct {
	place []int32 // by pc: index in list, plus one
	list  []thread
}

type thread struct {
	pc    uint32
	start int
}

func (t *threads) clear() {
	for _, th := range t.list {
		t.place[th.pc] = 0
	}
	t.list = t.list[:0]
}

// open returns the earliest place from lo to hi at which a match could begin that
// goes on beyond the end of text, or -1.
func (p *prefixer) open(text string, lo, hi int) int {
	n := len(p.prog.Inst)
	now, next := &threads{place: make([]int32, n)}, &threads{place: make([]int32, n)}
	before := rune(-1)
	if lo > 0 {
		before, _ = utf8.DecodeLastRuneInString(text[:lo])
	}
	for i := lo; ; {
		r, width := rune(-1), 0
		if i < len(text) {
			r, width = utf8.DecodeRuneInString(text[i:])
		}
		flags := syntax.EmptyOpContext(before, r)
		if i >= len(text) {
			// What follows is unknown: every assertion about it may hold.
			flags |= syntax.EmptyWordBoundary | syntax.EmptyNoWordBoundary | syntax.EmptyEndLine | syntax.EmptyEndText
		}
		// Threads wait in now with their assertions still to be tried.
		next.clear()
		for _, th := range now.list {
			p.follow(next, th.pc, th.start, flags)
		}
		if i <= hi {
			p.follow(next, uint32(p.prog.Start), i, flags)
		}
		if i >= len(text) {
			earliest := -1
			for _, th := range next.list {
				switch p.prog.Inst[th.pc].Op {
				case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
					if earliest < 0 || th.start < earliest {
						earliest = th.start
					}
				}
			}
			return earliest
		}
		now.clear()
		for _, th := range next.list {
			in := &p.prog.Inst[th.pc]
			if in.Op == syntax.InstRuneAny || in.Op == syntax.InstRuneAnyNotNL && r != '\n' || (in.Op == syntax.InstRune || in.Op == syntax.InstRune1) && in.MatchRune(r) {
				now.add(in.Out, th.start)
			}
		}
		if len(now.list) == 0 && i >= hi {
			return -1
		}
		before = r
		i += width
	}
}

// add keeps the earliest start of each program counter.
func (t *threads) add(pc uint32, start int) bool {
	if k := t.place[pc]; k > 0 {
		if t.list[k-1].start <= start {
			return false
		}
		t.list[k-1].start = start
		return true
	}
	t.list = append(t.list, thread{pc, start})
	t.place[pc] = int32(len(t.list))
	return true
}

// follow adds what a thread reaches without reading a character.
func (p *prefixer) follow(t *threads, pc uint32, start int, flags syntax.EmptyOp) {
	for {
		if !t.add(pc, start) {
			return
		}
		in := &p.prog.Inst[pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			p.follow(t, in.Out, start, flags)
			pc = in.Arg
		case syntax.InstCapture, syntax.InstNop:
			pc = in.Out
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^flags != 0 {
				return
			}
			pc = in.Out
		default:
			return
		}
	}
}
