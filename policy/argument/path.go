package argument

import (
	"context"
	"encoding/json/jsontext"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const maxPath = 4 << 10 // bytes

// Path is a file's path inside one of a list of folders.
//
// It decides on the text alone: a symbolic link inside a folder leads wherever it
// leads. Whatever a tool, a shell or a web framework could still expand into
// another path is refused: dot-dot segments (a link before one makes the text
// lie), escapes, backslashes, ~, $, NUL, and letters that normalisation turns
// into dots or slashes.
type Path struct {
	roots []string
	shown string
}

// NewPath returns the constraint that a value is a path inside one of roots.
// A root is an absolute path, or a relative one ("." or "reports"), inside which
// relative paths are allowed.
func NewPath(roots []string) (*Path, []Problem) {
	p := &Path{shown: Among(roots)}
	var problems []Problem
	if len(roots) == 0 {
		problems = append(problems, Problem{"roots", -1, "roots is empty: no path fits"})
	}
	for i, r := range roots {
		clean, why := cleanPath(r)
		if why != "" {
			problems = append(problems, Problem{"roots", i, "bad root " + Quote(r) + ": it " + why})
			continue
		}
		p.roots = append(p.roots, clean)
	}
	return p, problems
}

// Check implements Type.
func (p *Path) Check(_ context.Context, name string, value jsontext.Value) string {
	raw, problem := text(name, value)
	if problem != "" {
		return problem
	}
	clean, why := cleanPath(raw)
	if why != "" {
		return Quote(name) + " " + why
	}
	for _, root := range p.roots {
		if inside(clean, root) {
			return ""
		}
	}
	return Quote(name) + " is not inside " + p.shown
}

// inside reports whether a clean path is root or lies below it.
func inside(path, root string) bool {
	if root == "." {
		return !strings.HasPrefix(path, "/")
	}
	if root == "/" {
		return strings.HasPrefix(path, "/")
	}
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '/')
}

// cleanPath removes empty and "." segments; why says what keeps the path from
// being plain.
func cleanPath(s string) (clean, why string) {
	switch {
	case strings.TrimSpace(s) == "":
		return "", "is empty"
	case len(s) > maxPath:
		return "", "is longer than 4096 bytes"
	case strings.HasPrefix(strings.TrimLeft(s, " "), "~"):
		return "", "begins with ~, which a shell expands"
	case strings.ContainsRune(s, '\\'):
		return "", "holds a backslash"
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }):
		return "", "holds a control character or an invisible character"
	case strings.ContainsAny(s, "$`*?\"'<>|;&"):
		return "", "holds a character that a shell expands"
	case len(s) >= 2 && s[1] == ':' && (s[0]|0x20) >= 'a' && (s[0]|0x20) <= 'z' || strings.Contains(s, "://"):
		return "", "begins with a drive or a scheme"
	case strings.HasPrefix(s, "//"):
		return "", "begins with two slashes"
	case marks(norm.NFKC.String(s)) != marks(s):
		return "", "holds a letter that some programs read as a dot or a slash"
	}
	lower := strings.ToLower(s)
	for _, odd := range []string{"%2e", "%2f", "%5c", "%25", "%00", "%u", "%c0", "%c1", "%e0", "%f0"} {
		if strings.Contains(lower, odd) {
			return "", "holds an escaped dot, slash or percent sign"
		}
	}
	absolute := strings.HasPrefix(s, "/")
	var parts []string
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "" || segment == "." {
			continue
		}
		// "..", and what Windows takes for it: "...", ".. ".
		if bare := strings.TrimRight(segment, ". "); bare == "" {
			return "", "holds a .. segment"
		}
		parts = append(parts, segment)
	}
	clean = strings.Join(slices.Clip(parts), "/")
	switch {
	case absolute:
		clean = "/" + clean
	case clean == "":
		clean = "."
	}
	return clean, ""
}

// marks counts the characters that take a path apart.
func marks(s string) [4]int {
	return [4]int{strings.Count(s, "."), strings.Count(s, "/"), strings.Count(s, `\`), strings.Count(s, ":")}
}
