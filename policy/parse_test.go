package policy_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files and the schema")

// golden compares got with a file, or rewrites the file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// yamlFiles lists the policy files of a folder.
func yamlFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no files in", dir, err)
	}
	return files
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryProblemOfAFileIsToldWithItsPlaceAndWhatIsAllowed(t *testing.T) {
	for _, path := range yamlFiles(t, "testdata/bad") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			src := readFile(t, path)
			_, err := policy.Parse(filepath.Base(path), src)
			if err == nil {
				t.Fatal("it parses")
			}
			sound(t, src, err)
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", []byte(err.Error()+"\n"))
		})
	}
}

// sound checks what holds of every error: it is an *Errors, each with a place in
// the file and a message of one line.
func sound(t *testing.T, src []byte, err error) {
	t.Helper()
	errs, ok := errors.AsType[*policy.Errors](err)
	if !ok || len(errs.List) == 0 {
		t.Fatalf("not an *Errors: %v", err)
	}
	lines := bytes.Count(src, []byte("\n")) + 1
	for _, e := range errs.List {
		if e.Line < 1 || e.Line > lines || e.Column < 1 {
			t.Errorf("no such place: %d:%d of %d lines: %s", e.Line, e.Column, lines, e.Message)
		}
		if e.Message == "" || strings.ContainsAny(e.Message, "\n\r\x1b\x00") || !utf8.ValidString(e.Message) {
			t.Errorf("not a message of one line: %q", e.Message)
		}
		if strings.Count(e.Excerpt, "\n") > 1 || strings.ContainsAny(e.Excerpt, "\r\t\x1b\x00\u202e") {
			t.Errorf("an excerpt that does not show as it is: %q", e.Excerpt)
		}
	}
}

func TestAPolicyIsReadAsItIsWritten(t *testing.T) {
	for _, path := range yamlFiles(t, "testdata/valid") {
		if _, err := policy.Parse(path, readFile(t, path)); err != nil {
			t.Error(err)
		}
	}
	p, err := policy.Parse("billing-bot.yaml", readFile(t, "testdata/valid/billing-bot.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	critical, high := guardbook.Critical, guardbook.High
	type rule = policy.FindingRule
	got := []any{p.Name, p.Version, p.Owner, p.File, p.Agents, p.Mode, p.Limits, p.Alerts, len(p.Tools), p.Tools[1].Approval.From, p.Tools[1].Approval.Within.String(), p.Tools[2].Deny}
	want := []any{
		"billing-bot", 1, "payments-team@example.com", "billing-bot.yaml", []string{"billing-bot", "billing-bot-*"}, guardbook.ModeEnforce,
		policy.Limits{ToolCallsPerMinute: 60}, policy.Alerts{From: guardbook.High, To: "security-oncall"}, 3, []string{"security"}, "15m0s", "this agent has no business with files",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for i, want := range []rule{
		{Class: guardbook.ClassPromptInjection, Channels: []guardbook.Kind{"input", "tool_result", "tool_definition"}, Threshold: 0.8, Action: guardbook.ActionBlock, Severity: &critical},
		{Class: guardbook.ClassPII, Channels: []guardbook.Kind{"output"}, Threshold: 0.4, Action: guardbook.ActionRedact, Severity: &high},
		{Class: guardbook.ClassSecret, Channels: []guardbook.Kind{"input", "output", "tool_call"}, Threshold: 0.4, Action: guardbook.ActionRedact, Severity: &critical},
	} {
		f := p.Findings[i]
		got := rule{Class: f.Class, Channels: f.Channels, Threshold: f.Threshold, Action: f.Action, Severity: f.Severity}
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(rule{})); d != "" {
			t.Errorf("finding %d: %s", i, d)
		}
	}
}

func TestAFileThatIsTooLargeIsNotRead(t *testing.T) {
	src := append([]byte("policy: bot\nversion: 1\nagents: [bot]\n#"), bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n#"), policy.MaxFileSize/100)...)
	_, err := policy.Parse("big.yaml", src)
	if err == nil || !strings.Contains(err.Error(), "big.yaml:1:1: the file is larger than 1 MiB") {
		t.Error(err)
	}
	if _, err := policy.Parse("just.yaml", src[:policy.MaxFileSize]); err != nil {
		t.Error(err)
	}
	for tail, want := range map[string]string{
		"#" + strings.Repeat("x", 20_000): "4:16385: the line has more than 16384 characters",
		strings.Repeat("#\n", 20_001):     "20001:1: the file has more than 20000 lines",
	} {
		if _, err := policy.Parse("x", []byte("policy: bot\nversion: 1\nagents: [bot]\n"+tail)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestAPolicyKeepsItsOwnCopyOfTheSource(t *testing.T) {
	src := []byte("policy: bot\nversion: 1\nagents: [bot]\n")
	p, err := policy.Parse("x", src)
	if err != nil {
		t.Fatal(err)
	}
	clear(src)
	if !strings.HasPrefix(string(p.Source), "policy: bot") {
		t.Error("the source changed under the policy")
	}
}

func TestRenderWritesAPolicyThatDecidesTheSame(t *testing.T) {
	for _, path := range append(yamlFiles(t, "testdata/valid"), yamlFiles(t, "../policies")...) {
		p, err := policy.Parse(path, readFile(t, path))
		if err != nil {
			t.Fatal(err)
		}
		text := p.Render()
		again, err := policy.Parse(path, text)
		if err != nil {
			t.Errorf("what %s renders to does not parse: %v\n%s", path, err, text)
			continue
		}
		if d := cmp.Diff(string(text), string(again.Render())); d != "" {
			t.Errorf("%s: rendering again gives something else: %s", path, d)
		}
		fromJSON, err := policy.Parse(path, p.RenderJSON())
		if err != nil {
			t.Errorf("%s: as JSON: %v", path, err)
			continue
		}
		if d := cmp.Diff(string(text), string(fromJSON.Render())); d != "" {
			t.Errorf("%s: as JSON it is something else: %s", path, d)
		}
		if path == "testdata/valid/everything.yaml" {
			golden(t, "testdata/valid/everything.rendered.txt", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"testdata/bad", "testdata/valid", "../policies"} {
		for _, path := range yamlFiles(f, dir) {
			if src := readFile(f, path); len(src) < 8<<10 {
				f.Add(src)
			}
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := policy.Parse("fuzz.yaml", src)
		if err != nil {
			sound(t, src, err)
			return
		}
		if _, err := policy.Parse("again.yaml", p.Render()); err != nil {
			t.Fatalf("what it renders to does not parse: %v\n%s", err, p.Render())
		}
	})
}
