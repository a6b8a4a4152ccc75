package policy_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policies"
	"github.com/guardbook/guardbook/policy"
)

// file makes a policy file.
func file(name, policyName, agents string) policy.File {
	return policy.File{Name: name, Source: []byte("policy: " + policyName + "\nversion: 1\nagents: " + agents + "\n")}
}

func bundle(t testing.TB, files ...policy.File) *policy.Bundle {
	t.Helper()
	b, err := policy.NewBundle(files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnExactNameBeatsAGlobAndALongerGlobAShorter(t *testing.T) {
	b := bundle(t, file("1.yaml", "all", `["*"]`), file("2.yaml", "bots", `["bot-*", "*-tool"]`), file("3.yaml", "billing", `["bot-billing*"]`), file("4.yaml", "exact", `[bot-billing]`))
	for agent, want := range map[string]string{
		"bot-billing": "exact", "bot-billing-2": "billing", "bot-x": "bots", "x": "all", "": "all", "x-tool": "bots", "bot-billing-tool": "billing", "Bot-billing": "all",
	} {
		if p := b.For(agent); p == nil || p.Name != want {
			t.Errorf("%s: %v, want %s", agent, p, want)
		}
	}
	if p := bundle(t, file("1.yaml", "a", `[a]`)).For("b"); p != nil {
		t.Error("an agent of no policy has", p.Name)
	}
}

func TestWhichPolicyAppliesDoesNotDependOnTheOrderOfFiles(t *testing.T) {
	x, y := file("1.yaml", "x", `["a*c"]`), file("2.yaml", "y", `["ab*"]`)
	z, w := file("2.yaml", "x", `["a*c"]`), file("1.yaml", "y", `["ab*"]`)
	if a, b := bundle(t, x, y).For("abc").Name, bundle(t, z, w).For("abc").Name; a != b {
		t.Error(a, b)
	}
}

func TestTheHashIsOfNamesAndContents(t *testing.T) {
	a, b := file("a.yaml", "a", `[a]`), file("b.yaml", "b", `[b]`)
	h := bundle(t, a, b).Hash
	if len(h) != 71 || !strings.HasPrefix(h, "sha256:") {
		t.Error(h)
	}
	if got := bundle(t, b, a).Hash; got != h {
		t.Error("the order of the files changes the hash")
	}
	for what, files := range map[string][]policy.File{
		"a name":      {file("c.yaml", "a", `[a]`), b},
		"a content":   {file("a.yaml", "a", `[aa]`), b},
		"a file less": {a},
		"the names":   {{Name: "a.yaml", Source: b.Source}, {Name: "b.yaml", Source: a.Source}},
	} {
		if got := bundle(t, files...).Hash; got == h {
			t.Error(what, "does not change the hash")
		}
	}
	// The hash can be had without this program: sha256sum * | sha256sum.
	if got := bundle(t, file("a.yaml", "a", "[a]")).Hash; got != "sha256:80ce9c62120575ab17fcf5a416a3c554803e226bc20c4f9fff63ed2de68aa510" {
		t.Error(got)
	}
}

func TestPoliciesMayNotShareANameOrAgents(t *testing.T) {
	_, err := policy.NewBundle([]policy.File{file("a.yaml", "x", `[a, "b-*"]`), file("b.yaml", "x", `[c]`), file("c.yaml", "y", `[d, "b-*"]`), {Name: "d.yaml", Source: []byte("policy: z\n")}})
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "testdata/clash.txt", []byte(err.Error()+"\n"))
	if _, err := policy.NewBundle(nil); err == nil || !strings.Contains(err.Error(), "no policy file") {
		t.Error(err)
	}
}

func TestTheStarterPoliciesAreSound(t *testing.T) {
	var files []policy.File
	for _, path := range yamlFiles(t, "../policies") {
		files = append(files, policy.File{Name: strings.TrimPrefix(path, "../policies/"), Source: readFile(t, path)})
	}
	b := bundle(t, files...)
	for _, p := range b.Policies {
		if p.Owner == "" || p.Mode != guardbook.ModeEnforce || p.Alerts.To != "default" {
			t.Errorf("%s: owner %q, mode %s, alerts to %q", p.Name, p.Owner, p.Mode, p.Alerts.To)
		}
		embedded, err := fs.ReadFile(policies.FS, p.File)
		if err != nil || string(embedded) != string(p.Source) {
			t.Error(p.File, "is not embedded", err)
		}
	}
	for agent, want := range map[string]string{
		"anyone": "default", "demo-patient-assistant": "demo-patient-assistant", "demo-recommender": "demo-recommender", "demo-researcher": "demo-researcher",
	} {
		if p := b.For(agent); p.Name != want {
			t.Errorf("%s has policy %s", agent, p.Name)
		}
	}
	found := func(agent string, kind guardbook.Kind, class guardbook.Class, confidence float64) string {
		v, ok := b.For(agent).Finding(kind, guardbook.Finding{Class: class, Confidence: confidence})
		if !ok {
			return ""
		}
		return string(v.Action)
	}
	got := []string{
		found("anyone", "input", "prompt_injection", 0.8), found("anyone", "tool_result", "prompt_injection", 0.9), found("anyone", "input", "prompt_injection", 0.6),
		found("anyone", "output", "secret", 0.8), found("anyone", "output", "pii", 0.8), found("anyone", "input", "pii", 0.8), found("anyone", "tool_call", "code_execution", 0.9),
		found("demo-patient-assistant", "tool_result", "prompt_injection", 0.95), found("demo-patient-assistant", "tool_call", "data_exfiltration", 0.84),
		found("demo-recommender", "output", "pii", 0.45), found("demo-researcher", "output", "data_exfiltration", 0.8),
	}
	want := []string{"block", "block", "flag", "redact", "flag", "", "block", "flag", "flag", "redact", "flag"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	verdicts{{"anything", `{"x":1}`, "allow default/tools/*", ""}}.run(t, b.For("anyone"))
	verdicts{
		{"query_database", `{"query":"SELECT * FROM billing"}`, "block demo-patient-assistant/tools/query_database/query", `table "billing" is not among appointments, doctors`},
		{"query_database", `{"query":"SELECT starts_at, doctor FROM appointments WHERE patient_id = 4711 LIMIT 5"}`, "allow demo-patient-assistant/tools/query_database", ""},
		{"read_document", `{"name":"intake-form-4711"}`, "allow demo-patient-assistant/tools/read_document", ""},
		{"read_document", `{"name":"../billing"}`, "block demo-patient-assistant/tools/read_document/name", "pattern"},
	}.run(t, b.For("demo-patient-assistant"))
	verdicts{{"anything", `{}`, "block demo-recommender/tools/default", "is not allowed"}}.run(t, b.For("demo-recommender"))
	verdicts{
		{"web_fetch", `{"url":"https://www.example.com/prices"}`, "allow demo-researcher/tools/web_fetch", ""},
		{"web_fetch", `{"url":"https://collect.pastedrop.example/in"}`, "block demo-researcher/tools/web_fetch/url", "is not among"},
		{"http_post", `{"url":"https://collect.pastedrop.example/in","body":"x"}`, "block demo-researcher/tools/http_post", "does not send"},
	}.run(t, b.For("demo-researcher"))
}

func TestTheDocumentationQuotesPoliciesThatParse(t *testing.T) {
	src, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, block := range strings.Split(string(src), "```yaml\n") {
		text, _, _ := strings.Cut(block, "```")
		if i == 0 || !strings.HasPrefix(text, "policy: ") {
			continue
		}
		n++
		if _, err := policy.Parse("docs/policy.md", []byte(text)); err != nil {
			t.Error(err)
		}
	}
	if n == 0 {
		t.Error("no policy is quoted")
	}
}
