package policy_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record is a book that keeps what is appended, or fails.
type record struct {
	mu      sync.Mutex
	entries []guardbook.PolicyEntry
	err     error
	during  func(guardbook.PolicyEntry) // called before the entry counts as written
}

func (r *record) AppendDurable(_ context.Context, drafts ...guardbook.Draft) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	for _, d := range drafts {
		e := d.Body.(guardbook.PolicyEntry)
		if r.during != nil {
			r.during(e)
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

func (r *record) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *record) all() []guardbook.PolicyEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]guardbook.PolicyEntry{}, r.entries...)
}

func (r *record) last(t *testing.T) guardbook.PolicyEntry {
	t.Helper()
	all := r.all()
	if len(all) == 0 {
		t.Fatal("nothing is recorded")
	}
	return all[len(all)-1]
}

// house is a data directory with policies.
type house struct {
	t   *testing.T
	dir string
	rec *record
}

func newHouse(t *testing.T) *house {
	return &house{t: t, dir: t.TempDir(), rec: &record{}}
}

func (h *house) policies(name ...string) string {
	return filepath.Join(append([]string{h.dir, "policies"}, name...)...)
}

// write puts a policy file in place as a careful editor does.
func (h *house) write(name, policyName, agents string) {
	h.t.Helper()
	h.raw(name, string(file(name, policyName, agents).Source))
}

func (h *house) raw(name, text string) {
	h.t.Helper()
	if err := os.MkdirAll(h.policies(), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.policies("."+name+".new"), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(h.policies("."+name+".new"), h.policies(name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) open() (*policy.Store, error) {
	return policy.OpenStore(h.t.Context(), h.policies(), filepath.Join(h.dir, "bundles"), h.rec, slog.New(slog.DiscardHandler))
}

func (h *house) mustOpen() *policy.Store {
	h.t.Helper()
	s, err := h.open()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// names lists the policies in force.
func names(b *policy.Bundle) string {
	var out []string
	for _, p := range b.Policies {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func TestTheFirstStartFillsTheDirectoryWithStarters(t *testing.T) {
	h := newHouse(t)
	s := h.mustOpen()
	if got := names(s.Current()); got != "default demo-patient-assistant demo-recommender demo-researcher" {
		t.Error(got)
	}
	e := h.rec.last(t)
	if e.Trigger != "start" || e.Outcome != "applied" || e.Bundle != s.Current().Hash || e.Previous != "" || len(e.Files) != 4 || len(e.Policies) != 4 || e.Policies[0].Owner == "" {
		t.Errorf("%+v", e)
	}
	// A directory that is there stays as it is.
	if err := os.Remove(h.policies("demo-researcher.yaml")); err != nil {
		t.Fatal(err)
	}
	again := h.mustOpen()
	if got := names(again.Current()); got != "default demo-patient-assistant demo-recommender" {
		t.Error(got)
	}
	if e := h.rec.last(t); e.Previous != s.Current().Hash {
		t.Errorf("%+v", e)
	}
}

func TestAServerDoesNotStartWithoutPolicy(t *testing.T) {
	for name, prepare := range map[string]func(h *house){
		"broken file":     func(h *house) { h.raw("a.yaml", "policy: x\nacton: y\n") },
		"empty directory": func(h *house) { h.raw("notes.txt", "no policy") },
		"not a directory": func(h *house) { _ = os.WriteFile(h.policies(), nil, 0o644) },
		"broken link":     func(h *house) { h.write("a.yaml", "a", "[a]"); _ = os.Symlink("nowhere", h.policies("b.yaml")) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			prepare(h)
			_, err := h.open()
			if err == nil {
				t.Fatal("it starts")
			}
			if e := h.rec.last(t); e.Outcome != "rejected" || e.Error == "" || e.Bundle != "" {
				t.Errorf("%+v", e)
			}
			if name == "broken file" && !strings.Contains(err.Error(), `a.yaml:2:1: unknown field "acton"`) {
				t.Error(err)
			}
		})
	}
}

func TestAStartWithBrokenPoliciesGoesOnWithTheLastOnes(t *testing.T) {
	h := newHouse(t)
	h.write("a.yaml", "a", "[a]")
	good := h.mustOpen().Current().Hash
	h.raw("a.yaml", "policy: a\n")
	s := h.mustOpen()
	if s.Current().Hash != good || names(s.Current()) != "a" {
		t.Error("the last bundle is not in force")
	}
	if e := h.rec.last(t); e.Outcome != "rejected" || e.Bundle != good || e.Rejected == "" || e.Rejected == good || len(e.Policies) != 1 {
		t.Errorf("%+v", e)
	}
	// And when that one is damaged, too, nothing can be in force.
	blobs, _ := filepath.Glob(filepath.Join(h.dir, "bundles", "blobs", "*.yaml"))
	for _, b := range blobs {
		if err := os.WriteFile(b, []byte("policy: evil\nversion: 1\nagents: ['*']\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.open(); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Error(err)
	}
}

func TestAChangeIsRecordedBeforeItIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.write("a.yaml", "a", "[a]")
		s := h.mustOpen()
		before := s.Current()
		h.rec.during = func(e guardbook.PolicyEntry) {
			if s.Current() != before {
				t.Error("in force before it was recorded")
			}
			if _, err := os.Stat(filepath.Join(h.dir, "bundles", strings.TrimPrefix(e.Bundle, "sha256:")+".json")); err != nil {
				t.Error("recorded before it was kept:", err)
			}
		}
		stop := h.run(s)
		defer stop()
		h.write("b.yaml", "b", "[b]")
		h.tick()
		e := h.rec.last(t)
		if names(s.Current()) != "a b" || e.Trigger != "file_change" || e.Outcome != "applied" || e.Previous != before.Hash || e.Bundle != s.Current().Hash {
			t.Errorf("%s %+v", names(s.Current()), e)
		}
		h.rec.during = nil
		n := len(h.rec.all())
		for range 5 {
			h.tick()
		}
		if len(h.rec.all()) != n {
			t.Error("nothing changed, and it was recorded")
		}
		// Back to what it was: a change like any other.
		if err := os.Remove(h.policies("b.yaml")); err != nil {
			t.Fatal(err)
		}
		h.tick()
		if s.Current().Hash != before.Hash || len(h.rec.all()) != n+1 {
			t.Error("not back")
		}
	})
}

// run runs a store in a synctest bubble until stop is called.
func (h *house) run(s *policy.Store) (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			h.t.Error(err)
		}
	}
}

// tick waits until the store has looked once more.
func (h *house) tick() {
	time.Sleep(500 * time.Millisecond)
	synctest.Wait()
}

func TestABadStateNeverReplacesAGoodOneAndIsRecordedOnce(t *testing.T) {
	for name, spoil := range map[string]func(h *house){
		"a bad file":          func(h *house) { h.raw("b.yaml", "policy: b\n") },
		"a half written file": func(h *house) { h.raw("a.yaml", "policy: a\nversion: 1\nagents: [a") },
		"an empty file":       func(h *house) { h.raw("a.yaml", "") },
		"a name twice":        func(h *house) { h.write("b.yaml", "a", "[b]") },
		"no file":             func(h *house) { _ = os.Remove(h.policies("a.yaml")) },
		"no directory":        func(h *house) { _ = os.RemoveAll(h.policies()) },
		"a file in its place": func(h *house) { _ = os.RemoveAll(h.policies()); _ = os.WriteFile(h.policies(), nil, 0o644) },
		"a broken link":       func(h *house) { _ = os.Symlink("nowhere", h.policies("b.yaml")) },
		"a link to itself":    func(h *house) { _ = os.Symlink("b.yaml", h.policies("b.yaml")) },
		"a device":            func(h *house) { _ = os.Symlink("/dev/zero", h.policies("b.yaml")) },
		"a huge file":         func(h *house) { h.raw("b.yaml", "#"+strings.Repeat("x", policy.MaxFileSize)) },
		"not a text":          func(h *house) { h.raw("b.yaml", "\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.write("a.yaml", "a", "[a]")
				s := h.mustOpen()
				good := s.Current()
				stop := h.run(s)
				defer stop()
				spoil(h)
				for range 4 {
					h.tick()
				}
				if s.Current() != good {
					t.Fatal("the good bundle is gone")
				}
				all := h.rec.all()
				if e := all[len(all)-1]; len(all) != 2 || e.Outcome != "rejected" || e.Bundle != good.Hash || e.Error == "" || len(e.Policies) != 1 {
					t.Errorf("%d entries, the last: %+v", len(all), e)
				}
				// It is tried again when it changes, and mended.
				if info, err := os.Stat(h.policies()); err == nil && !info.IsDir() {
					_ = os.Remove(h.policies())
				}
				_ = os.Remove(h.policies("b.yaml"))
				h.write("a.yaml", "a2", "[a]")
				h.tick()
				if got := names(s.Current()); got != "a2" {
					t.Error(got)
				}
			})
		})
	}
}

func TestWithoutTheBookNothingComesIntoForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.write("a.yaml", "a", "[a]")
		h.rec.fail(errors.New("disk is full"))
		if _, err := h.open(); err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Fatal(err)
		}
		h.rec.fail(nil)
		s := h.mustOpen()
		stop := h.run(s)
		defer stop()
		h.rec.fail(errors.New("disk is full"))
		h.write("b.yaml", "b", "[b]")
		for range 3 {
			h.tick()
		}
		if names(s.Current()) != "a" {
			t.Error("in force without a record")
		}
		h.rec.fail(nil)
		h.tick()
		if names(s.Current()) != "a b" {
			t.Error("not tried again")
		}
	})
}

func TestReloadLoadsAtOnceAndSaysWhyNot(t *testing.T) {
	h := newHouse(t)
	h.write("a.yaml", "a", "[a]")
	s := h.mustOpen()
	h.write("b.yaml", "b", "[b]")
	if err := s.Reload(t.Context(), policy.TriggerAPI); err != nil || names(s.Current()) != "a b" {
		t.Error(err, names(s.Current()))
	}
	if e := h.rec.last(t); e.Trigger != "api" {
		t.Errorf("%+v", e)
	}
	h.raw("b.yaml", "policy: b\n")
	err := s.Reload(t.Context(), policy.TriggerAPI)
	if rejected, ok := errors.AsType[*policy.RejectedError](err); !ok || !strings.Contains(rejected.Error(), "b.yaml:1:1: the policy needs the field version") {
		t.Error(err)
	}
	if errs, ok := errors.AsType[*policy.Errors](err); !ok || len(errs.List) != 2 {
		t.Error(err)
	}
}

func TestOnlyPolicyFilesAreRead(t *testing.T) {
	h := newHouse(t)
	h.write("b.yml", "b", "[b]")
	h.write("a.yaml", "a", "[a]")
	h.raw("README.md", "not a policy")
	h.raw("c.yaml~", "not a policy")
	h.raw("d.yaml.bak", "not a policy")
	h.raw(".hidden.yaml", "not a policy")
	h.raw("#e.yaml#", "not a policy")
	if err := os.MkdirAll(h.policies("folder.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(h.dir, "elsewhere")
	if err := os.WriteFile(elsewhere, file("", "linked", "[l]").Source, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, h.policies("link.yaml")); err != nil {
		t.Fatal(err)
	}
	if got := names(h.mustOpen().Current()); got != "a b linked" {
		t.Error(got)
	}
}

func TestEveryBundleThatWasInForceCanBeReadBack(t *testing.T) {
	h := newHouse(t)
	h.write("a.yaml", "a", "[a]")
	h.write("b.yaml", "b", "[b]")
	s := h.mustOpen()
	first := s.Current()
	h.write("a.yaml", "a2", "[a]")
	if err := s.Reload(t.Context(), policy.TriggerAPI); err != nil {
		t.Fatal(err)
	}
	second := s.Current()
	s = h.mustOpen() // what is kept outlives the store
	for _, want := range []*policy.Bundle{first, second} {
		got, err := s.Bundle(want.Hash)
		if err != nil || got.Hash != want.Hash || names(got) != names(want) || string(got.Policies[0].Source) != string(want.Policies[0].Source) {
			t.Error(err, got)
		}
	}
	if _, err := s.Bundle("sha256:" + strings.Repeat("0", 64)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, bad := range []string{"", "sha256:", "../../x", "sha256:../" + strings.Repeat("0", 61), strings.Repeat("0", 64)} {
		if _, err := s.Bundle(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Error(bad, err)
		}
	}

	manifest := filepath.Join(h.dir, "bundles", strings.TrimPrefix(first.Hash, "sha256:")+".json")
	text := readFile(t, manifest)
	for what, change := range map[string]func() string{
		"a name":     func() string { return strings.Replace(string(text), `"a.yaml"`, `"z.yaml"`, 1) },
		"a file":     func() string { return strings.Replace(string(text), first.Files[0].SHA256, second.Files[0].SHA256, 1) },
		"a path":     func() string { return strings.Replace(string(text), first.Files[0].SHA256, "../../policies/a", 1) },
		"no json":    func() string { return "{" },
		"a key more": func() string { return strings.Replace(string(text), `{"bundle"`, `{"bundle":"x","bundle"`, 1) },
	} {
		if err := os.WriteFile(manifest, []byte(change()), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Bundle(first.Hash); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a manifest with %s changed: %v", what, err)
		}
	}
	if err := os.WriteFile(manifest, text, 0o644); err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(h.dir, "bundles", "blobs", first.Files[0].SHA256+".yaml")
	if err := os.WriteFile(blob, []byte("policy: a\nversion: 1\nagents: ['*']\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bundle(first.Hash); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.dir, "bundles", ".new-*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
}

func TestReadersSeeWholeBundlesWhileTheyChange(t *testing.T) {
	h := newHouse(t)
	h.write("a.yaml", "a", "[a]")
	s := h.mustOpen()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if b := s.Current(); b == nil || b.For("a") == nil || len(b.Files) != len(b.Policies) {
					t.Error("no whole bundle")
					return
				}
			}
		})
	}
	for i := range 10 {
		if i%2 == 0 {
			h.write("b.yaml", "b", "[b]")
		} else {
			_ = os.Remove(h.policies("b.yaml"))
		}
		if err := s.Reload(ctx, policy.TriggerAPI); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
}
