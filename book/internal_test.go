package book

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
)

func openFor(t *testing.T, o Options) *Book {
	t.Helper()
	data := t.TempDir()
	key, _, err := LoadKey(filepath.Join(data, "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	o.Key, o.SealEvery = key, time.Hour
	b, err := Open(filepath.Join(data, "book"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func stop(reason string) guardbook.Draft {
	return guardbook.Draft{Type: guardbook.TypeStop, Body: guardbook.StopEntry{Reason: reason}}
}

// A sync that fails leaves the entry committed and unconfirmed. Nothing is called
// durable until what the sync may have lost was written again, and no number is
// used twice.
func TestAFailedSyncIsMendedBeforeAnythingIsDurable(t *testing.T) {
	b := openFor(t, Options{Durability: Balanced, SyncEvery: time.Hour})
	if _, err := b.Append(t.Context(), stop("0")); err != nil {
		t.Fatal(err)
	}
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	b.writing.Lock()
	good := b.j.wal
	b.j.wal = closed // every sync fails
	b.writing.Unlock()
	if _, err := b.AppendDurable(t.Context(), stop("1")); !errors.Is(err, ErrUnconfirmed) {
		t.Fatalf("got %v", err)
	}
	if b.Writable() == nil || !b.j.unsynced.Load() {
		t.Error("the book doesn't know that a sync failed")
	}
	b.writing.Lock()
	b.j.wal = good
	b.writing.Unlock()
	rs, err := b.AppendDurable(t.Context(), stop("2"))
	if err != nil || rs[0].Seq != 2 {
		t.Fatalf("the next append: %v, %v", rs, err)
	}
	es, err := b.Read(t.Context(), 0, 10)
	if err != nil || len(es) != 3 {
		t.Fatalf("read %d entries, %v", len(es), err)
	}
}

func TestTheTimeOfRecordingNeverGoesBack(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := openFor(t, Options{Now: func() time.Time { return now }})
	last := ""
	for _, step := range []time.Duration{0, time.Second, -time.Hour, time.Minute, 2 * time.Hour} {
		now = now.Add(step)
		rs, err := b.Append(t.Context(), stop(""))
		if err != nil {
			t.Fatal(err)
		}
		e, err := b.Entry(t.Context(), rs[0].Seq)
		if err != nil || e.Rec < last {
			t.Fatalf("%s after %s (%v)", e.Rec, last, err)
		}
		last = e.Rec
	}
}

// Whatever a body holds, an entry is canonical JSON with the header and the body
// side by side, and the place of rec and seq is found among the body's own.
func TestAnEntryIsCanonicalWhateverItsBodyHolds(t *testing.T) {
	now := time.Unix(1_770_000_000, 123456000)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"rec":"`, `","seq":0`, "\\", `\"`, "rec", "seq", "{", "}", "[", "\u2028", "\xff", zeroTime}))
		body := map[string]any{
			"detail": rapid.MapOf(text.Filter(func(s string) bool { return !strings.Contains(s, "\xff") && strings.ToValidUTF8(s, "") == s }), text).Draw(t, "detail"),
			"aaa":    []any{map[string]any{"rec": zeroTime, "seq": 0}},
			"zzz":    map[string]any{"rec": zeroTime, "seq": rapid.Int32().Draw(t, "n"), "f": rapid.Float64Range(-1e30, 1e30).Draw(t, "f")},
			"op":     text.Draw(t, "op"),
		}
		e, err := encode(guardbook.Draft{Type: guardbook.TypeOperator, Body: body}, "log", "instance", now)
		if err != nil {
			t.Fatal(err)
		}
		seq := rapid.Int64Range(0, 1<<53).Draw(t, "seq")
		rec := now.Add(time.Hour).UTC().Format(guardbook.TimeLayout)
		got, _ := e.finish(seq, rec)
		v := jsontext.Value(got.Raw).Clone()
		if err := v.Canonicalize(); err != nil || string(v) != string(got.Raw) {
			t.Fatalf("not canonical (%v): %s", err, got.Raw)
		}
		parsed, err := guardbook.ParseEntry(got.Raw)
		if err != nil || parsed.Header != got.Header || parsed.Seq != seq || parsed.Rec != rec {
			t.Fatalf("read back as %+v (%v)", parsed.Header, err)
		}
		var members struct {
			Zzz struct {
				Rec string `json:"rec"`
			} `json:"zzz"`
		}
		if err := json.Unmarshal(got.Raw, &members); err != nil || members.Zzz.Rec != zeroTime {
			t.Fatalf("the body was changed: %s", got.Raw)
		}
	})
}

func TestABodyCannotReplaceTheHeader(t *testing.T) {
	for _, body := range []any{map[string]any{"seq": 7}, map[string]any{"log": "other"}, []int{1}, "text"} {
		if _, err := encode(guardbook.Draft{Type: guardbook.TypeOperator, Body: body}, "log", "instance", time.Now()); err == nil {
			t.Errorf("%v was taken", body)
		}
	}
	for _, body := range []any{nil, struct{}{}, map[string]any{}} {
		if _, err := encode(guardbook.Draft{Type: guardbook.TypeOperator, Body: body}, "log", "instance", time.Now()); err != nil {
			t.Errorf("%v: %v", body, err)
		}
	}
	if _, err := encode(guardbook.Draft{}, "log", "instance", time.Now()); err == nil {
		t.Error("an entry without a type was taken")
	}
}

func BenchmarkEncode(b *testing.B) {
	d := guardbook.Draft{Type: guardbook.TypeDecision, Body: guardbook.DecisionEntry{Agent: "a", Session: "s", Kind: guardbook.KindInput, Path: "gateway/openai", Layers: []guardbook.LayerRun{{Name: "L1", Version: "core/1", Micros: 80}}, Findings: []guardbook.Finding{}, Decision: guardbook.ActionAllow, Policy: "p", Bundle: "sha256:" + strings.Repeat("a", 64), Commitment: "sha256:" + strings.Repeat("b", 64)}}
	now := time.Now()
	for b.Loop() {
		if _, err := encode(d, "guardbook/x", "x", now); err != nil {
			b.Fatal(err)
		}
	}
}
