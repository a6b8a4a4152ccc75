// Package local finds the one server that runs for a user's data directory, and
// starts it when there is none: what an SDK needs when nobody has set anything up.
package local

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/guardbook/guardbook/policies"
)

// patience is how long a server may take from its start until it is ready.
const patience = 20 * time.Second

// Server is a running server of this user.
type Server struct {
	URL     string `json:"url"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// Options say which server is meant and how one is started.
type Options struct {
	Data   string   // data directory; empty: DefaultData
	Binary string   // the guardbook program
	Env    []string // environment of a server that is started
}

// DefaultData is the data directory of this user's local server: GUARDBOOK_DATA, or
// "guardbook" in the platform's folder for data.
func DefaultData() (string, error) {
	if dir := os.Getenv("GUARDBOOK_DATA"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "guardbook"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no home directory for the data: set GUARDBOOK_DATA: %w", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "guardbook"), nil
	}
	return filepath.Join(home, ".local", "share", "guardbook"), nil
}

// Announce writes where a data directory's server can be reached. The server calls
// it once it holds the book and listens.
func Announce(data string, s Server) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp := filepath.Join(data, serverFile+".new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("say where the server is: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(data, serverFile)); err != nil {
		return fmt.Errorf("say where the server is: %w", err)
	}
	return nil
}

// Withdraw takes back what Announce wrote.
func Withdraw(data string) error {
	err := os.Remove(filepath.Join(data, serverFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

const serverFile = "server.json"

// Find returns the server that runs for a data directory; ok is false when none does.
func Find(ctx context.Context, data string) (s Server, ok bool) {
	if !held(data) {
		return s, false // what the file says is of a server that is gone: its port may be anybody's
	}
	b, err := os.ReadFile(filepath.Join(data, serverFile))
	if err != nil || json.Unmarshal(b, &s) != nil || s.URL == "" {
		return s, false
	}
	return s, ready(ctx, s.URL)
}

// held reports whether a server holds the book: the lock ends with its process.
func held(data string) bool {
	l := flock.New(filepath.Join(data, "book", "lock"), flock.SetFlag(os.O_RDWR))
	free, err := l.TryLock()
	if free {
		_ = l.Unlock()
		return false
	}
	return err == nil
}

func ready(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := direct.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// direct goes to this machine, never through a proxy.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Ensure returns the server of a data directory, and starts one in the background
// when there is none. Any number of processes may call it at once: one server runs.
func Ensure(ctx context.Context, o Options) (s Server, started bool, err error) {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return s, false, fmt.Errorf("make the data directory: %w", err)
	}
	turn := flock.New(filepath.Join(o.Data, "local.lock"))
	if _, err := turn.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return s, false, fmt.Errorf("wait for another process that starts the server: %w", err)
	}
	defer func() { _ = turn.Unlock() }() // the lock ends with the process in any case
	if s, ok := Find(ctx, o.Data); ok {
		return s, false, nil
	}
	if err := StarterPolicy(filepath.Join(o.Data, "policies")); err != nil {
		return s, false, err
	}
	s, err = start(ctx, o)
	return s, err == nil, err
}

// StarterPolicy writes the starter policy in monitor mode, where there is none: an
// agent that was guarded a minute ago must not break by it.
func StarterPolicy(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or its own error says more when the server reads it
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("create policy directory: %w", err)
	}
	src, err := Starter()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "default.yaml"), src, 0o640); err != nil {
		return fmt.Errorf("write starter policy: %w", err)
	}
	return nil
}

// Starter is the starter policy in monitor mode.
func Starter() ([]byte, error) {
	src, err := fs.ReadFile(policies.FS, "default.yaml")
	if err != nil {
		return nil, fmt.Errorf("starter policy: %w", err)
	}
	monitor := bytes.Replace(src, []byte("\nmode: enforce "), []byte("\nmode: monitor "), 1)
	if bytes.Equal(src, monitor) {
		return nil, errors.New("starter policy: it has no line \"mode: enforce\" to change")
	}
	return monitor, nil
}

// start runs a server that outlives this process, and waits until it is ready.
func start(ctx context.Context, o Options) (s Server, err error) {
	logFile := filepath.Join(o.Data, "server.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return s, fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return s, fmt.Errorf("open the server's log: %w", err)
	}
	// The server goes on when this process is done.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), o.Binary, "serve", "--data", o.Data, "--listen", address(ctx, o.Data))
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = log, log, o.Env, o.Data
	cmd.SysProcAttr = detached()
	if !filepath.IsAbs(o.Data) {
		cmd.Dir = ""
	}
	if err := cmd.Start(); err != nil {
		return s, fmt.Errorf("start the server %s: %w", o.Binary, err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case err := <-gone:
			return s, fmt.Errorf("the server ended at its start (%w): %s", orExit(err), tail(logFile, from))
		case <-limit.C:
			_ = cmd.Process.Kill() // it is of no use to anybody
			return s, fmt.Errorf("the server was not ready after %v; %s says more: %s", patience, logFile, tail(logFile, from))
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			return s, ctx.Err()
		case <-tick.C:
			if s, ok := Find(ctx, o.Data); ok && s.PID == cmd.Process.Pid {
				return s, keepAddress(o.Data, s.URL)
			}
		}
	}
}

// addressFile holds the address that a data directory's server had before.
const addressFile = "server.address"

// address is where a server is to listen: where it did before, so that processes
// that know it find it again, or, if that is taken, on any port.
func address(ctx context.Context, data string) string {
	const free = "127.0.0.1:0"
	b, err := os.ReadFile(filepath.Join(data, addressFile))
	if err != nil {
		return free
	}
	before := strings.TrimSpace(string(b))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", before)
	if err != nil {
		return free
	}
	_ = l.Close()
	return before
}

func keepAddress(data, url string) error {
	if err := os.WriteFile(filepath.Join(data, addressFile), []byte(strings.TrimPrefix(url, "http://")+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the server's address: %w", err)
	}
	return nil
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit code 0")
	}
	return err
}

// tail is what a server wrote since it was started, at most its last 2 KiB.
func tail(file string, from int64) string {
	b, err := os.ReadFile(file)
	if err != nil || int64(len(b)) < from {
		return "its log cannot be read"
	}
	b = b[from:]
	if len(b) > 2048 {
		b = b[len(b)-2048:]
	}
	return strings.TrimSpace(string(b))
}

// Stop ends the server of a data directory in good order. ok is false when none runs.
func Stop(ctx context.Context, data string) (ok bool, err error) {
	s, ok := Find(ctx, data)
	if !ok {
		return false, nil
	}
	p, err := os.FindProcess(s.PID)
	if err != nil {
		return true, fmt.Errorf("stop the server: %w", err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return true, fmt.Errorf("stop the server: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for held(data) {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-tick.C:
		}
	}
	return true, nil
}
