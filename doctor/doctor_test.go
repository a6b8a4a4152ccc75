package doctor_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/doctor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodPolicy = `policy: billing-bot
version: 1
owner: payments@example.com
agents: ["billing-bot"]
mode: enforce
tools:
  - name: query_database
    allow: {query: {type: string}}
`

// healthy makes a data directory as a first run leaves it, and an upstream that
// answers: a set-up with which nothing is wrong.
func healthy(t *testing.T) doctor.Setup {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	must(t, os.Mkdir(data, 0o700))
	must(t, os.Mkdir(filepath.Join(data, "policies"), 0o700))
	must(t, os.WriteFile(filepath.Join(data, "policies", "billing.yaml"), []byte(goodPolicy), 0o600))
	must(t, os.WriteFile(filepath.Join(data, "commitment-key"), make([]byte, 32), 0o600))
	key, _, err := book.LoadKey(filepath.Join(data, "signing-key"))
	must(t, err)
	b, err := book.Open(filepath.Join(data, "book"), book.Options{Key: key})
	must(t, err)
	_, err = b.AppendDurable(t.Context(), guardbook.Draft{Type: guardbook.TypeStop, Body: guardbook.StopEntry{Boot: "b", Reason: "test"}})
	must(t, err)
	s, err := access.Open(t.Context(), access.Options{Dir: data, Recorder: recorder{b},
		History: func(context.Context, func(guardbook.Entry) error) error { return nil }})
	must(t, err)
	must(t, s.Close())
	must(t, b.Close())
	up := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(up.Close)
	return doctor.Setup{Data: data, Policies: filepath.Join(data, "policies"), Listen: freeAddress(t), Version: "1.2.3",
		Upstreams: []doctor.Target{{Name: "openai", URL: up.URL}}}
}

type recorder struct{ b *book.Book }

func (r recorder) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	_, err := r.b.AppendDurable(ctx, d...)
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freeAddress is an address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// find is the first result of a check with a status.
func find(results []doctor.Result, check string, status doctor.Status) (doctor.Result, bool) {
	for _, r := range results {
		if r.Check == check && r.Status == status {
			return r, true
		}
	}
	return doctor.Result{}, false
}

func TestAHealthySetUpHasNothingToMend(t *testing.T) {
	results := doctor.Examine(t.Context(), healthy(t))
	for _, r := range results {
		// No server runs: that is the one thing worth a word.
		if r.Status != doctor.OK && r.Check != "server" && r.Check != "disk space" {
			t.Errorf("%+v", r)
		}
	}
	if doctor.Worst(results) == doctor.Fail {
		t.Errorf("worst is %s", doctor.Worst(results))
	}
	for _, check := range []string{"data directory", "secret files", "signing key", "policies", "address", "book lock", "server", "upstream openai", "clock"} {
		_, fine := find(results, check, doctor.OK)
		_, warned := find(results, check, doctor.Warn)
		if !fine && !warned {
			t.Errorf("no result of the check %q in %+v", check, results)
		}
	}
}

// fault is a set-up with one thing broken, and what must be said of it.
type fault struct {
	breaks     func(t *testing.T, s *doctor.Setup)
	check      string
	status     doctor.Status
	says, mend string
}

// Each fault is made for real, and is found with words that name it and what to do.
func TestFaultsAreFoundAndTheMendIsSaid(t *testing.T) {
	findFaults(t, map[string]fault{
		"data directory missing": {func(t *testing.T, s *doctor.Setup) { s.Data += "/none" },
			"data directory", doctor.Warn, "does not exist", "guardbook serve makes it"},
		"data directory is a file": {func(t *testing.T, s *doctor.Setup) { s.Data = filepath.Join(s.Data, "signing-key") },
			"data directory", doctor.Fail, "is a file", "--data"},
		"data directory open to all": {func(t *testing.T, s *doctor.Setup) { must(t, os.Chmod(s.Data, 0o777)) },
			"data directory", doctor.Fail, "mode 0777", "chmod 700"},
		"admin token readable by others": {func(t *testing.T, s *doctor.Setup) { must(t, os.Chmod(filepath.Join(s.Data, "admin-token"), 0o644)) },
			"secret files", doctor.Fail, "admin-token can be read by other users (mode 0644)", "chmod 600"},
		"access.db readable by the group": {func(t *testing.T, s *doctor.Setup) { must(t, os.Chmod(filepath.Join(s.Data, "access.db"), 0o640)) },
			"secret files", doctor.Fail, "access.db", "chmod 600"},
		"signing key missing": {func(t *testing.T, s *doctor.Setup) { must(t, os.Remove(filepath.Join(s.Data, "signing-key"))) },
			"signing key", doctor.Fail, "is missing, and there is a book", "backup"},
		"signing key damaged": {func(t *testing.T, s *doctor.Setup) {
			must(t, os.WriteFile(filepath.Join(s.Data, "signing-key"), []byte("PRIVATE+KEY+x"), 0o600))
		}, "signing key", doctor.Fail, "holds no signing key", "backup"},
		"signing key of another book": {func(t *testing.T, s *doctor.Setup) {
			must(t, os.Remove(filepath.Join(s.Data, "signing-key")))
			_, _, err := book.LoadKey(filepath.Join(s.Data, "signing-key"))
			must(t, err)
		}, "signing key", doctor.Fail, "is not signed by", "backup"},
		"verifier key of another": {func(t *testing.T, s *doctor.Setup) {
			other, _, err := book.LoadKey(filepath.Join(t.TempDir(), "key"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s.Data, "signing-key.pub"), []byte(other.Verifier()), 0o600))
		}, "signing key", doctor.Fail, "are not one key", "backup"},
		"policy with an error": {func(t *testing.T, s *doctor.Setup) {
			must(t, os.WriteFile(filepath.Join(s.Policies, "bad.yaml"), []byte("policy: x\nversion: 1\nagents: [x]\nmode: sometimes\n"), 0o600))
		}, "policies", doctor.Fail, "bad.yaml:4:7", "mend the file"},
		"policy twice": {func(t *testing.T, s *doctor.Setup) {
			must(t, os.WriteFile(filepath.Join(s.Policies, "copy.yaml"), []byte(goodPolicy), 0o600))
		}, "policies", doctor.Fail, `billing.yaml and copy.yaml both hold policy "billing-bot"`, "another name"},
		"no policy": {func(t *testing.T, s *doctor.Setup) { must(t, os.Remove(filepath.Join(s.Policies, "billing.yaml"))) },
			"policies", doctor.Fail, "holds no policy", "write one"},
		"no directory of policies": {func(t *testing.T, s *doctor.Setup) { s.Policies += "-none" },
			"policies", doctor.Warn, "does not exist", "--policies"},
		"port taken by another program": {func(t *testing.T, s *doctor.Setup) {
			other := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(other.Close)
			s.Listen = other.Listener.Addr().String()
		}, "address", doctor.Fail, "taken by another program", "--listen"},
		"port taken by something that says nothing": {func(t *testing.T, s *doctor.Setup) {
			s.Listen = silent(t)
			s.Timeout = 50 * time.Millisecond
		}, "address", doctor.Fail, "taken by another program", "--listen"},
		"address of another machine": {func(t *testing.T, s *doctor.Setup) { s.Listen = "192.0.2.1:8787" },
			"address", doctor.Fail, "no address of this machine", "--listen"},
		"no address": {func(t *testing.T, s *doctor.Setup) { s.Listen = "127.0.0.1:99999" },
			"address", doctor.Fail, "cannot be listened on", "HOST:PORT"},
		"server elsewhere that does not answer": {func(t *testing.T, s *doctor.Setup) { s.URL = "http://" + freeAddress(t) },
			"server address", doctor.Fail, "no guardbook answers", "GUARDBOOK_URL"},
		"book held by a process that does not answer": {func(t *testing.T, s *doctor.Setup) {
			f, err := os.OpenFile(filepath.Join(s.Data, "book", "lock"), os.O_RDWR, 0)
			must(t, err)
			t.Cleanup(func() { f.Close() })
			must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
		}, "book lock", doctor.Fail, "holds the book", "stop it"},
		"clock behind the book": {func(t *testing.T, s *doctor.Setup) {
			s.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		}, "clock", doctor.Fail, "behind the last entry of the book", "NTP"},
		"clock ahead of the world": {func(t *testing.T, s *doctor.Setup) {
			s.Now = func() time.Time { return time.Now().Add(time.Hour) }
		}, "clock", doctor.Fail, "ahead of that of http://127.0.0.1", "NTP"},
		"clock a little ahead": {func(t *testing.T, s *doctor.Setup) {
			s.Now = func() time.Time { return time.Now().Add(30 * time.Second) }
		}, "clock", doctor.Warn, "ahead of that of", "NTP"},
	})
}

func findFaults(t *testing.T, faults map[string]fault) {
	for name, c := range faults {
		t.Run(name, func(t *testing.T) {
			s := healthy(t)
			c.breaks(t, &s)
			results := doctor.Examine(t.Context(), s)
			r, found := find(results, c.check, c.status)
			if !found || !strings.Contains(r.Detail, c.says) || !strings.Contains(r.Mend, c.mend) {
				t.Errorf("want %s %s saying %q and %q; the results are\n%s", c.check, c.status, c.says, c.mend, show(results))
			}
			if c.status == doctor.Fail && doctor.Worst(results) != doctor.Fail {
				t.Error("the worst is not fail")
			}
		})
	}
}

// Permissions stop nobody who is root: as root, the test is run again by a user
// whom they stop.
func TestMissingPermissionsAreFoundAndTheMendIsSaid(t *testing.T) {
	if os.Getuid() == 0 {
		runAsNobody(t)
		return
	}
	findFaults(t, map[string]fault{
		"data directory read-only": {func(t *testing.T, s *doctor.Setup) {
			must(t, os.Chmod(s.Data, 0o500))
			t.Cleanup(func() { os.Chmod(s.Data, 0o700) })
		}, "data directory", doctor.Fail, "cannot be written: permission denied", "chown"},
		"commitment key unreadable": {func(t *testing.T, s *doctor.Setup) { must(t, os.Chmod(filepath.Join(s.Data, "commitment-key"), 0)) },
			"secret files", doctor.Fail, "commitment-key cannot be read", "chown"},
		"signing key unreadable": {func(t *testing.T, s *doctor.Setup) { must(t, os.Chmod(filepath.Join(s.Data, "signing-key"), 0)) },
			"signing key", doctor.Fail, "cannot be read", "chown"},
	})
}

func runAsNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "guardbook-doctor-")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o777))
	self, err := os.ReadFile(os.Args[0])
	must(t, err)
	program := filepath.Join(dir, "doctor.test")
	must(t, os.WriteFile(program, self, 0o755))
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+"/") {
		t.Errorf("%v\n%s", err, out)
	}
}

func show(results []doctor.Result) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%s  %s: %s -> %s\n", r.Status, r.Check, r.Detail, r.Mend)
	}
	return b.String()
}

// silent listens and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range conns {
					c.Close()
				}
				return
			}
			conns = append(conns, c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestExaminingChangesNothing(t *testing.T) {
	s := healthy(t)
	before := tree(t, s.Data)
	doctor.Examine(t.Context(), s)
	if after := tree(t, s.Data); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// tree lists a directory's files with mode and size. SQLite's own helper files of
// a database that is read come and go.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !strings.HasSuffix(path, "-wal") && !strings.HasSuffix(path, "-shm") {
			size := info.Size()
			if info.IsDir() {
				size = 0
			}
			fmt.Fprintf(&b, "%s %v %d\n", path, info.Mode(), size)
		}
		return err
	}))
	return b.String()
}
