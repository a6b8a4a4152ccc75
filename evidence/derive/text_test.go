package derive

import (
	"bytes"
	"encoding/csv"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCellIsSafeInASpreadsheetAndATerminal(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"=1+1", "'=1+1"},
		{"  =1+1", "'  =1+1"},
		{"\t=1+1", "' =1+1"},
		{"\r\n@SUM(A1)", "'  @SUM(A1)"},
		{"+49 30", "'+49 30"},
		{"-5", "'-5"},
		{"＝cmd", "'＝cmd"},
		{"|calc", "'|calc"},
		{"a=b", "a=b"},
		{"\x1b[31mred\x1b[0m", "red"},
		{"\x1b]8;;http://evil\x07link", "link"},
		{"a\x00b\x7fc\u0085d", "abc d"},
		{"pay\u202eexe.fdp\u200b\ufeff", "payexe.fdp"},
		{"line\u2028end", "line end"},
		{"bad\xffutf8", "bad\ufffdutf8"},
		{"Zürich 日本", "Zürich 日本"},
		{"\u200b=1+1", "'=1+1"},
		{"\x1b[m=1+1", "'=1+1"},
	} {
		if got := Cell(tt.in); got != tt.want {
			t.Errorf("Cell(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func checkCell(t interface{ Fatalf(string, ...any) }, in string) {
	out := Cell(in)
	if !utf8.ValidString(out) || len(out) > maxCell+10 {
		t.Fatalf("Cell(%q) = %q", in, out)
	}
	for _, r := range out {
		if unicode.In(r, unicode.Cc, unicode.Cf) {
			t.Fatalf("Cell(%q) holds %U", in, r)
		}
	}
	if first := strings.TrimLeftFunc(out, unicode.IsSpace); first != "" && strings.ContainsRune("=+-@", []rune(first)[0]) {
		t.Fatalf("Cell(%q) = %q is a formula", in, out)
	}
}

func TestCellOfAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkCell(t, rapid.String().Draw(t, "text")) })
}

func FuzzCell(f *testing.F) {
	f.Add("=HYPERLINK(\"x\")")
	f.Add("\x1b[2J\u202e")
	f.Fuzz(func(t *testing.T, s string) { checkCell(t, s) })
}

type memory struct{ files map[string]*bytes.Buffer }

type closer struct{ *bytes.Buffer }

func (closer) Close() error { return nil }

func (m *memory) Create(name string) (io.WriteCloser, error) {
	m.files[name] = &bytes.Buffer{}
	return closer{m.files[name]}, nil
}

func TestATableIsReadBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.String(), 2, 2), 1, 10).Draw(t, "rows")
		m := &memory{map[string]*bytes.Buffer{}}
		w, err := newTable(m, "x", []column{{name: "a"}, {name: "b"}}, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if err := w.row(r[0], r[1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		var got [][]string
		for _, name := range w.files {
			if bytes.ContainsRune(m.files[name].Bytes(), '\r') {
				t.Fatalf("%s holds a carriage return", name)
			}
			list, err := csv.NewReader(m.files[name]).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, list[1:]...)
		}
		if len(got) != len(rows) {
			t.Fatalf("%d rows of %d", len(got), len(rows))
		}
		for i, r := range rows {
			if got[i][0] != Cell(r[0]) || got[i][1] != Cell(r[1]) {
				t.Fatalf("row %d: %q, want %q", i, got[i], r)
			}
		}
	})
}

func TestTheMostSpecificPatternCoversAnAgent(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		match         bool
	}{
		{"billing-bot", "billing-bot", true}, {"billing-bot", "billing-bot-2", false}, {"billing-*", "billing-bot", true},
		{"*", "x", true}, {"*-bot", "billing-bot", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "aXc", false}, {"ab*ba", "aba", false},
	} {
		if _, ok := matchLength(tt.pattern, tt.name); ok != tt.match {
			t.Errorf("%q covers %q: %t", tt.pattern, tt.name, ok)
		}
	}
	exact, _ := matchLength("bot", "bot")
	long, _ := matchLength("bo*", "bot")
	short, _ := matchLength("b*", "bot")
	if exact <= long || long <= short {
		t.Errorf("exact %d, long %d, short %d", exact, long, short)
	}
}

func FuzzPolicyText(f *testing.F) {
	f.Add([]byte("policy: a\ntools: [{name: x, allow: {q: {type: sql}}}]"))
	f.Add([]byte("policy: a\n---\npolicy: b\ntools:\n- {name: y, deny: no}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, p := range parsePolicies(src) {
			grantsOf(p)
		}
	})
}
