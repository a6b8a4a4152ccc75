package instance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/instance"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "guardbook.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSettingsComeFromFlagThenEnvironmentThenFileThenDefault(t *testing.T) {
	path := file(t, "listen: 127.0.0.1:3\ndata: from-file\ndurability: balanced\n")
	cfg, err := instance.Load(map[string]string{"listen": "127.0.0.1:1"},
		environment(map[string]string{"GUARDBOOK_LISTEN": "127.0.0.1:2", "GUARDBOOK_DATA": "from-environment"}), path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want, origin string }{
		"listen":     {cfg.Listen, "127.0.0.1:1", "flag --listen"},
		"data":       {cfg.Data, "from-environment", "environment GUARDBOOK_DATA"},
		"durability": {cfg.Durability, "balanced", "file " + path},
		"block-mode": {cfg.BlockMode, "respond", "default"},
		"policies":   {cfg.Policies, filepath.Join("from-environment", "policies"), "default"},
	} {
		if c.got != c.want || cfg.Origins[name] != c.origin {
			t.Errorf("%s is %q from %q, want %q from %q", name, c.got, cfg.Origins[name], c.want, c.origin)
		}
	}
}

func TestASecretIsNeverShown(t *testing.T) {
	cfg, err := instance.Load(nil, environment(map[string]string{
		"OPENAI_API_KEY": "sk-very-secret", "GUARDBOOK_WEBHOOK": "https://hooks.example.com/T0/very-secret", "GUARDBOOK_WEBHOOK_SECRET": "very-secret",
	}), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range cfg.Show() {
		if strings.Contains(s.Value, "very-secret") {
			t.Errorf("%s shows %q", s.Name, s.Value)
		}
		if s.Name == "openai-key" && (s.Value != "<hidden>" || s.Origin != "environment OPENAI_API_KEY") {
			t.Errorf("%+v", s)
		}
	}
	for _, s := range instance.Settings() {
		if strings.Contains(s.Name, "key") || strings.Contains(s.Name, "secret") {
			t.Errorf("%s can be given on a command line, which others can read", s.Name)
		}
	}
}

func TestABadSettingSaysWhereItCameFromAndWhatIsAllowed(t *testing.T) {
	for name, c := range map[string]struct {
		vars map[string]string
		file string
		want []string
	}{
		"not allowed":   {map[string]string{"GUARDBOOK_DURABILITY": "loose"}, "", []string{"durability", "loose", "GUARDBOOK_DURABILITY", "strict, balanced"}},
		"no port":       {map[string]string{"GUARDBOOK_LISTEN": "localhost"}, "", []string{"listen", "HOST:PORT"}},
		"no address":    {map[string]string{"GUARDBOOK_OPENAI_UPSTREAM": "ftp://x"}, "", []string{"openai-upstream", "http"}},
		"unknown key":   {nil, "listen: 127.0.0.1:1\nlissen: x\n", []string{"[2:1]", "lissen", "known keys"}},
		"empty webhook": {nil, "receivers:\n  oncall: {secret: x}\n", []string{"oncall", "webhook"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := ""
			if c.file != "" {
				path = file(t, c.file)
			}
			_, err := instance.Load(nil, environment(c.vars), path)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}
