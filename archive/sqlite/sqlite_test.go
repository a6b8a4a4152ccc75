package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/archive/conformance"
	"github.com/guardbook/guardbook/archive/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string) *sqlite.Archive {
	t.Helper()
	a, err := sqlite.Open(context.Background(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) archive.Archive {
		return open(t, filepath.Join(t.TempDir(), "archive with a #, a % and a ?.db"))
	})
}

func someEntries(n int) *conformance.Log {
	l := &conformance.Log{Origin: "guardbook/test"}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		at = at.Add(10 * time.Millisecond)
		d := guardbook.DecisionEntry{
			Agent: fmt.Sprint("agent-", i%20), Session: fmt.Sprint("session-", i/50), Kind: guardbook.KindToolCall, Path: "inspect",
			Tool: &guardbook.ToolRef{Server: "crm", Name: fmt.Sprint("tool-", i%7)}, Decision: guardbook.ActionAllow,
			Rule: "agent/tools/tool", Policy: "agent", Bundle: "sha256:" + strings.Repeat("ab", 32), Mode: guardbook.ModeEnforce,
			Layers:     []guardbook.LayerRun{{Name: "policy", Micros: 12}, {Name: "L1", Version: "core/1 sha256:" + strings.Repeat("cd", 32), Micros: 80}},
			Commitment: "sha256:" + strings.Repeat("ef", 32),
		}
		if i%10 == 0 {
			d.Decision, d.Severity = guardbook.ActionBlock, guardbook.High
			d.Findings = []guardbook.Finding{{Class: guardbook.ClassPII, Severity: guardbook.High, Rule: "pii/card", Layer: "L1", Excerpt: "**** 1111"}}
		}
		l.Add(at, at.Add(time.Millisecond), guardbook.TypeDecision, d)
	}
	return l
}

func TestWhatWasWrittenIsThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path)
	if err := a.Write(t.Context(), someEntries(10).Entries); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Events(t.Context(), archive.Query{}); err == nil {
		t.Error("a closed archive answers")
	}
	b := open(t, path)
	if log, next, err := b.Cursor(t.Context()); log != "guardbook/test" || next != 10 || err != nil {
		t.Errorf("cursor: %q, %d, %v", log, next, err)
	}
}

func TestADamagedFileIsMovedAsideAndTheArchiveBeginsEmpty(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"not a database":    func([]byte) []byte { return []byte(strings.Repeat("this is not a database. ", 1000)) },
		"zeroed first page": func(b []byte) []byte { clear(b[100:4096]); return b },
		"truncated":         func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "archive.db")
			a := open(t, path)
			if err := a.Write(t.Context(), someEntries(500).Entries); err != nil {
				t.Fatal(err)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			c := open(t, path)
			fill(t, c, someEntries(500))
			if aside, _ := filepath.Glob(filepath.Join(dir, "archive.db.damaged-*")); len(aside) != 1 {
				t.Errorf("moved aside: %v", aside)
			}
		})
	}
}

func TestAFileOfAnotherVersionIsFilledAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path)
	if err := a.Write(t.Context(), someEntries(5).Entries); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[63] = 99 // the last byte of user_version
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if log, next, err := open(t, path).Cursor(t.Context()); log != "" || next != 0 || err != nil {
		t.Errorf("cursor: %q, %d, %v", log, next, err)
	}
}

// fill runs the reader over a log until the archive has all of it.
func fill(t *testing.T, a archive.Archive, l *conformance.Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	err := archive.Run(ctx, ended{l, cancel}, a, nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("run: %v", err)
	}
	if _, next, err := a.Cursor(t.Context()); err != nil || next != int64(len(l.Entries)) {
		t.Fatalf("cursor: %d, %v", next, err)
	}
}

// ended is a log that calls done at its end.
type ended struct {
	*conformance.Log
	done func()
}

func (s ended) Origin() string { return s.Log.Origin }

func (s ended) Follow(ctx context.Context, from int64, fn func([]guardbook.Entry) error) error {
	if err := fn(s.Entries[from:]); err != nil {
		return err
	}
	s.done()
	<-ctx.Done()
	return ctx.Err()
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			a := open(b, filepath.Join(b.TempDir(), "archive.db"))
			l := someEntries(b.N * size)
			b.ResetTimer()
			for i := range b.N {
				if err := a.Write(b.Context(), l.Entries[i*size:(i+1)*size]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func BenchmarkQuery(b *testing.B) {
	a := open(b, filepath.Join(b.TempDir(), "archive.db"))
	l := someEntries(200_000)
	for i := 0; i < len(l.Entries); i += 1000 {
		if err := a.Write(b.Context(), l.Entries[i:i+1000]); err != nil {
			b.Fatal(err)
		}
	}
	high, begin := guardbook.High, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, q := range map[string]archive.Query{
		"newest":    {Limit: 50, Desc: true},
		"agent":     {Agent: "agent-3", Limit: 50, Desc: true},
		"class":     {Class: guardbook.ClassPII, Limit: 50, Desc: true},
		"severity":  {MinSeverity: &high, Limit: 50, Desc: true},
		"minute":    {Since: begin.Add(10 * time.Minute), Until: begin.Add(11 * time.Minute), Limit: 50, Desc: true},
		"session":   {Session: "session-77"},
		"agentTime": {Agent: "agent-3", Since: begin.Add(10 * time.Minute), Until: begin.Add(20 * time.Minute), Limit: 50, Desc: true},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := a.Events(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("countByAgent", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.Counts(b.Context(), archive.Query{}, archive.ByAgent); err != nil {
				b.Fatal(err)
			}
		}
	})
}
