// Package examples holds one program for each way of using the Go SDK. The test runs
// them all as a reader would.
package examples

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/instance"
)

func TestEveryExampleRuns(t *testing.T) {
	none := func(string) string { return "" }
	cfg, err := instance.Load(map[string]string{"data": filepath.Join(t.TempDir(), "data"), "listen": "127.0.0.1:0", "client-upstreams": "any"}, none, "")
	if err != nil {
		t.Fatal(err)
	}
	inst, err := instance.Start(t.Context(), cfg, derive.Tool{Version: "test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- inst.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", bin, "./...").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string][]string{
		"openai":    {"tool read_document", "tool query_database: Blocked by policy default", "answer:"},
		"anthropic": {"."},
		"embedded":  {"q3.txt: allowed", "passwd: Blocked by policy example", "what the file says: Blocked"},
		"mcp":       {"forecast: error false, Sunny in Lisbon", "news: error true, Blocked"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := inst.AgentKey(t.Context(), "example-go-"+name)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(filepath.Join(bin, name))
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "GUARDBOOK_URL="+inst.URL(), "GUARDBOOK_KEY="+key, "GUARDBOOK_DATA="+t.TempDir(), "OPENAI_API_KEY=", "ANTHROPIC_API_KEY=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, w := range want {
				if !strings.Contains(string(out), w) {
					t.Errorf("%q is missing in: %s", w, out)
				}
			}
		})
	}
}
