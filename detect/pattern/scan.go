package pattern

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/normalize"
)

// scan is the state of reading one interaction; engines keep and reuse them.
type scan struct {
	e       *Engine
	ctx     context.Context
	kind    guardbook.Kind
	system  bool // the developer's own prompt
	active  []bool
	budget  int // bytes of windows that may still be read
	err     error
	path    string
	orig    string // the text as it came
	found   []match
	open    []window // by branch: the window that is growing
	touched []int32  // branches with an open window
}

// window is a stretch of a view that a branch's expression must read.
type window struct{ from, to int }

// match is a finding before it is written out, in bytes of the original text.
type match struct {
	rule       *Rule
	path       string
	start, end int
	confidence float64
	text       string // what was found, as the view shows it
}

func newScan(e *Engine) *scan {
	s := &scan{e: e, open: make([]window, len(e.branches))}
	for i := range s.open {
		s.open[i] = window{-1, -1}
	}
	return s
}

func (s *scan) begin(ctx context.Context, in *guardbook.Interaction, active []bool) {
	s.ctx, s.kind, s.active = ctx, in.Kind, active
	s.system = in.Kind == guardbook.KindInput && in.Role == "system"
	s.budget, s.err = s.e.opt.WindowBytes, nil
	clear(s.found)
	s.found = s.found[:0]
}

// skip reports whether a rule has no business with this interaction.
func (s *scan) skip(i int) bool {
	if !s.active[i] {
		return true
	}
	c := s.e.rules[i].Class
	return s.system && (c == guardbook.ClassPromptInjection || c == guardbook.ClassJailbreak)
}

// read looks for every rule in every view of one text.
func (s *scan) read(t guardbook.Text) {
	s.path, s.orig = t.Path, t.Text
	views, complete := normalize.Views(t.Text, normalize.Budget(len(t.Text)))
	for i, v := range views {
		if s.err = s.ctxErr(); s.err != nil {
			return
		}
		s.keywords(s.e.text, v)
		for _, r := range s.e.scanning {
			s.scanner(r, v)
		}
		if i == 0 && len(views) > 1 && views[1].Name == "clean" {
			continue // the clean view is the one to fold
		}
		s.keywords(s.e.folded, normalize.Fold(v))
		if l := normalize.Loosen(v); l != nil {
			s.keywords(s.e.folded, normalize.Fold(l))
		}
		if s.err != nil {
			return
		}
	}
	if !complete && s.err == nil {
		s.err = fmt.Errorf("%w: more encoded text than is decoded (%d bytes)", errIncomplete, normalize.Budget(len(t.Text)))
	}
}

func (s *scan) ctxErr() error {
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", errIncomplete, context.Cause(s.ctx))
	}
	return nil
}

// keywords gathers the windows around each keyword of a view and has them read.
// Windows of one branch that touch are one.
func (s *scan) keywords(a *automaton, v *normalize.View) {
	if s.err != nil {
		return
	}
	text := v.Text
	a.scan(text, func(end int, outs []output) bool {
		for _, o := range outs {
			i := int(o.branch)
			if s.skip(s.e.of[i]) {
				continue
			}
			at := end - int(o.length)
			b := s.e.branches[i]
			if o.word && at > 0 && wordByte(text[at-1]) {
				continue
			}
			if o.before == 0 {
				s.try(b, v, at, runeEnd(text, at+int(o.after)+utf8.UTFMax))
				continue
			}
			w := window{runeStart(text, at-int(o.before)-utf8.UTFMax), runeEnd(text, at+int(o.after)+utf8.UTFMax)}
			last := &s.open[i]
			switch {
			case last.from < 0:
				*last = w
				s.touched = append(s.touched, o.branch)
			case w.from <= last.to:
				last.from, last.to = min(last.from, w.from), max(last.to, w.to)
			default:
				s.confirm(b, v, *last)
				*last = w
			}
		}
		return s.err == nil
	})
	for _, i := range s.touched {
		w := s.open[i]
		s.open[i] = window{-1, -1}
		s.confirm(s.e.branches[i], v, w)
	}
	s.touched = s.touched[:0]
}

// runeStart is the last start of a rune at or before position i.
func runeStart(s string, i int) int {
	if i <= 0 {
		return 0
	}
	if i >= len(s) {
		return len(s)
	}
	for k := 1; k < utf8.UTFMax && i-k >= 0; k++ {
		if utf8.RuneStart(s[i-k]) {
			if _, n := utf8.DecodeRuneInString(s[i-k:]); n > k {
				return i - k
			}
			break
		}
	}
	return i
}

// runeEnd is the first start of a rune at or after position i.
func runeEnd(s string, i int) int {
	if i >= len(s) {
		return len(s)
	}
	if start := runeStart(s, i); start < i {
		_, n := utf8.DecodeRuneInString(s[start:])
		return start + n
	}
	return i
}

// confirm lets a branch's expression read one window.
func (s *scan) confirm(b *branch, v *normalize.View, w window) {
	if s.err != nil {
		return
	}
	if !b.promising(v.Text[w.from:w.to]) || !s.spend(w.to-w.from) {
		return
	}
	for _, m := range b.compile().FindAllStringSubmatchIndex(v.Text[w.from:w.to], -1) {
		if !s.keep(b.rule, v, w.from, m) {
			return
		}
	}
}

// try lets a branch's expression read what begins with its keyword.
func (s *scan) try(b *branch, v *normalize.View, from, to int) {
	text := v.Text[from:to]
	// One try costs far less than a search; a quarter is still more than its share.
	if s.err != nil || !b.promising(text) || !s.spend((to-from+3)/4) {
		return
	}
	if m := b.anchored().FindStringSubmatchIndex(text); m != nil {
		s.keep(b.rule, v, from, m)
	}
}

// promising reports whether a window holds all else that a match must.
func (b *branch) promising(text string) bool {
	for _, m := range b.musts {
		if !m.in(text) {
			return false
		}
	}
	return true
}

// spend takes bytes from the budget; it answers false when the scan must end.
func (s *scan) spend(n int) bool {
	if s.budget -= n; s.budget < 0 {
		s.err = fmt.Errorf("%w: too many keywords of rules in the text, the budget for reading around them is used up", errIncomplete)
		return false
	}
	s.err = s.ctxErr()
	return s.err == nil
}

// keep adds the part of a match that is the finding; it answers false when the
// scan must end.
func (s *scan) keep(r *Rule, v *normalize.View, from int, m []int) bool {
	g := r.Group
	if g == 0 && r.Class == guardbook.ClassSecret { // the secret is the first group, if there is one
		for k := 2; k < len(m); k += 2 {
			if m[k] >= 0 && m[k+1] > m[k] {
				g = k / 2
				break
			}
		}
	}
	return m[2*g] < 0 || s.add(r, v, from+m[2*g], from+m[2*g+1])
}

// scanner runs a rule's scanner over a view.
func (s *scan) scanner(i int, v *normalize.View) {
	if s.err != nil || s.skip(i) {
		return
	}
	r := s.e.rules[i]
	r.scan(v.Text, func(start, end int) bool { return s.add(r, v, start, end) })
}

// add checks what was found and keeps it; it answers false when the scan must end.
func (s *scan) add(r *Rule, v *normalize.View, start, end int) bool {
	text := v.Text[start:end]
	if !r.accepts(text) {
		return true
	}
	from, to := v.Origin(start, end)
	c := s.confidence(r, v, start, end, from, to)
	s.found = append(s.found, match{r, s.path, from, to, c, text})
	if len(s.found) >= 4*s.e.opt.MaxFindings {
		s.err = fmt.Errorf("%w: more than %d findings", errIncomplete, s.e.opt.MaxFindings)
	}
	return s.err == nil
}

// accepts reports whether what an expression or scanner found passes the rule's
// other tests.
func (r *Rule) accepts(text string) bool {
	if r.Entropy > 0 && entropy(text) <= r.Entropy || r.valid != nil && !r.valid(text) {
		return false
	}
	for _, u := range r.unless {
		if u.MatchString(text) {
			return false
		}
	}
	return true
}
