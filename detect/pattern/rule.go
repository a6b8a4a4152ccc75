// Package pattern is detection layer L1: rules in YAML, found with one keyword
// automaton and confirmed with regular expressions or validators, over the text
// as it is and as a model would read it.
package pattern

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/guardbook/guardbook"
)

// Rule is one rule of a pack. Its text is what alerts and threat pages show.
type Rule struct {
	ID       string             `yaml:"id"`    // unique in all packs: "injection/override"
	Class    guardbook.Class    `yaml:"class"` // what a match is
	Severity guardbook.Severity `yaml:"-"`     // how bad that is
	// SeverityName is Severity as the file spells it. (The YAML decoder formats the
	// whole file anew for each value that unmarshals itself from text.)
	SeverityName string `yaml:"severity"`
	// Confidence is the calibrated probability that a match is what the class says.
	Confidence float64 `yaml:"confidence"`
	// By overrides Confidence for single kinds of interaction: the same words mean
	// something else in a tool call than in a page of documentation.
	By       map[guardbook.Kind]float64 `yaml:"confidence_by_channel"`
	Channels []guardbook.Kind           `yaml:"channels"` // where the rule is looked for; empty: everywhere
	OWASP    []string                   `yaml:"owasp"`    // "LLM01:2025", "ASI01:2026"
	ATLAS    []string                   `yaml:"atlas"`    // "AML.T0051"
	Meaning  string                     `yaml:"meaning"`  // what a match means, for people
	Response string                     `yaml:"response"` // what to do about it

	// On is the view that the rule reads: "text" (case kept) or "folded" (lower
	// case, no accents, single spaces; see normalize.Fold).
	On string `yaml:"on"`
	// Pattern is an RE2 expression. Line breaks and the indentation after them
	// are dropped. (?i) folds ASCII letters with ASCII letters only. In rules on
	// the folded view a space matches a newline, too.
	Pattern string `yaml:"pattern"`
	Group   int    `yaml:"group"` // the group that is the finding; 0: the whole match
	// Scanner names a built-in scanner to use in place of a pattern (see Scanners).
	Scanner string `yaml:"scanner"`
	// Validate names a check that what was found must pass (see Validators).
	Validate string `yaml:"validate"`
	// Entropy is the least Shannon entropy, in bits a character, of what was found.
	Entropy float64 `yaml:"entropy"`
	// Unless are expressions, read on what was found, that make it nothing.
	Unless []string `yaml:"unless"`
	// Raise and Lower change the confidence when words stand nearby.
	Raise *Nearby `yaml:"raise"`
	Lower *Nearby `yaml:"lower"`
	// Quotable: quoting or discussing such text is common and harmless, so that
	// inside quotation marks or beside words of discussion confidence is lowered.
	Quotable bool     `yaml:"quotable"`
	Examples Examples `yaml:"examples"`

	pack     string
	branches []*branch // of Pattern
	unless   []*regexp.Regexp
	scan     scanner
	valid    func(string) bool
}

// branch is one alternative at the top of a rule's pattern. Each is looked for on
// its own, so that a long list of alternatives costs only those whose keywords
// are there. A pattern with a group is one branch.
type branch struct {
	rule    *Rule
	expr    func() string
	need    need   // keywords of which a match holds one
	musts   []must // what else it holds
	compile func() *regexp.Regexp
	// anchored is the expression at the start of a text. A match whose keyword is
	// its first byte can only begin where the keyword was met, so one try there is
	// enough; \b is decided before (see literal.word).
	anchored func() *regexp.Regexp
	alive    func() *prefixer
}

// Nearby names words and what their presence makes of a confidence.
type Nearby struct {
	Words  []string `yaml:"words"`  // lower case; matched in the folded text at the start of a word
	Within int      `yaml:"within"` // bytes before and after the match; 0: 64
	To     float64  `yaml:"to"`     // the confidence then
	// Channels limits this to some kinds of interaction; empty: all.
	Channels []guardbook.Kind `yaml:"channels"`
}

// Examples are a rule's own tests: Load refuses a rule without both kinds.
type Examples struct {
	Match []string `yaml:"match"` // each must be found by the rule
	Pass  []string `yaml:"pass"`  // none may be found by it
}

// ConfidenceOn is the rule's confidence on one kind of interaction.
func (r *Rule) ConfidenceOn(k guardbook.Kind) float64 {
	if c, ok := r.By[k]; ok {
		return c
	}
	return r.Confidence
}

// Pack returns the name of the pack that the rule comes from.
func (r *Rule) Pack() string { return r.pack }

// Reach is the longest match, in bytes, that the rule is promised to find in a
// longer text. 0: the rule is a scanner of its own, without such a bound.
func (r *Rule) Reach() int {
	most := 0
	for _, b := range r.branches {
		most = max(most, b.need.reach())
	}
	return most
}

// Views of a rule.
const (
	onText   = "text"
	onFolded = "folded"
)

// newBranch works out what the engine needs of one alternative.
func newBranch(r *Rule, re *syntax.Regexp) (*branch, error) {
	need, ok := requirements(re)
	if !ok {
		return nil, fmt.Errorf("pattern has no keyword of %d bytes or more that each match of %.60q must hold, so every text would have to be tried", minLiteral, re)
	}
	b := &branch{rule: r, need: need, musts: musts(re), expr: sync.OnceValue(re.String)}
	// Few of the expressions are ever needed in one run of a command, so each is
	// compiled when its first keyword is met.
	b.compile = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(b.expr()) })
	b.anchored = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\A(?:` + b.expr() + `)`) })
	b.alive = sync.OnceValue(func() *prefixer { return newPrefixer(b.expr()) })
	return b, nil
}

// Expression is the rule's pattern as it is run, with definitions put in; empty
// for a scanner.
func (r *Rule) Expression() string {
	parts := make([]string, len(r.branches))
	for i, b := range r.branches {
		parts[i] = b.expr()
	}
	return strings.Join(parts, "|")
}

// Keywords lists the words of which each match must hold at least one, in lower
// case; empty for a scanner.
func (r *Rule) Keywords() []string {
	var out []string
	for _, b := range r.branches {
		for _, l := range b.need {
			out = append(out, l.text)
		}
	}
	return out
}
