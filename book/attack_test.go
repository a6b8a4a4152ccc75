package book_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/c2sp"
	"github.com/guardbook/guardbook/book/verify"
)

const attacked = 700 // entries of the book under attack, sealed at every hundred

// story makes a closed book as an instance leaves it: start, heartbeats, stop.
func story(t testing.TB) (data string) {
	t.Helper()
	data = t.TempDir()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := open(t, data, book.Options{Durability: book.Balanced, Now: func() time.Time { return now }})
	add := func(d guardbook.Draft) {
		t.Helper()
		if _, err := b.Append(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		now = now.Add(20 * time.Second)
	}
	add(guardbook.Draft{Type: guardbook.TypeStart, Body: guardbook.StartEntry{Boot: "b", Clean: true, Previous: -1, Epoch: 1, Key: keyIn(t, data).Verifier()}})
	for i := int64(1); i < attacked-1; i++ {
		add(heartbeat(i))
		if i%100 == 99 {
			if _, err := b.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(guardbook.Draft{Type: guardbook.TypeStop, Body: guardbook.StopEntry{Boot: "b", Reason: "done"}})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}

func edit(t testing.TB, path string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(b), 0o644); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes an entry as somebody would who knows the format: the record
// and its leaf hash.
func rewrite(t testing.TB, data string, seq int64) (leaf tlog.Hash) {
	t.Helper()
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		t.Fatal(err)
	}
	es, err := r.Read(t.Context(), 1, seq, 1)
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	raw := bytes.Replace(es[0].Raw, []byte(`"blocked":0`), []byte(`"blocked":9`), 1)
	leaf = tlog.RecordHash(raw)
	change(t, data, fmt.Sprintf("UPDATE entries SET entry = x'%x', hashes = cast(x'%x' || substr(hashes, 33) AS BLOB) WHERE seq = %d", raw, leaf[:], seq))
	return leaf
}

func TestEveryAttackOnABookIsFound(t *testing.T) {
	original := story(t)
	trusted, anchor := keyIn(t, original).Verifier(), kept(t, original)
	epoch := func(data string, parts ...string) string {
		return filepath.Join(append([]string{data, "book", "1"}, parts...)...)
	}
	seq := func(n int64) *int64 { return &n }
	cases := []struct {
		attack   string
		do       func(t *testing.T, data string)
		kinds    []string // kinds of problem that must be among those found
		first    *int64   // the record that the first problem names
		check    func(*verify.Report) bool
		noTrust  bool // verify without --trust
		noAnchor bool // verify without the newest checkpoint as an anchor
		exit     int
	}{
		{attack: "none", do: func(*testing.T, string) {}, exit: verify.ExitIntact},
		{attack: "none, nothing anchored", do: func(*testing.T, string) {}, noAnchor: true, exit: verify.ExitIncomplete},
		{attack: "none, key not pinned", do: func(*testing.T, string) {}, noTrust: true, exit: verify.ExitIncomplete},
		{attack: "edit a record", do: func(t *testing.T, data string) {
			change(t, data, "UPDATE entries SET entry = cast(replace(cast(entry AS TEXT), '\"blocked\":0', '\"blocked\":1') AS BLOB) WHERE seq = 301")
		}, kinds: []string{"altered"}, first: seq(301), check: func(r *verify.Report) bool {
			return r.Logs[0].Altered == 1 && r.Logs[0].CheckpointsGood == 8 && r.Logs[0].Tiles == r.Logs[0].TilesGood
		}, exit: verify.ExitFailed},
		{attack: "edit a stored hash", do: func(t *testing.T, data string) {
			change(t, data, "UPDATE entries SET hashes = cast(x'00' || substr(hashes, 2) AS BLOB) WHERE seq = 302")
		}, kinds: []string{"stored_hash"}, first: seq(302), exit: verify.ExitFailed},
		{attack: "edit a stored hash of a subtree", do: func(t *testing.T, data string) {
			change(t, data, "UPDATE entries SET hashes = cast(substr(hashes, 1, 40) || x'00' || substr(hashes, 42) AS BLOB) WHERE seq = 303")
		}, kinds: []string{"stored_hash"}, first: seq(303), exit: verify.ExitFailed},
		{attack: "edit a record and its stored hash", do: func(t *testing.T, data string) { rewrite(t, data, 304) },
			kinds: []string{"altered", "bundle"}, check: func(r *verify.Report) bool { return r.Logs[0].Altered == 1 && hasSeq(r, "altered", 304) }, exit: verify.ExitFailed},
		{attack: "edit a record, its stored hash, tile and bundle", do: func(t *testing.T, data string) {
			leaf := rewrite(t, data, 305)
			edit(t, epoch(data, "tile", "0", "001"), func(b []byte) []byte { copy(b[(305-256)*32:], leaf[:]); return b })
			edit(t, epoch(data, "tile", "entries", "001"), func(b []byte) []byte {
				var out []byte
				for i := int64(256); len(b) > 0; i++ {
					e, rest, err := c2sp.NextEntry(b)
					if err != nil {
						t.Fatal(err)
					}
					if i == 305 {
						e = bytes.Replace(e, []byte(`"blocked":0`), []byte(`"blocked":9`), 1)
					}
					out, b = c2sp.AppendEntry(out, e), rest
				}
				return out
			})
		}, kinds: []string{"stored_hash", "checkpoint"}, exit: verify.ExitFailed},
		{attack: "delete a record in the middle", do: func(t *testing.T, data string) {
			change(t, data, "DELETE FROM entries WHERE seq IN (306, 307)")
		}, kinds: []string{"missing"}, first: seq(306), check: func(r *verify.Report) bool { return r.Logs[0].Missing == 2 }, exit: verify.ExitFailed},
		{attack: "delete a record and close the gap", do: func(t *testing.T, data string) {
			change(t, data, "DELETE FROM entries WHERE seq = 308", "UPDATE entries SET seq = seq - 1000000 WHERE seq > 308", "UPDATE entries SET seq = seq + 999999 WHERE seq < 0")
		}, kinds: []string{"reordered", "missing"}, exit: verify.ExitFailed},
		{attack: "insert a record", do: func(t *testing.T, data string) {
			change(t, data, "UPDATE entries SET seq = seq - 1000000 WHERE seq >= 309", "UPDATE entries SET seq = seq + 1000001 WHERE seq < 0",
				"INSERT INTO entries SELECT 309, entry, hashes FROM entries WHERE seq = 310")
		}, kinds: []string{"reordered", "altered"}, exit: verify.ExitFailed},
		{attack: "insert a record before the first", do: func(t *testing.T, data string) {
			change(t, data, "INSERT INTO entries SELECT -1, entry, hashes FROM entries WHERE seq = 310")
		}, kinds: []string{"inserted"}, first: seq(-1), exit: verify.ExitFailed},
		{attack: "insert a record far away", do: func(t *testing.T, data string) {
			change(t, data, "INSERT INTO entries SELECT 1000000000000000000, entry, hashes FROM entries WHERE seq = 310")
		}, kinds: []string{"inserted"}, exit: verify.ExitFailed},
		{attack: "exchange two records", do: func(t *testing.T, data string) {
			change(t, data, "UPDATE entries SET seq = -5 WHERE seq = 310", "UPDATE entries SET seq = 310 WHERE seq = 312", "UPDATE entries SET seq = 312 WHERE seq = -5")
		}, kinds: []string{"reordered"}, first: seq(310), check: func(r *verify.Report) bool { return r.Logs[0].Reordered == 2 }, exit: verify.ExitFailed},
		{attack: "truncate the tail", do: func(t *testing.T, data string) {
			change(t, data, "DELETE FROM entries WHERE seq >= 650")
		}, kinds: []string{"missing"}, first: seq(650), check: func(r *verify.Report) bool { return r.Logs[0].Missing == 50 }, exit: verify.ExitFailed},
		{attack: "roll journal, tiles and checkpoint back to a backup", do: func(t *testing.T, data string) {
			change(t, data, "DELETE FROM entries WHERE seq >= 600")
			var sixth []byte
			for s := range c2sp.History(bytes.NewReader(read(t, epoch(data, "checkpoints")))) {
				if bytes.Contains(s.Note, []byte("\n600\n")) {
					sixth = s.Note
				}
			}
			edit(t, epoch(data, "checkpoint"), func([]byte) []byte { return sixth })
		}, kinds: []string{"missing"}, exit: verify.ExitFailed},
		{attack: "delete the log", do: func(t *testing.T, data string) { os.RemoveAll(epoch(data)); os.Mkdir(epoch(data), 0o700) },
			kinds: []string{"empty"}, exit: verify.ExitFailed},
		{attack: "empty the journal and start over", do: func(t *testing.T, data string) {
			change(t, data, "DELETE FROM entries")
			for _, f := range []string{"checkpoint", "checkpoints"} {
				os.Remove(epoch(data, f))
			}
			os.RemoveAll(epoch(data, "tile"))
		}, kinds: []string{"empty", "checkpoint"}, exit: verify.ExitFailed},
		{attack: "rewrite a suffix of the same length", do: func(t *testing.T, data string) {
			other := story(t) // the same length, other ids, another key: all but the checkpoints is put in place
			for _, f := range []string{"journal.db", "tile"} {
				os.RemoveAll(epoch(data, f))
				if err := os.Rename(epoch(other, f), epoch(data, f)); err != nil {
					t.Fatal(err)
				}
			}
		}, kinds: []string{"checkpoint", "header"}, exit: verify.ExitFailed},
		{attack: "rewrite all with a new key", do: func(t *testing.T, data string) {
			other := story(t)
			os.RemoveAll(filepath.Join(data, "book"))
			if err := os.Rename(filepath.Join(other, "book"), filepath.Join(data, "book")); err != nil {
				t.Fatal(err)
			}
		}, kinds: []string{"checkpoint", "header"}, exit: verify.ExitFailed},
		{attack: "fork: sign another tree of the same size", do: func(t *testing.T, data string) {
			signer, err := keyIn(t, original).Signer(1)
			if err != nil {
				t.Fatal(err)
			}
			forged, err := c2sp.Sign(c2sp.Checkpoint{Origin: keyIn(t, original).Origin(1), Size: attacked, Root: sha256.Sum256([]byte("another"))}, signer)
			if err != nil {
				t.Fatal(err)
			}
			edit(t, epoch(data, "checkpoints"), func(b []byte) []byte { return c2sp.AppendHistory(b, forged) })
		}, kinds: []string{"checkpoint"}, exit: verify.ExitFailed},
		{attack: "sign a smaller tree after a larger one", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "checkpoints"), func(b []byte) []byte {
				var notes [][]byte
				for s := range c2sp.History(bytes.NewReader(b)) {
					notes = append(notes, s.Note)
				}
				return c2sp.AppendHistory(b, notes[2])
			})
		}, kinds: []string{"checkpoint"}, exit: verify.ExitFailed},
		{attack: "cut the history short", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "checkpoints"), func(b []byte) []byte { return b[:bytes.LastIndex(b, []byte("\n\n"+keyIn(t, original).Origin(1)))+2] })
		}, kinds: []string{"checkpoint"}, exit: verify.ExitFailed},
		{attack: "delete the history", do: func(t *testing.T, data string) { os.Remove(epoch(data, "checkpoints")) }, kinds: []string{"checkpoint"}, exit: verify.ExitFailed},
		{attack: "delete the checkpoint", do: func(t *testing.T, data string) { os.Remove(epoch(data, "checkpoint")) }, kinds: []string{"checkpoint"}, exit: verify.ExitFailed},
		{attack: "edit a checkpoint", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "checkpoints"), func(b []byte) []byte { return bytes.Replace(b, []byte("\n300\n"), []byte("\n301\n"), 1) })
		}, kinds: []string{"checkpoint"}, exit: verify.ExitFailed},
		{attack: "put another key beside the log", do: func(t *testing.T, data string) {
			edit(t, epoch(data, book.KeyFile), func([]byte) []byte { return []byte(keyIn(t, t.TempDir()).Verifier()) })
		}, check: func(r *verify.Report) bool { return len(r.Notices) == 1 }, exit: verify.ExitIntact},
		{attack: "put another key beside the log, nothing pinned", do: func(t *testing.T, data string) {
			edit(t, epoch(data, book.KeyFile), func([]byte) []byte { return []byte(keyIn(t, t.TempDir()).Verifier()) })
		}, kinds: []string{"checkpoint"}, noTrust: true, exit: verify.ExitFailed},
		{attack: "edit a hash tile", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "tile", "0", "001"), func(b []byte) []byte { b[32*57] ^= 1; return b })
		}, kinds: []string{"tile"}, first: seq(256 + 57), exit: verify.ExitFailed},
		{attack: "edit a hash tile higher up", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "tile", "1", "000.p", "2"), func(b []byte) []byte { b[32] ^= 1; return b })
		}, kinds: []string{"tile"}, first: seq(256), exit: verify.ExitFailed},
		{attack: "delete a hash tile", do: func(t *testing.T, data string) { os.Remove(epoch(data, "tile", "0", "000")) }, kinds: []string{"tile"}, exit: verify.ExitFailed},
		{attack: "edit an entry bundle", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "tile", "entries", "000"), func(b []byte) []byte { b[5000] ^= 1; return b })
		}, kinds: []string{"bundle"}, exit: verify.ExitFailed},
		{attack: "add to an entry bundle", do: func(t *testing.T, data string) {
			edit(t, epoch(data, "tile", "entries", "001"), func(b []byte) []byte { return append(b, 0, 0) })
		}, kinds: []string{"bundle"}, exit: verify.ExitFailed},
		{attack: "delete an entry bundle", do: func(t *testing.T, data string) { os.Remove(epoch(data, "tile", "entries", "001")) }, kinds: []string{"bundle"}, exit: verify.ExitFailed},
		{attack: "delete the journal, keep the tiles", do: func(t *testing.T, data string) { os.Remove(journalPath(data)) },
			kinds: []string{"file"}, check: func(r *verify.Report) bool { return r.Logs[0].Records == attacked && r.Logs[0].Altered == 0 }, exit: verify.ExitFailed},
		{attack: "garble a page of the journal", do: func(t *testing.T, data string) {
			edit(t, journalPath(data), func(b []byte) []byte { clear(b[20*4096 : 21*4096]); return b })
		}, exit: verify.ExitFailed},
	}
	for _, c := range cases {
		t.Run(c.attack, func(t *testing.T) {
			data := copyData(t, original)
			c.do(t, data)
			trust := trusted
			if c.noTrust {
				trust = ""
			}
			anchors := anchor
			if c.noAnchor {
				anchors = nil
			}
			rep := report(t, data, trust, anchors...)
			ok := rep.Exit == c.exit
			for _, k := range c.kinds {
				ok = ok && rep.Counts[k] > 0
			}
			if c.first != nil {
				ok = ok && len(rep.Problems) > 0 && rep.Problems[0].Seq != nil && *rep.Problems[0].Seq == *c.first
			}
			if c.check != nil {
				ok = ok && c.check(rep)
			}
			if !ok {
				rep.WriteText(t.Output())
				t.Errorf("exit %d, want %d; kinds %v, want %v", rep.Exit, c.exit, rep.Counts, c.kinds)
			}
		})
	}
}

func hasSeq(r *verify.Report, kind string, seq int64) bool {
	return slices.ContainsFunc(r.Problems, func(p verify.Problem) bool { return p.Kind == kind && p.Seq != nil && *p.Seq == seq })
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
