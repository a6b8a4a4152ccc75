package access_test

import (
	"context"
	"encoding/json/v2"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryBook keeps entries as a book would, so that an append can be made to
// fail in each of the two ways that matter.
type memoryBook struct {
	mu      sync.Mutex
	entries []guardbook.Entry
	now     func() time.Time
	fail    error // the next append returns this
	lost    bool  // ... and the entry is not there
}

func (b *memoryBook) AppendDurable(_ context.Context, drafts ...guardbook.Draft) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err, lost := b.fail, b.lost
	b.fail, b.lost = nil, false
	if err != nil && lost {
		return err
	}
	for _, d := range drafts {
		id := d.ID
		if id == "" {
			id = uuid.Must(uuid.NewV7()).String()
		}
		tenant := d.Tenant
		if tenant == "" {
			tenant = guardbook.DefaultTenant
		}
		raw, jerr := json.Marshal(guardbook.Header{
			V: guardbook.EntryVersion, Log: "guardbook/test", Seq: int64(len(b.entries)), ID: id, Instance: "test", Type: d.Type, Tenant: tenant,
			TS: d.Time.UTC().Format(guardbook.TimeLayout), Rec: b.now().UTC().Format(guardbook.TimeLayout),
		})
		if jerr != nil {
			return jerr
		}
		body, jerr := json.Marshal(d.Body)
		if jerr != nil {
			return jerr
		}
		raw = append(append(raw[:len(raw)-1], ','), body[1:]...)
		e, jerr := guardbook.ParseEntry(raw)
		if jerr != nil {
			return jerr
		}
		b.entries = append(b.entries, e)
	}
	return err
}

func (b *memoryBook) history(_ context.Context, fn func(guardbook.Entry) error) error {
	b.mu.Lock()
	entries := b.entries[:len(b.entries):len(b.entries)]
	b.mu.Unlock()
	for _, e := range entries {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// operatorOps lists what the operator entries say was done, with by.
func (b *memoryBook) operatorOps(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, e := range b.entries {
		if e.Type != guardbook.TypeOperator {
			continue
		}
		body, err := guardbook.Body[guardbook.OperatorEntry](e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, body.Op+" by "+body.By)
	}
	return out
}

type fixture struct {
	*access.Store
	book *memoryBook
	dir  string
	now  time.Time
}

func open(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	f.book = &memoryBook{now: func() time.Time { return f.now }}
	f.reopen(t)
	return f
}

func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	if f.Store != nil {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := access.Open(t.Context(), access.Options{Dir: f.dir, Recorder: f.book, History: f.book.history,
		Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	f.Store = s
	t.Cleanup(func() { s.Close() })
}

func (f *fixture) create(t *testing.T, name string) string {
	t.Helper()
	_, key, err := f.Create(t.Context(), access.NewAgent{Name: name, Owner: "team@example.com", Purpose: "test"}, "admin-token")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (f *fixture) opens(key string) string {
	agent, _, ok := f.Authenticate(key)
	if !ok {
		return ""
	}
	return agent
}

func (f *fixture) adminToken(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, access.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:len(b)-1])
}

func TestFilesOfSecretsAreReadableByTheirOwnerOnly(t *testing.T) {
	f := open(t)
	f.create(t, "bot")
	for _, name := range []string{access.AdminTokenFile, "access.db", "access.db-wal"} {
		info, err := os.Stat(filepath.Join(f.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode().Perm())
		}
	}
}

func TestOpenTightensFilesThatOthersCouldRead(t *testing.T) {
	f := open(t)
	path := filepath.Join(f.dir, access.AdminTokenFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
		t.Errorf("mode %v, %v; want 0600", info.Mode().Perm(), err)
	}
}

func TestAdminTokenStaysTheSameOverRestarts(t *testing.T) {
	f := open(t)
	before := f.adminToken(t)
	f.reopen(t)
	if got := f.adminToken(t); got != before || !f.AuthenticateToken(got) {
		t.Errorf("the token changed or does not open: %q, then %q", before, got)
	}
}

func TestOpenRefusesAnAdminTokenFileThatHoldsSomethingElse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, access.AdminTokenFile), []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &memoryBook{now: time.Now}
	if _, err := access.Open(t.Context(), access.Options{Dir: dir, Recorder: b, History: b.history}); err == nil {
		t.Fatal("opened")
	}
}

func TestOpenFailsWhenTheBookCannotBeRead(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := access.Open(t.Context(), access.Options{Dir: t.TempDir(), Recorder: &memoryBook{now: time.Now},
		History: func(context.Context, func(guardbook.Entry) error) error { return broken }})
	if !errors.Is(err, broken) {
		t.Fatalf("error %v, want %v", err, broken)
	}
}
