package pattern

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/guardbook/guardbook"
)

// Pack is a set of checked rules, ready to run.
type Pack struct {
	// Version is a short name and the hash of every file: "core/1 sha256:...".
	Version string
	Rules   []*Rule
}

// file is one YAML file of rules.
type file struct {
	Pack    string            `yaml:"pack"`    // a short name: "secrets"
	Version int               `yaml:"version"` // of the rule language; 1
	Source  string            `yaml:"source"`  // where the rules come from, if not from here
	Licence string            `yaml:"licence"`
	Define  map[string]string `yaml:"define"` // pieces of expressions, used as {{name}}
	Rules   []*Rule           `yaml:"rules"`
}

// Load reads every *.yaml file at the root of fsys. A rule that is incomplete,
// that no keyword can find, or that fails its own examples is an error which
// names file and rule; all errors are reported at once.
func Load(fsys fs.FS) (*Pack, error) {
	pack, err := load(fsys)
	if err != nil {
		return nil, err
	}
	return pack, nil
}

func load(fsys fs.FS) (*Pack, error) {
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list rule packs: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("load rules: there is no *.yaml file")
	}
	slices.Sort(names)
	pack := &Pack{}
	sum := sha256.New()
	var problems []error
	seen := map[string]string{}
	for _, name := range names {
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		fmt.Fprintf(sum, "%s %d\n", path.Base(name), len(src))
		sum.Write(src)
		var f file
		if err := yaml.NewDecoder(bytes.NewReader(src), yaml.Strict()).Decode(&f); err != nil {
			return nil, fmt.Errorf("rules in %s: %w", name, err)
		}
		if f.Version != 1 {
			problems = append(problems, fmt.Errorf("rules in %s: version is %d; this build reads version 1", name, f.Version))
		}
		for _, r := range f.Rules {
			r.pack = f.Pack
			if err := r.check(f.Define); err != nil {
				problems = append(problems, fmt.Errorf("rule %q in %s: %w", r.ID, name, err))
			}
			if other, ok := seen[r.ID]; ok {
				problems = append(problems, fmt.Errorf("rule %q in %s: the id is used in %s, too", r.ID, name, other))
			}
			seen[r.ID] = name
			pack.Rules = append(pack.Rules, r)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	pack.Version = "core/1 sha256:" + hex.EncodeToString(sum.Sum(nil))
	return pack, nil
}

// check refuses an incomplete rule and works out what the engine needs of it.
func (r *Rule) check(define map[string]string) error {
	switch {
	case r.ID == "" || strings.ContainsAny(r.ID, " \t\n"):
		return errors.New("id must be a word such as injection/override")
	case !slices.Contains(guardbook.Classes, r.Class):
		return fmt.Errorf("class %q is none of %v", r.Class, guardbook.Classes)
	case r.Confidence <= 0 || r.Confidence > 1:
		return fmt.Errorf("confidence is %v: it must be above 0 and at most 1", r.Confidence)
	case r.Meaning == "" || r.Response == "":
		return errors.New("meaning and response must say what a match is and what to do about it")
	case len(r.Examples.Match) == 0 || len(r.Examples.Pass) == 0:
		return errors.New("examples must hold at least one text under match and one under pass")
	case (r.Pattern == "") == (r.Scanner == ""):
		return errors.New("a rule has either a pattern or a scanner")
	case r.On != "" && r.On != onText && r.On != onFolded:
		return fmt.Errorf("on is %q: use %s or %s", r.On, onText, onFolded)
	}
	var err error
	if r.Severity, err = guardbook.ParseSeverity(r.SeverityName); err != nil {
		return err
	}
	for _, k := range r.Channels {
		if !slices.Contains(guardbook.Kinds, k) {
			return fmt.Errorf("channel %q is none of %v", k, guardbook.Kinds)
		}
	}
	for k, c := range r.By {
		if !slices.Contains(guardbook.Kinds, k) || c <= 0 || c > 1 {
			return fmt.Errorf("confidence_by_channel %s: %v: use a kind, and a confidence above 0 and at most 1", k, c)
		}
	}
	for _, n := range []*Nearby{r.Raise, r.Lower} {
		if n != nil && (len(n.Words) == 0 || n.To <= 0 || n.To > 1) {
			return errors.New("raise and lower need words, and a confidence above 0 and at most 1 as to")
		}
	}
	if r.On == "" {
		r.On = onText
	}
	if r.Validate != "" {
		var ok bool
		if r.valid, ok = validators[r.Validate]; !ok {
			return fmt.Errorf("validate %q is none of %s", r.Validate, strings.Join(Validators(), ", "))
		}
	}
	for _, u := range r.Unless {
		re, err := regexp.Compile(u)
		if err != nil {
			return fmt.Errorf("unless: %w", err)
		}
		r.unless = append(r.unless, re)
	}
	if r.Scanner != "" {
		var ok bool
		if r.scan, ok = scanners[r.Scanner]; !ok {
			return fmt.Errorf("scanner %q is none of %s", r.Scanner, strings.Join(Scanners(), ", "))
		}
		return nil
	}
	return r.derive(define)
}

var lineBreak = regexp.MustCompile(`[ \t]*\n\s*`)

// derive parses the pattern and finds the keywords that it cannot match without.
func (r *Rule) derive(define map[string]string) error {
	expr := lineBreak.ReplaceAllString(strings.TrimSpace(r.Pattern), "")
	for range 3 { // definitions may use one another
		for name, piece := range define {
			expr = strings.ReplaceAll(expr, "{{"+name+"}}", "(?:"+lineBreak.ReplaceAllString(strings.TrimSpace(piece), "")+")")
		}
	}
	if i := strings.Index(expr, "{{"); i >= 0 {
		return fmt.Errorf("pattern uses %.20q, which define does not hold", expr[i:])
	}
	re, err := parse(expr, r.On == onFolded)
	if err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	if groups := re.MaxCap(); r.Group > groups {
		return fmt.Errorf("group is %d, but the pattern has %d", r.Group, groups)
	}
	alternatives := []*syntax.Regexp{re}
	if re.Op == syntax.OpAlternate && re.MaxCap() == 0 {
		alternatives = re.Sub
	}
	for _, a := range alternatives {
		b, err := newBranch(r, a)
		if err != nil {
			return err
		}
		r.branches = append(r.branches, b)
	}
	return nil
}
