package main

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guardbook/guardbook/book"
)

// server is a guardbook process of its own.
type server struct {
	t    *testing.T
	data string
	url  string
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

// startServer starts the test binary as guardbook and waits until it is ready.
func startServer(t *testing.T, data, listen string, args ...string) *server {
	t.Helper()
	s := &server{t: t, data: data, url: "http://" + listen, log: &bytes.Buffer{}}
	s.cmd = exec.Command("guardbook", append([]string{"serve", "--data", data, "--listen", listen}, args...)...) // testscript.Main puts it on the path
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	if !s.ready(time.Minute) {
		_ = s.cmd.Process.Kill() // its log is read when it writes no more
		_ = s.cmd.Wait()
		t.Fatalf("the server did not become ready:\n%s", s.log)
	}
	return s
}

func (s *server) ready(within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(s.url + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

// agent creates an agent and returns its key.
func (s *server) agent(name string) string {
	s.t.Helper()
	out, err := exec.Command("guardbook", "agents", "create", name, "--json", "--data", s.data, "--url", s.url).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var made struct {
		Agent string `json:"agent"`
		Key   string `json:"key"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		s.t.Fatal(err)
	}
	return made.Key
}

// inspect asks for one decision; ok says that one came back whole.
func (s *server) inspect(ctx context.Context, key, text string) (status int, entry string, ok bool) {
	body := fmt.Sprintf(`{"kind":"input","content":%q}`, text)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/inspect", strings.NewReader(body))
	if err != nil {
		return 0, "", false
	}
	req.Header.Set("X-Guardbook-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", false
	}
	var d struct {
		Entry string `json:"entry"`
	}
	_ = json.Unmarshal(b, &d)
	return resp.StatusCode, d.Entry, resp.StatusCode == http.StatusOK
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAServerThatIsKilledLosesNoAcknowledgedDecision(t *testing.T) {
	for _, durability := range []string{"strict", "balanced"} {
		t.Run(durability, func(t *testing.T) {
			data, listen := filepath.Join(t.TempDir(), "data"), freeAddress(t)
			var mu sync.Mutex
			var acknowledged []string
			key := ""
			for round := range 4 {
				s := startServer(t, data, listen, "--durability", durability)
				if round == 0 {
					key = s.agent("steady")
				}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for ctx.Err() == nil {
							if _, entry, ok := s.inspect(ctx, key, fmt.Sprint("hello ", rand.Int64())); ok {
								mu.Lock()
								acknowledged = append(acknowledged, entry)
								mu.Unlock()
							}
						}
					})
				}
				time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
				_ = s.cmd.Process.Kill()
				_ = s.cmd.Wait()
				cancel()
				wg.Wait()
			}
			startServer(t, data, listen) // comes up once more, and says that the run before did not end
			r, err := book.OpenReader(filepath.Join(data, "book"))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if len(acknowledged) == 0 {
				t.Fatal("nothing was acknowledged")
			}
			written := map[string]bool{}
			for next := int64(0); ; {
				page, err := r.Read(t.Context(), 1, next, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				for _, e := range page {
					written[e.ID] = true
				}
				next += int64(len(page))
			}
			for _, id := range acknowledged {
				if !written[id] {
					t.Errorf("entry %s was acknowledged and is gone", id)
				}
			}
			if len(r.Epochs()) != 1 {
				t.Errorf("the book has %d epochs: something was lost", len(r.Epochs()))
			}
			out, err := exec.Command("guardbook", "book", "verify", "--data", data, "--trust", filepath.Join(data, "signing-key.pub")).CombinedOutput()
			if !strings.Contains(string(out), "0 altered, 0 missing, 0 reordered, 0 inserted") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestAServerOnAFullDiskRefusesSaysSoAndGoesOnByItself(t *testing.T) {
	data, listen := filepath.Join(t.TempDir(), "data"), freeAddress(t)
	s := startServer(t, data, listen)
	key := s.agent("steady")
	// A limit on the size of files is a disk that is full for whoever has the limit,
	// and it can be lifted from outside.
	full := unix.Rlimit{Cur: 1, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_FSIZE, &full, nil); err != nil {
		t.Fatal(err)
	}
	status, _, ok := s.inspect(t.Context(), key, "is there space?")
	if ok || status != http.StatusServiceUnavailable {
		t.Errorf("a full disk answered %d, want 503", status)
	}
	if resp, err := http.Get(s.url + "/readyz"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz on a full disk: %v %v", resp, err)
	}
	space := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_FSIZE, &space, nil); err != nil {
		t.Fatal(err)
	}
	if !within(10*time.Second, func() bool { _, _, ok := s.inspect(t.Context(), key, "and now?"); return ok }) {
		t.Fatalf("the server did not go on when there was space again:\n%s", s.log)
	}
	if !s.ready(10 * time.Second) {
		t.Error("the server takes entries and does not say that it is ready")
	}
	found := within(10*time.Second, func() bool {
		out, err := exec.Command("guardbook", "events", "--type", "degraded", "--json", "--data", data, "--url", s.url).Output()
		return err == nil && strings.Contains(string(out), `"refused":{"input":`)
	})
	if !found {
		t.Error("no degraded entry tells of the interval")
	}
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
	out, _ := exec.Command("guardbook", "book", "verify", "--data", data).CombinedOutput()
	if !strings.Contains(string(out), "0 altered, 0 missing, 0 reordered, 0 inserted") {
		t.Errorf("%s", out)
	}
}

func within(d time.Duration, done func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return false
}
