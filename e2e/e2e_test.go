//go:build e2e

// Package e2e opens the dashboard of a real server in a real browser.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook/demo"
	"github.com/guardbook/guardbook/demo/standin"
)

// TestStoryC plays the third story by hand: an operator logs in with the one-time
// link, watches two agents at work, kills one, and sees that it gets nothing more
// while the other goes on.
func TestStoryC(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	model := httptest.NewServer(standin.New(demo.Scripts()))
	defer model.Close()
	data := filepath.Join(t.TempDir(), "data")
	url, once := serve(t, ctx, data, model.URL)

	agents := map[string]string{demo.Researcher: "researcher", demo.Recommender: "recommender", demo.PatientAssistant: "patient-assistant"}
	keys := map[string]string{}
	for agent := range agents {
		keys[agent] = createAgent(t, ctx, data, url, agent)
	}
	var wg sync.WaitGroup
	traffic, stop := context.WithCancel(ctx)
	for agent, script := range agents {
		wg.Go(func() {
			for traffic.Err() == nil {
				ask(traffic, url, keys[agent], standin.Model+"/"+script)
				select {
				case <-time.After(400 * time.Millisecond):
				case <-traffic.Done():
				}
			}
		})
	}
	defer wg.Wait()
	defer stop()

	shots := os.Getenv("GUARDBOOK_SHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	browser := exec.CommandContext(ctx, "node", "story.mjs", "--url", url, "--once", once, "--agent", demo.Researcher, "--shots", shots)
	browser.Dir = filepath.Join("..", "dashboard", "e2e")
	out, err := browser.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the browser's story failed: %v", err)
	}
}

// serve starts the binary and reads the login link from what it prints.
func serve(t *testing.T, ctx context.Context, data, model string) (url, once string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "bin", "guardbook"), "serve", "--data", data, "--listen", addr,
		"--openai-upstream", model+"/openai", "--anthropic-upstream", model+"/anthropic")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	link := regexp.MustCompile(`(http://\S+)/login\?once=(\S+)`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := link.FindStringSubmatch(lines.Text()); m != nil {
			url, once = m[1], m[2]
			break
		}
	}
	go io.Copy(io.Discard, out)
	if once == "" {
		t.Fatal("the server printed no login link at its first start")
	}
	for range 100 {
		resp, err := http.Get(url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return url, once
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the server did not become ready")
	return "", ""
}

func createAgent(t *testing.T, ctx context.Context, data, url, agent string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, filepath.Join("..", "bin", "guardbook"), "agents", "create", agent, "--owner", "e2e@example.com",
		"--json", "--data", data, "--url", url).Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Agent, Key string }
	if err := json.Unmarshal(out, &made, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return made.Key
}

// ask sends one streamed request and reads the answer to its end. An answer of any
// kind will do: being refused is part of the story.
func ask(ctx context.Context, url, key, model string) {
	body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"system","content":"You read the web."},{"role":"user","content":"Go on."}]}`, model)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/openai/v1/chat/completions", bytes.NewReader([]byte(body)))
	if err != nil {
		return
	}
	req.Header.Set("X-Guardbook-Key", key)
	req.Header.Set("X-Guardbook-Session", strings.TrimPrefix(model, standin.Model+"/"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}
