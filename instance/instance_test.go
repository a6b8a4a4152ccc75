package instance_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/instance"
)

func config(t *testing.T, data, listen string) *instance.Config {
	t.Helper()
	cfg, err := instance.Load(map[string]string{"data": data, "listen": listen}, environment(nil), "")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func start(t *testing.T, cfg *instance.Config) (*instance.Instance, error) {
	t.Helper()
	return instance.Start(t.Context(), cfg, derive.Tool{Version: "test"}, slog.New(slog.DiscardHandler))
}

// run serves until stop is called.
func run(t *testing.T, i *instance.Instance) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestARunIsBracketedByItsStartAndItsStop(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for round := range 2 {
		i, err := start(t, config(t, data, "127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		if i.First() != (round == 0) {
			t.Errorf("round %d: first start %v", round, i.First())
		}
		stop := run(t, i)
		resp, err := http.Get(i.URL() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		stop()
	}
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	entries, err := r.Read(t.Context(), 1, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var marks []string
	for _, e := range entries {
		switch e.Type {
		case guardbook.TypeStart:
			b, err := guardbook.Body[guardbook.StartEntry](e)
			if err != nil || !b.Clean || b.Version != "test" || b.Previous != e.Seq-1 || b.Config == "" {
				t.Errorf("start %+v %v", b, err)
			}
			marks = append(marks, "start")
		case guardbook.TypeStop:
			marks = append(marks, "stop")
		}
	}
	if got := strings.Join(marks, " "); got != "start stop start stop" {
		t.Errorf("the book tells of %q", got)
	}
}

func TestTwoInstancesCannotShareABook(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	i, err := start(t, config(t, data, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, i)()
	if _, err := start(t, config(t, data, "127.0.0.1:0")); !errors.Is(err, book.ErrInUse) {
		t.Errorf("a second instance on the same data: %v", err)
	}
}

func TestATakenPortIsSaidBeforeTheBookIsTouched(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := filepath.Join(t.TempDir(), "data")
	_, err = start(t, config(t, data, l.Addr().String()))
	if err == nil || !strings.Contains(err.Error(), "doctor") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "book")); err == nil {
		t.Error("a book was made although the port was taken")
	}
}

func TestABrokenPolicyKeepsTheServerFromStarting(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	policies := filepath.Join(data, "policies")
	if err := os.MkdirAll(policies, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(policies, "p.yaml"), []byte("policy: p\nversion: 1\nacton: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := start(t, config(t, data, "127.0.0.1:0"))
	if err == nil || !strings.Contains(err.Error(), "p.yaml:3:1") {
		t.Errorf("error %v", err)
	}
}

func TestTheArchiveCanBeThrownAway(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	i, err := start(t, config(t, data, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, i)()
	for _, f := range []string{"archive.db", "archive.db-wal", "archive.db-shm"} {
		_ = os.Remove(filepath.Join(data, f))
	}
	i, err = start(t, config(t, data, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, i)()
}
