//go:build unix

package stdio_test

import (
	"bufio"
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// raw is a server that does what no SDK would.
func raw() {
	in := bufio.NewReader(os.Stdin)
	switch os.Args[1] {
	case "stderr": // more than a pipe holds, before anything else
		fmt.Fprint(os.Stderr, strings.Repeat("noise ", 100_000))
	case "orphan":
		cmd := exec.Command("sleep", "300")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			os.Exit(9)
		}
		_ = os.WriteFile(os.Args[2], fmt.Append(nil, cmd.Process.Pid), 0o600)
	case "stubborn":
		ignoreSignals()
		if len(os.Args) > 2 {
			_ = os.WriteFile(os.Args[2], fmt.Appendln(nil, os.Getpid()), 0o600)
		}
	case "signals":
		answerSignals(os.Args[2])
	case "exit":
		os.Exit(7)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		switch os.Args[1] {
		case "noise":
			fmt.Println("Listening on stdio...")
			fmt.Println(`{"jsonrpc":"2.0","id":1,"result":{},"result":{}}`)
			fmt.Println(`{"jsonrpc":"2.0","id":99,"result":{"late":true}}`)
		case "huge":
			fmt.Printf(`{"jsonrpc":"2.0","id":1,"result":{"x":"%s"}}`+"\n", strings.Repeat("x", 17<<20))
			continue
		case "crash":
			os.Exit(7)
		}
		_, rest, _ := strings.Cut(line, `"id":`)
		id, _, _ := strings.Cut(rest, ",")
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"env":"%s","unknown":[1.50,"ü"]},"extra":1}`+"\n", id, os.Getenv("PYTHONUNBUFFERED")+os.Getenv("GUARDBOOK_KEY"))
	}
	if os.Args[1] == "stubborn" {
		time.Sleep(time.Hour)
	}
}

// talk writes lines to a wrapped raw server, and returns what comes back. Its input
// stays open until that many answers are there: an end would overtake them.
func talk(t *testing.T, cmd *exec.Cmd, answers int, lines ...string) (out []string, stderr string, code int) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, l := range lines {
			if _, err := io.WriteString(in, l+"\n"); err != nil {
				return
			}
		}
	}()
	r := bufio.NewReader(stdout)
	for {
		line, err := r.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
		if len(out) == answers {
			in.Close()
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait()
	for _, l := range out {
		if !jsontext.Value(l).IsValid() {
			t.Errorf("on stdout: %.200q", l)
		}
	}
	return out, errs.String(), cmd.ProcessState.ExitCode()
}

const ping = `{"jsonrpc":"2.0","id":"a-1","method":"vendor/thing","params":{"x":[1.0,"ü"],"_meta":{"k":1}},"more":true}`

func TestWhatServersDoOnTheirStreams(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	t.Run("unknown methods and members pass", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "plain"), 1, ping)
		if len(out) != 1 || out[0] != `{"jsonrpc":"2.0","id":"a-1","result":{"env":"1","unknown":[1.50,"ü"]},"extra":1}` || code != 0 {
			t.Errorf("%q, exit code %d", out, code)
		}
	})
	t.Run("noise and late answers are dropped", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "noise"), 1, ping)
		if len(out) != 1 || !strings.Contains(out[0], `"a-1"`) || code != 0 {
			t.Errorf("%q, exit code %d", out, code)
		}
	})
	t.Run("stderr does not stop the server", func(t *testing.T) {
		out, stderr, _ := talk(t, p.command("raw", "stderr"), 1, ping)
		if len(out) != 1 || !strings.Contains(stderr, "noise noise") {
			t.Errorf("%q, %d bytes of stderr", out, len(stderr))
		}
	})
	t.Run("exit code", func(t *testing.T) {
		if _, _, code := talk(t, p.command("raw", "exit"), 1, ping); code != 7 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a crash answers what waits", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "crash"), 1, `{"jsonrpc":"2.0","id":5,"method":"ping"}`)
		if code != 7 || len(out) != 1 || !strings.Contains(out[0], `"id":5,"error"`) {
			t.Errorf("%q, exit code %d", out, code)
		}
	})
	t.Run("too large a message", func(t *testing.T) {
		out, stderr, code := talk(t, p.command("raw", "huge"), 1, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if code != 1 || len(out) != 1 || !strings.Contains(out[0], `"id":1,"error"`) || !strings.Contains(stderr, "16 MiB") {
			t.Errorf("%.300q, exit code %d, %q", out, code, stderr)
		}
	})
	t.Run("too large a message of the client", func(t *testing.T) {
		out, _, code := talk(t, p.command("raw", "plain"), 1, `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"`+strings.Repeat("x", 17<<20)+`"}}`)
		if code != 1 || len(out) != 1 || !strings.Contains(out[0], `"id":null,"error"`) {
			t.Errorf("%.300q, exit code %d", out, code)
		}
	})
	t.Run("what is no message is refused", func(t *testing.T) {
		out, _, _ := talk(t, p.command("raw", "plain"), 3, `{"jsonrpc":"2.0","id":1,"method":"a","method":"ping"}`, `hello`, `[]`, `{"jsonrpc":"2.0","id":2,"Method":"ping"}`)
		if len(out) != 3 { // the last one looks like an answer, which nobody answers
			t.Fatalf("%q", out)
		}
		for _, l := range out {
			if !strings.Contains(l, `"error"`) {
				t.Errorf("%s", l)
			}
		}
	})
	t.Run("a server that will not end is ended", func(t *testing.T) {
		if _, _, code := talk(t, p.command("raw", "stubborn"), 1, ping); code != 128+9 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a client that hears nothing any more", func(t *testing.T) {
		cmd := p.command("raw", "stubborn")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Close()
		for err == nil {
			_, err = io.WriteString(in, ping+"\n")
			time.Sleep(10 * time.Millisecond)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 128+9 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("signals are passed on", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "signals")
		cmd := p.command("raw", "signals", file)
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := func(what string) {
			t.Helper()
			eventually(t, what, func() bool {
				b, _ := os.ReadFile(file) // it is not there at first
				return strings.Contains(string(b), what)
			})
		}
		said("ready")
		signalTo(t, cmd.Process.Pid, "USR1")
		said("user defined signal 1")
		signalTo(t, cmd.Process.Pid, "TERM")
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 42 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a wrapper that is killed takes the server along", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			return // elsewhere the server sees that its input has ended, and may go on
		}
		file := filepath.Join(t.TempDir(), "pid")
		cmd := p.command("raw", "stubborn", file)
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := 0
		eventually(t, "it runs", func() bool {
			b, _ := os.ReadFile(file) // it is not there at first
			_, err := fmt.Sscan(string(b), &pid)
			return err == nil && pid > 0
		})
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		eventually(t, "it is gone", func() bool { return gone(pid) })
	})
	t.Run("what the server left behind is ended", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pid")
		talk(t, p.command("raw", "orphan", file), 1, ping)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		fmt.Sscan(string(b), &pid)
		eventually(t, "it is gone", func() bool { return gone(pid) })
	})
}
