package pattern

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/guardbook/guardbook"
)

// Options tunes an engine. The zero value is right for most.
type Options struct {
	// WindowBytes is how many bytes of windows around keywords one interaction may
	// have read by expressions, beside 4 for each byte of its texts. 0: 128 kB.
	WindowBytes int
	// MaxFindings is how many findings one interaction may have. 0: 1,000.
	MaxFindings int
}

// Engine is the detector of layer L1. It is immutable and safe for any number of
// goroutines.
type Engine struct {
	version  string
	opt      Options
	rules    []*Rule
	branches []*branch
	of       []int // the number of each branch's rule
	byID     map[string]*Rule
	text     *automaton // keywords of rules on the text
	folded   *automaton // keywords of rules on the folded view
	scanning []int      // rules that are scanners
	active   map[guardbook.Kind][]bool
	pool     sync.Pool // of *scan
}

var _ guardbook.Detector = (*Engine)(nil)

// New makes an engine of a pack's rules.
func New(p *Pack, o Options) *Engine {
	if o.WindowBytes == 0 {
		o.WindowBytes = 128 << 10
	}
	if o.MaxFindings == 0 {
		o.MaxFindings = 1000
	}
	e := &Engine{version: p.Version, opt: o, rules: p.Rules, byID: map[string]*Rule{}, active: map[guardbook.Kind][]bool{}}
	words := map[string]map[int]need{onText: {}, onFolded: {}}
	for i, r := range p.Rules {
		e.byID[r.ID] = r
		if r.scan != nil {
			e.scanning = append(e.scanning, i)
			continue
		}
		for _, b := range r.branches {
			words[r.On][len(e.branches)] = b.need
			e.branches, e.of = append(e.branches, b), append(e.of, i)
		}
	}
	e.text, e.folded = newAutomaton(words[onText]), newAutomaton(words[onFolded])
	for _, k := range guardbook.Kinds {
		on := make([]bool, len(p.Rules))
		for i, r := range p.Rules {
			on[i] = len(r.Channels) == 0 || slices.Contains(r.Channels, k)
		}
		e.active[k] = on
	}
	e.pool.New = func() any { return newScan(e) }
	return e
}

// Layer is "L1".
func (e *Engine) Layer() string { return "L1" }

// Version names the packs and the hash over their files.
func (e *Engine) Version() string { return e.version }

// Rule returns the rule with an id.
func (e *Engine) Rule(id string) (Rule, bool) {
	r, ok := e.byID[id]
	if !ok {
		return Rule{}, false
	}
	return *r, true
}

// Rules lists the rules in the order of their packs.
func (e *Engine) Rules() []Rule {
	out := make([]Rule, len(e.rules))
	for i, r := range e.rules {
		out[i] = *r
	}
	return out
}

// errIncomplete begins the error of a scan that stopped at one of its bounds.
var errIncomplete = errors.New("incomplete")

// Detect reads every text of an interaction. An error that begins with
// "incomplete: " says that a bound was met and why; findings so far are returned
// with it.
func (e *Engine) Detect(ctx context.Context, in *guardbook.Interaction) ([]guardbook.Finding, error) {
	active, ok := e.active[in.Kind]
	if !ok {
		return nil, fmt.Errorf("unknown kind of interaction %q", in.Kind)
	}
	texts, textErr := in.Texts()
	s := e.pool.Get().(*scan)
	defer e.pool.Put(s)
	s.begin(ctx, in, active)
	for _, t := range texts {
		s.budget += 4 * len(t.Text)
	}
	for _, t := range texts {
		if s.read(t); s.err != nil {
			break
		}
	}
	findings := s.finish()
	if s.err != nil {
		return findings, s.err
	}
	if textErr != nil {
		return findings, fmt.Errorf("%w: %w", errIncomplete, textErr)
	}
	return findings, nil
}
