package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/book/verify"
)

// kept is the checkpoint of a size, from a log's history, as somebody has it who
// kept it.
func kept(t testing.TB, dir string, size int64) verify.Anchor {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s, err := range c2sp.History(f) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Split(string(s.Note), "\n")[1] == fmt.Sprint(size) {
			return verify.Anchor{File: fmt.Sprintf("kept-%d", size), Note: s.Note}
		}
	}
	t.Fatalf("no checkpoint has size %d", size)
	return verify.Anchor{}
}

// life makes n entries. Those from number other on are not what they are in
// another life.
func life(t testing.TB, n, other int) [][]byte {
	t.Helper()
	entries := [][]byte{start(t, 0, at(0), "")}
	if other == 0 {
		entries[0] = start(t, 0, at(0), `{"version":"2"}`)
	}
	for i := 1; i < n; i++ {
		if i < other {
			entries = append(entries, beat(t, int64(i), at(i)))
		} else {
			entries = append(entries, raw(t, int64(i), at(i), "heartbeat", `{"boot":"b","uptime_ms":2,"interval_ms":30000,"bundle":"","counters":{}}`))
		}
	}
	return entries
}

const long = 1000 // more than any life here

func TestABookIsAnchoredUpToTheLastSignedRecord(t *testing.T) {
	_, vkey := testKey(t)
	dir := t.TempDir()
	sizes := []int{0, 1, 255, 256, 257, 599}
	export(t, dir, life(t, 600, long), sizes...)
	for _, size := range append(sizes, 600) {
		want := verify.ExitIncomplete
		if size == 600 {
			want = verify.ExitIntact
		}
		r := check(t, dir, vkey, kept(t, dir, int64(size)))
		if r.Exit != want || r.Anchors != (verify.AnchorReport{Given: 1, Valid: 1, Size: int64(size), Unanchored: int64(600 - size)}) {
			r.WriteText(t.Output())
			t.Errorf("anchor of size %d: exit %d, want %d", size, r.Exit, want)
		}
	}
	r := check(t, dir, vkey, kept(t, dir, 257), kept(t, dir, 600), kept(t, dir, 1))
	if r.Exit != verify.ExitIntact || r.Anchors != (verify.AnchorReport{Given: 3, Valid: 3, Size: 600}) || r.Logs[0].Anchored != 600 {
		r.WriteText(t.Output())
		t.Error("three anchors, the newest of them of the whole log")
	}
	if r := check(t, dir, "", kept(t, dir, 600)); r.Exit != verify.ExitIncomplete || len(r.Gaps) != 1 || r.Gaps[0].Kind != "unpinned" {
		r.WriteText(t.Output())
		t.Error("anchored, not pinned")
	}
	r = check(t, dir, vkey)
	if r.Exit != verify.ExitIncomplete || len(r.Gaps) != 1 || r.Gaps[0].Kind != "unanchored" || r.Anchors.Unanchored != 600 {
		r.WriteText(t.Output())
		t.Error("pinned, not anchored")
	}
}

// Whoever has the signing key can write another end of the history. Without an
// anchor nothing about it is wrong.
func TestASuffixOfTheSameLengthThatWasRewrittenWithTheKeyDoesNotFitAnAnchor(t *testing.T) {
	_, vkey := testKey(t)
	const n = 300
	sizes := []int{1, 255, 256, 257, n - 1}
	original := t.TempDir()
	export(t, original, life(t, n, long), sizes...)
	for _, other := range []int{0, 1, 254, 255, 256, n - 2, n - 1} {
		dir := t.TempDir()
		export(t, dir, life(t, n, other), sizes...)
		if r := check(t, dir, vkey); r.Exit != verify.ExitIncomplete {
			r.WriteText(t.Output())
			t.Fatalf("rewritten from %d on, no anchor: exit %d", other, r.Exit)
		}
		for _, size := range append(sizes, n) {
			r := check(t, dir, vkey, kept(t, original, int64(size)))
			if size <= other {
				if r.Exit != verify.ExitIncomplete || r.Anchors.Valid != 1 || r.Anchors.Unanchored != int64(n-size) {
					r.WriteText(t.Output())
					t.Errorf("rewritten from %d on, anchor of size %d before it: exit %d", other, size, r.Exit)
				}
				continue
			}
			if r.Exit != verify.ExitFailed || r.Anchors.Valid != 0 || r.Counts["anchor"] != 1 || len(r.Counts) != 1 || r.Problems[0].Expected == "" || r.Problems[0].File == "" {
				r.WriteText(t.Output())
				t.Errorf("rewritten from %d on, anchor of size %d: exit %d", other, size, r.Exit)
			}
		}
	}
}

func TestALogThatWasRolledBackIsShorterThanItsAnchor(t *testing.T) {
	_, vkey := testKey(t)
	const n = 300
	original := t.TempDir()
	export(t, original, life(t, n, long), 100)
	for _, size := range []int{0, 1, 100, 256, n - 1} {
		dir := t.TempDir()
		export(t, dir, life(t, n, long)[:size]) // a backup: records, tiles and checkpoints of that time
		if r := check(t, dir, vkey); r.Exit != verify.ExitIncomplete {
			r.WriteText(t.Output())
			t.Fatalf("rolled back to %d, no anchor: exit %d", size, r.Exit)
		}
		r := check(t, dir, vkey, kept(t, original, n))
		if r.Exit != verify.ExitFailed || r.Counts["anchor"] != 1 || len(r.Counts) != 1 || r.Problems[0].Seq == nil || *r.Problems[0].Seq != int64(size) || r.Logs[0].Missing != int64(n-size) {
			r.WriteText(t.Output())
			t.Errorf("rolled back to %d: exit %d", size, r.Exit)
		}
		if r := check(t, dir, vkey, kept(t, original, n), kept(t, original, n)); r.Logs[0].Missing != int64(n-size) {
			t.Errorf("rolled back to %d, the anchor given twice: %d missing", size, r.Logs[0].Missing)
		}
	}
}

// signedAs is a checkpoint of the test key under another name.
func signedAs(t testing.TB, name string, c c2sp.Checkpoint) []byte {
	t.Helper()
	skey, _, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)), name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	c.Origin = name
	b, err := c2sp.Sign(c, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestALogThatWasTakenAwayIsMissedByItsAnchor(t *testing.T) {
	_, vkey := testKey(t)
	dir := t.TempDir()
	export(t, filepath.Join(dir, "1"), life(t, 10, long))
	second := verify.Anchor{File: "kept-second", Note: signedAs(t, origin+"/2", c2sp.Checkpoint{Size: 7})}
	for _, trust := range []string{vkey, check(t, dir, vkey).Logs[0].Fingerprint, ""} {
		r := check(t, dir, trust, kept(t, filepath.Join(dir, "1"), 10), second)
		if r.Exit != verify.ExitFailed || r.Counts["anchor"] != 1 || len(r.Counts) != 1 || r.Problems[0].Log != origin+"/2" || !strings.Contains(r.Problems[0].Message, "the log is missing") {
			r.WriteText(t.Output())
			t.Errorf("trust %q: exit %d", trust, r.Exit)
		}
	}
	r := check(t, t.TempDir(), vkey, second)
	if r.Exit != verify.ExitFailed || r.Problems[len(r.Problems)-1].Log != origin+"/2" {
		r.WriteText(t.Output())
		t.Error("the whole book was taken away")
	}
}

func TestAnAnchorThatTheBooksKeyDidNotSignIsAProblem(t *testing.T) {
	_, vkey := testKey(t)
	dir := t.TempDir()
	export(t, dir, life(t, 10, long))
	good := kept(t, dir, 10).Note
	skey, _, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{8}, 64)), origin)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := c2sp.Sign(c2sp.Checkpoint{Origin: origin, Size: 10}, stranger)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]byte{
		"nothing":                     nil,
		"a text that is none":         []byte("hello\n"),
		"a name with control letters": []byte("\x1b[31mguardbook\n10\n"),
		"another size":                bytes.Replace(good, []byte("\n10\n"), []byte("\n9\n"), 1),
		"no signature":                good[:bytes.LastIndex(good, []byte("\n\n"))+2],
		"another key":                 forged,
		"another book":                signedAs(t, "guardbook/other", c2sp.Checkpoint{Size: 10}),
		"two of them":                 append(bytes.Clone(good), good...),
		"other line ends":             bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"a negative size":             signedAs(t, origin, c2sp.Checkpoint{Size: -1}),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			for _, trust := range []string{vkey, ""} {
				r := check(t, dir, trust, verify.Anchor{File: "kept", Note: b})
				var text bytes.Buffer
				if err := r.WriteText(&text); err != nil {
					t.Fatal(err)
				}
				if r.Exit != verify.ExitFailed || r.Counts["anchor"] != 1 || r.Anchors.Given != 1 || r.Anchors.Valid != 0 || r.Problems[0].File != "kept" || strings.Contains(text.String(), "\x1b") {
					t.Errorf("exit %d\n%s", r.Exit, text.String())
				}
			}
		})
	}
}

func TestAFileThatIsNoAnchorCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 1<<17), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "none"), dir, large} {
		if _, err := verify.ReadAnchors([]string{name}); err == nil || !strings.HasPrefix(err.Error(), "read anchor: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
