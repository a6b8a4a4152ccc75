package argument_test

import (
	"context"
	"encoding/json/jsontext"
	"path"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/policy/argument"
)

func newPath(t testing.TB, roots ...string) *argument.Path {
	t.Helper()
	p, problems := argument.NewPath(roots)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

func TestPathStaysInsideItsRoots(t *testing.T) {
	cases{
		{"/srv/data", ""},
		{"/srv/data/", ""},
		{"/srv/data/a/b.txt", ""},
		{"/srv/data//a/./b", ""},
		{"/srv/data/.hidden", ""},
		{"/srv/data/a..b", ""},
		{"/srv/data/...a", ""},
		{"/srv/data/naïve/Ärger.txt", ""},
		{"/srv/data/100% sure.txt", ""},
		{"/tmp/x", ""},

		{"/srv/data2/x", "is not inside /srv/data, /tmp"},
		{"/srv", "is not inside"},
		{"/", "is not inside"},
		{"/etc/passwd", "is not inside"},
		{"/SRV/data/x", "is not inside"},
		{"srv/data/x", "is not inside"},
		{"a", "is not inside"},
		{".", "is not inside"},

		{"/srv/data/../../etc/passwd", ".. segment"},
		{"/srv/data/x/../y", ".. segment"}, // x may be a link
		{"/srv/data/..", ".. segment"},
		{"../x", ".. segment"},
		{"/srv/data/.. /x", ".. segment"},
		{"/srv/data/.../x", ".. segment"},
		{"/srv/data/ . /x", ".. segment"},
		{"/srv/data/%2e%2e/x", "escaped dot"},
		{"/srv/data/%2E%2E%2Fx", "escaped dot"},
		{"/srv/data/..%2fx", "escaped dot"},
		{"/srv/data/%252e%252e/x", "escaped dot"},
		{"/srv/data/%c0%ae%c0%ae/x", "escaped dot"},
		{"/srv/data/%u002e%u002e/x", "escaped dot"},
		{"/srv/data/..\\..\\etc", "backslash"},
		{"\\\\server\\share", "backslash"},
		{"/srv/data/x\x00.txt", "control character"},
		{"/srv/data/%00", "escaped dot"},
		{"/srv/data/x\n/etc/passwd", "control character"},
		{"/srv/data/\u202etxt.exe", "control character"},
		{"/srv/data/a\u200bb", "control character"},
		{"/srv/data/\uff0e\uff0e/x", "as a dot or a slash"},
		{"/srv/data/\u2024\u2024/x", "as a dot or a slash"},
		{"/srv/data/\u2025/x", "as a dot or a slash"},
		{"/srv/data\uff0fx", "as a dot or a slash"},
		{"~/x", "a shell expands"},
		{"~root/x", "a shell expands"},
		{" ~/x", "a shell expands"},
		{"$HOME/x", "a shell expands"},
		{"/srv/data/$(id)", "a shell expands"},
		{"/srv/data/`id`", "a shell expands"},
		{"/srv/data/*", "a shell expands"},
		{"/srv/data/x;rm -rf", "a shell expands"},
		{"/srv/data/x | cat", "a shell expands"},
		{"C:/Windows", "a drive or a scheme"},
		{"c:x", "a drive or a scheme"},
		{"file:///srv/data/x", "a drive or a scheme"},
		{"//server/share", "two slashes"},
		{"//srv/data/x", "two slashes"},
		{"", "is empty"},
		{"  ", "is empty"},
		{"/srv/data/" + strings.Repeat("a", 5000), "longer than 4096"},
		{7, "is not a string"},
		{[]string{"/tmp/x"}, "is not a string"},
	}.run(t, newPath(t, "/srv/data", "/tmp"))
}

func TestPathMayBeRelativeToARelativeRoot(t *testing.T) {
	cases{
		{"a/b", ""}, {"./a", ""}, {".", ""}, {"a", ""},
		{"/a", "is not inside ."}, {"../a", ".. segment"}, {"a/../../b", ".. segment"}, {"~", "a shell expands"}, {"C:a", "a drive"},
	}.run(t, newPath(t, "."))
	cases{
		{"reports/a", ""}, {"reports", ""}, {"./reports/a", ""},
		{"reports2/a", "is not inside"}, {"a", "is not inside"}, {"/reports/a", "is not inside"},
	}.run(t, newPath(t, "reports"))
	cases{{"/anything", ""}, {"anything", "is not inside"}}.run(t, newPath(t, "/"))
}

func TestPathRootsAreChecked(t *testing.T) {
	for _, root := range []string{"", "..", "/a/../b", "~/x", `C:\x`, "/a\x00"} {
		if _, problems := argument.NewPath([]string{root}); len(problems) != 1 {
			t.Errorf("root %q: %v", root, problems)
		}
	}
	if _, problems := argument.NewPath(nil); len(problems) != 1 {
		t.Errorf("without roots: %v", problems)
	}
}

func FuzzPath(f *testing.F) {
	f.Add("/srv/data/a/b")
	f.Add("/srv/data/../x")
	p := newPath(f, "/srv/data")
	f.Fuzz(func(t *testing.T, raw string) {
		value, err := jsontext.AppendQuote(nil, raw)
		if err != nil || p.Check(context.Background(), "path", value) != "" {
			return
		}
		if clean := path.Clean(raw); clean != "/srv/data" && !strings.HasPrefix(clean, "/srv/data/") {
			t.Fatalf("%q is allowed and means %q", raw, clean)
		}
	})
}
