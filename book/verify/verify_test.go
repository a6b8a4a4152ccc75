package verify_test

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/book/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	origin = "guardbook/test"
)

// testKey is a key made of a fixed seed, so that golden files stay the same.
func testKey(t testing.TB) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)), origin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

// at is a time of the test day, in seconds after noon.
func at(seconds int) string {
	return time.Date(2026, 3, 1, 12, 0, seconds, 0, time.UTC).Format(guardbook.TimeLayout)
}

// raw makes an entry in canonical form; members override or add.
func raw(t testing.TB, seq int64, rec string, typ guardbook.EntryType, members string) []byte {
	t.Helper()
	all := map[string]any{"v": 1, "log": origin, "seq": seq, "id": fmt.Sprintf("00000000-0000-7000-8000-%012d", seq), "ts": rec, "rec": rec, "instance": "i", "type": string(typ), "tenant": "default"}
	if members != "" {
		if err := json.Unmarshal([]byte(members), &all); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	v := jsontext.Value(b)
	if err := v.Canonicalize(); err != nil {
		t.Fatal(err)
	}
	return v
}

func start(t testing.TB, seq int64, rec, members string) []byte {
	t.Helper()
	_, vkey := testKey(t)
	body := fmt.Sprintf(`{"boot":"b","clean":true,"previous":%d,"epoch":1,"durability":"strict","detectors":"","version":"1","key":%q}`, seq-1, vkey)
	if members != "" {
		body = body[:len(body)-1] + "," + members[1:]
		var m map[string]any
		if err := json.Unmarshal([]byte(body), &m, jsontext.AllowDuplicateNames(true)); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	return raw(t, seq, rec, guardbook.TypeStart, body)
}

func beat(t testing.TB, seq int64, rec string) []byte {
	t.Helper()
	return raw(t, seq, rec, guardbook.TypeHeartbeat, `{"boot":"b","uptime_ms":1,"interval_ms":30000,"bundle":"","counters":{}}`)
}

// export writes entries, whatever they are, as a log whose tree is right and
// signed, with a checkpoint at each of the sizes.
func export(t testing.TB, dir string, entries [][]byte, sizes ...int) {
	t.Helper()
	signer, vkey := testKey(t)
	write := func(name string, b []byte) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var edge c2sp.Edge
	var history, signed []byte
	sign := func() {
		var err error
		if signed, err = c2sp.Sign(c2sp.Checkpoint{Origin: origin, Size: edge.Size(), Root: edge.Root()}, signer); err != nil {
			t.Fatal(err)
		}
		history = c2sp.AppendHistory(history, signed)
	}
	var leaves [][]byte
	for i, e := range entries {
		if slices.Contains(sizes, i) {
			sign()
		}
		done := edge.Append(nil, tlog.RecordHash(e))
		for l := 0; l*8 < len(done); l++ {
			if l == len(leaves) {
				leaves = append(leaves, nil)
			}
			leaves[l] = append(leaves[l], done[l*8][:]...)
		}
	}
	sign()
	for l, data := range leaves {
		for n := 0; n*256*32 < len(data); n++ {
			tile := data[n*256*32 : min(len(data), (n+1)*256*32)]
			write(c2sp.TilePath(l, int64(n), len(tile)/32), tile)
		}
	}
	for n := 0; n*256 < len(entries); n++ {
		var bundle []byte
		block := entries[n*256 : min(len(entries), (n+1)*256)]
		for _, e := range block {
			bundle = c2sp.AppendEntry(bundle, e)
		}
		write(c2sp.TilePath(c2sp.Entries, int64(n), len(block)), bundle)
	}
	write("checkpoint", signed)
	write("checkpoints", history)
	write("verifier-key", []byte(vkey+"\n"))
}

func check(t testing.TB, dir, trust string, anchors ...verify.Anchor) *verify.Report {
	t.Helper()
	root, err := verify.ParseTrust(trust)
	if err != nil {
		t.Fatal(err)
	}
	logs, files, err := verify.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	r, err := verify.Verify(t.Context(), logs, verify.Options{Book: "export", Trust: root, Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnExportedLogIsVerifiedFromItsBundles(t *testing.T) {
	_, vkey := testKey(t)
	for _, size := range []int{1, 255, 256, 257, 1000} {
		dir := t.TempDir()
		entries := [][]byte{start(t, 0, at(0), "")}
		for i := 1; i < size; i++ {
			entries = append(entries, beat(t, int64(i), at(i)))
		}
		export(t, dir, entries, 0, 1, size/2)
		r := check(t, dir, vkey, kept(t, dir, int64(size)))
		if r.Exit != verify.ExitIntact || r.Logs[0].Records != int64(size) || r.Logs[0].Signed != int64(size) {
			r.WriteText(t.Output())
			t.Errorf("size %d: exit %d", size, r.Exit)
		}
	}
}

// A signed tree says that entries are the ones that were written. These were
// written wrong.
func TestWhatIsSignedButMalformedIsFound(t *testing.T) {
	_, vkey := testKey(t)
	good := func(seq int64) []byte { return beat(t, seq, at(int(seq)*10)) }
	cases := []struct {
		name  string
		entry []byte // number 2 of the log
		kind  string
	}{
		{"a duplicate name", []byte(strings.Replace(string(good(2)), `"v":1`, `"v":1,"v":1`, 1)), "format"},
		{"another order of names", []byte(`{"v":1,"type":"heartbeat"}`), "format"},
		{"a space", []byte(strings.Replace(string(good(2)), `"v":1`, `"v": 1`, 1)), "format"},
		{"a byte order mark", append([]byte("\xef\xbb\xbf"), good(2)...), "format"},
		{"a line end", append(good(2), '\n'), "format"},
		{"two values", append(good(2), good(2)...), "format"},
		{"invalid UTF-8", []byte(strings.Replace(string(good(2)), `"instance":"i"`, "\"instance\":\"\xff\"", 1)), "format"},
		{"an integer that no double holds", []byte(strings.Replace(string(good(2)), `"uptime_ms":1`, `"uptime_ms":9007199254740993`, 1)), "format"},
		{"an unknown version", raw(t, 2, at(20), "heartbeat", `{"v":2,"interval_ms":1}`), "format"},
		{"nothing", nil, "format"},
		{"no time", raw(t, 2, at(20), "operator", `{"rec":"yesterday"}`), "format"},
		{"another number", good(3), "reordered"},
		{"another log", raw(t, 2, at(20), "operator", `{"log":"guardbook/other"}`), "header"},
		{"a clock that went back", beat(t, 2, at(5)), "time"},
		{"a start that names another entry before it", start(t, 2, at(20), `{"previous":7}`), "start"},
		{"a start with another key", start(t, 2, at(20), `{"key":"guardbook/test+c60cbdfb+AT2ZrWQ0FzFjRqVrfiVqvMzPIOlhMDrZZBKJhHEoyFM8"}`), "start"},
		{"a start of another epoch", start(t, 2, at(20), `{"epoch":3}`), "epoch"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "1")
			export(t, dir, [][]byte{start(t, 0, at(0), ""), good(1), c.entry, good(3), good(4)})
			r := check(t, filepath.Dir(dir), vkey)
			if r.Exit != verify.ExitFailed || r.Counts[c.kind] == 0 || r.Problems[0].Seq == nil || *r.Problems[0].Seq != 2 || r.Problems[0].Offset == nil {
				r.WriteText(t.Output())
				t.Errorf("exit %d, kinds %v, want %s of record 2", r.Exit, r.Counts, c.kind)
			}
		})
	}
}

func TestSilenceBetweenHeartbeatsMakesABookIncomplete(t *testing.T) {
	_, vkey := testKey(t)
	stop := func(seq int64, rec string) []byte { return raw(t, seq, rec, "stop", `{"boot":"b","reason":""}`) }
	other := func(seq int64, rec string) []byte { return raw(t, seq, rec, "operator", `{"op":"x","by":"y"}`) }
	cases := []struct {
		name    string
		entries [][]byte
		gaps    []verify.Gap
	}{
		{"a heartbeat that is late but not missed", [][]byte{start(t, 0, at(0), ""), beat(t, 1, at(30)), beat(t, 2, at(94)), stop(3, at(100))}, nil},
		{"two heartbeats missed", [][]byte{start(t, 0, at(0), ""), beat(t, 1, at(30)), beat(t, 2, at(100))},
			[]verify.Gap{{Kind: "heartbeat", Log: origin, From: at(30), To: at(100), Message: "no heartbeat for 1m10s (2026-03-01T12:00:30Z..2026-03-01T12:01:40Z), with one due every 30s"}}},
		{"a stop in between", [][]byte{start(t, 0, at(0), ""), stop(1, at(30)), start(t, 2, at(5000), ""), beat(t, 3, at(5030))}, nil},
		{"a start in between", [][]byte{start(t, 0, at(0), ""), beat(t, 1, at(30)), start(t, 2, at(5000), ""), beat(t, 3, at(5030))}, nil},
		{"other records, but no heartbeat", [][]byte{start(t, 0, at(0), ""), other(1, at(40)), other(2, at(90))},
			[]verify.Gap{{Kind: "heartbeat", Log: origin, From: at(0), To: at(90), Message: "no heartbeat for 1m30s (2026-03-01T12:00:00Z..2026-03-01T12:01:30Z), with one due every 30s"}}},
		{"losses that the start entry tells of", [][]byte{start(t, 0, at(0), `{"lost":"entries 5 to 9"}`)},
			[]verify.Gap{{Kind: "lost", Log: origin, From: at(0), Message: "the log began anew because of losses: entries 5 to 9"}}},
		{"nothing at all", nil,
			[]verify.Gap{{Kind: "empty", Log: origin, Message: "the log is empty: nothing was recorded"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			export(t, dir, c.entries)
			r := check(t, dir, vkey, kept(t, dir, int64(len(c.entries))))
			want := verify.ExitIntact
			if c.gaps != nil {
				want = verify.ExitIncomplete
			}
			if d := cmp.Diff(append([]verify.Gap{}, c.gaps...), r.Gaps); d != "" || r.Exit != want {
				r.WriteText(t.Output())
				t.Errorf("exit %d, want %d; gaps:\n%s", r.Exit, want, d)
			}
		})
	}
}

func TestTrustIsAKeyAFingerprintOrAFile(t *testing.T) {
	_, vkey := testKey(t)
	dir := t.TempDir()
	export(t, dir, [][]byte{start(t, 0, at(0), "")})
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, []byte(vkey+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	fingerprint := check(t, dir, vkey).Logs[0].Fingerprint
	for trust, want := range map[string]int{
		vkey: verify.ExitIntact, file: verify.ExitIntact, fingerprint: verify.ExitIntact, "": verify.ExitIncomplete,
		"sha256:" + strings.Repeat("00", 32):                                   verify.ExitFailed,
		"guardbook/test+c60cbdfb+AT2ZrWQ0FzFjRqVrfiVqvMzPIOlhMDrZZBKJhHEoyFM8": -1,
		"no-such-file": -1, "sha256:12": -1,
	} {
		if want < 0 {
			if _, err := verify.ParseTrust(trust); err == nil {
				t.Errorf("%q was taken for a trust root", trust)
			}
			continue
		}
		if r := check(t, dir, trust, kept(t, dir, 1)); r.Exit != want || r.Pinned != (trust != "") {
			r.WriteText(t.Output())
			t.Errorf("trust %q: exit %d, want %d", trust, r.Exit, want)
		}
	}
}

func TestNothingIsNotValid(t *testing.T) {
	_, vkey := testKey(t)
	for _, trust := range []string{"", vkey} {
		if r := check(t, t.TempDir(), trust); r.Exit != verify.ExitFailed || r.Counts["empty"] != 1 {
			t.Errorf("an empty directory: exit %d", r.Exit)
		}
	}
	if _, _, err := verify.OpenDir(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that isn't there was opened")
	}
}

func TestAnEpochThatIsMissingIsFound(t *testing.T) {
	_, vkey := testKey(t)
	for _, epochs := range [][]string{{"2"}, {"1", "3"}} {
		dir := t.TempDir()
		for _, e := range epochs {
			export(t, filepath.Join(dir, e), [][]byte{start(t, 0, at(0), "")})
		}
		if r := check(t, dir, vkey); r.Counts["epoch"] == 0 || r.Exit != verify.ExitFailed {
			r.WriteText(t.Output())
			t.Errorf("epochs %v: exit %d", epochs, r.Exit)
		}
	}
}

func TestALinkThatLeadsOutOfTheExportIsNotFollowed(t *testing.T) {
	_, vkey := testKey(t)
	elsewhere, dir := t.TempDir(), t.TempDir()
	export(t, elsewhere, [][]byte{start(t, 0, at(0), "")})
	export(t, dir, [][]byte{start(t, 0, at(0), "")})
	bundle := filepath.FromSlash(c2sp.TilePath(c2sp.Entries, 0, 1))
	os.Remove(filepath.Join(dir, bundle))
	if err := os.Symlink(filepath.Join(elsewhere, bundle), filepath.Join(dir, bundle)); err != nil {
		t.Fatal(err)
	}
	if r := check(t, dir, vkey); r.Exit != verify.ExitFailed {
		r.WriteText(t.Output())
		t.Error("the link was followed")
	}
}

func TestTheReportNamesTheFirstBadRecordAndCountsAll(t *testing.T) {
	_, vkey := testKey(t)
	dir := t.TempDir()
	entries := [][]byte{start(t, 0, at(0), "")}
	for i := 1; i < 600; i++ {
		entries = append(entries, beat(t, int64(i), at(i)))
	}
	export(t, dir, entries, 100, 300)
	for _, name := range []string{c2sp.TilePath(c2sp.Entries, 0, 256), c2sp.TilePath(c2sp.Entries, 1, 256)} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The id of an entry in the middle; hostile text goes into the report of another.
		b = bytes.Replace(b, []byte("-000000000131"), []byte("-00000000013x"), 1)
		b = bytes.ReplaceAll(b, []byte(`"log":"guardbook/test","rec":"2026-03-01T12:05:0`), []byte("\"log\":\"\\u001b[31mABCD\",\"rec\":\"2026-03-01T12:05:0"))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := check(t, dir, vkey, kept(t, dir, 300))
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", text.Bytes())
	b, err := json.Marshal(r, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", append(b, '\n'))
}

// golden compares with a file in testdata, and writes it when GUARDBOOK_GOLDEN=write.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("GUARDBOOK_GOLDEN") == "write" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s:\n%s", name, d)
	}
}
