//go:build interop

package mcpinterop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const policy = `
policy: desks
version: 1
owner: desk@example.com
agents: ["*"]
mode: enforce
tools:
  - {name: echo, allow: {text: {type: string, optional: true}, message: {type: string, optional: true}}}
  - {name: add, allow: {a: {type: number}, b: {type: number}}}
  - {name: account, allow: {}}
  - {name: page, allow: {}}
  - {name: slow, allow: {}}
  - {name: ask, allow: {}}
  - {name: confirm, allow: {}}
  - {name: note, allow: {text: {type: string}}}
  - {name: drop, deny: "tables stay"}
  - {name: get-sum, allow: {a: {type: number}, b: {type: number}}}
  - {name: get-structured-content, allow: {location: {type: string}}}
  - {name: get-tiny-image, allow: {}}
  - {name: trigger-long-running-operation, allow: {duration: {type: number}, steps: {type: number}}}
  - {name: trigger-sampling-request, allow: {prompt: {type: string}, maxTokens: {type: number}}}
  - {name: get-env, deny: "the environment is nobody's business"}
findings:
  - {class: tool_poisoning, channels: [tool_definition], threshold: 0.8, action: block, severity: critical}
  - {class: prompt_injection, channels: [input, tool_result, tool_definition], threshold: 0.8, action: block, severity: critical}
  - {class: secret, channels: [tool_call, tool_result], action: redact, severity: high}
`

// book is a running Guardbook.
type book struct{ binary, url, data string }

// start starts a server that knows MCP servers by their addresses.
func start(t *testing.T, servers map[string]string) *book {
	t.Helper()
	binary, err := filepath.Abs(os.Getenv("GUARDBOOK"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	g := &book{binary: binary, data: filepath.Join(dir, "data")}
	must(t, os.MkdirAll(filepath.Join(g.data, "policies"), 0o700))
	must(t, os.WriteFile(filepath.Join(g.data, "policies", "desks.yaml"), []byte(policy), 0o600))
	config := "mcp_servers:\n"
	for name, url := range servers {
		config += fmt.Sprintf("  %s: {url: %q}\n", name, url)
	}
	if len(servers) == 0 {
		config = ""
	}
	file := filepath.Join(dir, "config.yaml")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	port := free(t)
	g.url = "http://127.0.0.1:" + port
	run(t, exec.Command(binary, "serve", "--data", g.data, "--listen", "127.0.0.1:"+port, "--config", file))
	eventually(t, "Guardbook is ready", func() bool {
		resp, err := http.Get(g.url + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return g
}

// run runs a process until the test's end.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
		if t.Failed() {
			t.Logf("%s:\n%.8000s", cmd.Args, out.String())
		}
	})
}

// run runs a command of the operator.
func (g *book) run(t *testing.T, command ...string) string {
	t.Helper()
	cmd := exec.Command(g.binary, append(command, "--data", g.data, "--url", g.url)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// approve approves what an agent's server offers in the place of a tool.
func (g *book) approve(t *testing.T, agent, tool string) {
	t.Helper()
	cmd := exec.Command(g.binary, "mcp", "tools", "--json", "--state", "quarantined", "--data", g.data, "--url", g.url)
	list, _ := cmd.Output() // exit code 1 says that a tool waits
	for line := range strings.SplitSeq(string(list), "\n") {
		var found struct{ Server, Tool, Agent, Identity string }
		if json.Unmarshal([]byte(line), &found) == nil && found.Tool == tool && found.Agent == agent {
			g.run(t, "mcp", "approve", found.Server, tool, "--identity", found.Identity, "--reason", "it was announced")
			return
		}
	}
	t.Errorf("tool %s of %s does not wait for an approval:\n%s", tool, agent, list)
}

// until waits for an event of an agent.
func (g *book) until(t *testing.T, agent, what string) {
	t.Helper()
	eventually(t, "an event of "+agent+" with "+what, func() bool {
		return strings.Contains(g.run(t, "events", "--agent", agent, "--json"), what)
	})
}

// pair is one client with one server.
type pair struct {
	t               *testing.T
	g               *book
	agent, key, dir string
}

func newPair(t *testing.T, g *book, agent string) *pair {
	t.Helper()
	p := &pair{t: t, g: g, agent: agent, dir: t.TempDir()}
	if g != nil {
		var made struct{ Key string }
		must(t, json.Unmarshal([]byte(g.run(t, "agents", "create", agent, "--json")), &made))
		p.key = made.Key
	}
	return p
}

func (p *pair) env() []string {
	env := append(os.Environ(), "DESK_SECRET="+secret, "DESK_INJECTION="+injection, "DESK_POISON="+poison,
		"DESK_CHANGED="+filepath.Join(p.dir, "changed"), "DESK_CANCELLED="+filepath.Join(p.dir, "cancelled"))
	if p.g != nil {
		env = append(env, "GUARDBOOK_URL="+p.g.url, "GUARDBOOK_KEY="+p.key)
	}
	return env
}

// listen starts a server on a free port and returns its address.
func (p *pair) listen(command []string, path string) string {
	p.t.Helper()
	port := free(p.t)
	for i, a := range command {
		if a == "PORT" {
			command[i] = port
		}
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(p.env(), "PORT="+port)
	run(p.t, cmd)
	eventually(p.t, "the server listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "http://127.0.0.1:" + port + path
}

type args map[string]any

type order struct {
	Op        string `json:"op"`
	Name      string `json:"name,omitempty"`
	URI       string `json:"uri,omitempty"`
	Arguments args   `json:"arguments,omitempty"`
}

// conn is a client that is connected.
type conn struct {
	*pair
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	hello string
	once  sync.Once
}

// dial starts a client.
func (p *pair) dial(command []string) *conn {
	p.t.Helper()
	c := &conn{pair: p, cmd: exec.Command(command[0], command[1:]...)}
	c.cmd.Env = p.env()
	var stderr bytes.Buffer
	c.cmd.Stderr = &stderr
	var err error
	c.in, err = c.cmd.StdinPipe()
	must(p.t, err)
	out, err := c.cmd.StdoutPipe()
	must(p.t, err)
	c.out = bufio.NewReader(out)
	must(p.t, c.cmd.Start())
	p.t.Cleanup(func() {
		c.close()
		if p.t.Failed() {
			p.t.Logf("stderr of %s:\n%.6000s", c.cmd.Args, stderr.String())
		}
	})
	c.hello = c.receive()
	return c
}

// open starts a client, which must connect.
func (p *pair) open(command []string) *conn {
	p.t.Helper()
	c := p.dial(command)
	if strings.Contains(c.hello, `"error"`) {
		p.t.Fatalf("connect: %s", c.hello)
	}
	return c
}

func (c *conn) send(o order) {
	c.t.Helper()
	b, err := json.Marshal(o)
	must(c.t, err)
	_, err = c.in.Write(append(b, '\n'))
	must(c.t, err)
}

// receive is the next answer, as compact JSON; "{"error": ...}" when the client ended.
func (c *conn) receive() string {
	c.t.Helper()
	slow := time.AfterFunc(time.Minute, func() { _ = c.cmd.Process.Kill() })
	defer slow.Stop()
	line, err := c.out.ReadString('\n')
	if err != nil {
		return `{"error":"the client has ended"}`
	}
	var v any
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		c.t.Fatalf("answer %q: %v", line, err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	must(c.t, e.Encode(v))
	return strings.TrimSpace(b.String())
}

func (c *conn) ask(o order) string {
	c.t.Helper()
	c.send(o)
	return c.receive()
}

// want gives an order whose answer must hold all of texts.
func (c *conn) want(o order, texts ...string) string {
	c.t.Helper()
	got := c.ask(o)
	for _, s := range texts {
		if !strings.Contains(got, s) {
			c.t.Errorf("%s %s%s: no %s in %s", o.Op, o.Name, o.URI, s, got)
		}
	}
	return got
}

func (c *conn) close() {
	c.once.Do(func() {
		_ = c.in.Close()
		late := time.AfterFunc(15*time.Second, func() {
			c.t.Errorf("%s does not end", c.cmd.Args)
			_ = c.cmd.Process.Kill()
		})
		_, _ = io.Copy(io.Discard, c.out)
		_ = c.cmd.Wait()
		late.Stop()
	})
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}
