package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/guardbook/guardbook/demo"
	"github.com/guardbook/guardbook/demo/standin"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"guardbook": func() { os.Exit(process()) },
		"mcp-desk":  mcpDesk,
		"mcp-call":  mcpCall,
	})
}

// TestScripts plays the command line as a person would type it; see
// testdata/script. Every script has a stand-in for the providers at $MODEL, a free
// address at $LISTEN and the clients' settings for a server there.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			model := httptest.NewServer(standin.New(demo.Scripts()))
			env.Defer(model.Close)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer l.Close()
			for k, v := range map[string]string{
				"MODEL": model.URL, "LISTEN": l.Addr().String(), "GUARDBOOK_LISTEN": l.Addr().String(),
				"GUARDBOOK_URL": "http://" + l.Addr().String(), "GUARDBOOK_DATA": filepath.Join(env.WorkDir, "data"),
				"GUARDBOOK_OPENAI_UPSTREAM": model.URL + "/openai", "GUARDBOOK_ANTHROPIC_UPSTREAM": model.URL + "/anthropic",
			} {
				env.Setenv(k, v)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitready":  waitReady,
			"post":       post,
			"setkey":     setKey,
			"eventually": eventually,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// waitReady waits until the server answers /readyz with 200.
func waitReady(ts *testscript.TestScript, neg bool, _ []string) {
	for range 1200 {
		resp, err := http.Get(ts.Getenv("GUARDBOOK_URL") + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the server did not become ready")
}

// eventually runs a command until its output matches: eventually REGEXP COMMAND...
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	want := regexp.MustCompile(args[0])
	for range 100 {
		if ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("no output of %q matched %s; the last was\n%s", args[1:], args[0], ts.ReadFile("stdout"))
}

// setKey reads an agent's key from the JSON of the last command: setkey VARIABLE.
func setKey(ts *testscript.TestScript, neg bool, args []string) {
	_, key, ok := strings.Cut(ts.ReadFile("stdout"), `"key":"`)
	key, _, _ = strings.Cut(key, `"`)
	if !ok || !strings.HasPrefix(key, "gbk_") {
		ts.Fatalf("no key in the last command's output")
	}
	ts.Setenv(args[0], key)
}

// post sends a body as an agent and prints status, decision and body:
// post KEY PATH BODYFILE.
func post(ts *testscript.TestScript, neg bool, args []string) {
	req, err := http.NewRequest(http.MethodPost, ts.Getenv("GUARDBOOK_URL")+args[1], strings.NewReader(ts.ReadFile(args[2])))
	ts.Check(err)
	req.Header.Set("X-Guardbook-Key", args[0])
	req.Header.Set("X-Guardbook-Session", "script")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	var b strings.Builder
	_, err = fmt.Fprintf(&b, "%d %s\n", resp.StatusCode, resp.Header.Get("X-Guardbook-Decision"))
	ts.Check(err)
	buf := make([]byte, 1<<20)
	for {
		n, err := resp.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer"), []byte(b.String()), 0o600))
}
