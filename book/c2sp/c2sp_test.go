package c2sp_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/guardbook/guardbook/book/c2sp"
)

func TestTilePathsAreThoseOfTheSpecification(t *testing.T) {
	for _, c := range []struct {
		level int
		n     int64
		width int
		want  string
	}{
		{0, 0, 256, "tile/0/000"},
		{0, 0, 1, "tile/0/000.p/1"},
		{1, 273, 0, "tile/1/273"},
		{0, 1234067, 0, "tile/0/x001/x234/067"},
		{c2sp.Entries, 999, 255, "tile/entries/999.p/255"},
		{c2sp.Entries, 1000, 256, "tile/entries/x001/000"},
	} {
		if got := c2sp.TilePath(c.level, c.n, c.width); got != c.want {
			t.Errorf("%d %d %d: %s, want %s", c.level, c.n, c.width, got, c.want)
		}
	}
}

// The edge gives the same hashes and roots as tlog does from all stored hashes.
func TestTheEdgeAgreesWithTlog(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	var edge c2sp.Edge
	for n := range int64(600) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := c2sp.LoadEdge(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if edge.Root() != want || loaded.Root() != want || loaded.Size() != n {
			t.Fatalf("size %d: root %s, loaded %s, want %s", n, edge.Root(), loaded.Root(), want)
		}
		leaf := tlog.RecordHash(fmt.Append(nil, n))
		hashes, err := tlog.StoredHashesForRecordHash(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := edge.Append(nil, leaf); !slices.Equal(hashes, got) || len(hashes) != c2sp.Completes(n) {
			t.Fatalf("leaf %d completes %v, want %v", n, got, hashes)
		}
		stored = append(stored, hashes...)
	}
}

func TestABundleGivesItsEntriesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "entries")
		var bundle []byte
		for _, e := range entries {
			bundle = c2sp.AppendEntry(bundle, e)
		}
		rest := bundle
		for i, want := range entries {
			var got []byte
			var err error
			if got, rest, err = c2sp.NextEntry(rest); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("entry %d: %q, %v", i, got, err)
			}
		}
		if len(rest) != 0 {
			t.Fatalf("%d bytes are left", len(rest))
		}
	})
}

func testKey(t testing.TB) (note.Signer, note.Verifier) {
	skey, vkey, err := note.GenerateKey(bytes.NewReader(make([]byte, 64)), "example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func TestCheckpointsThatAreNotExactlyThatAreRefused(t *testing.T) {
	s, v := testKey(t)
	good := c2sp.Checkpoint{Origin: "example.com/log", Size: 7, Root: tlog.Hash{1}}
	signed, err := c2sp.Sign(good, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c2sp.Open(signed, v); err != nil || got != good {
		t.Errorf("read back as %+v, %v", got, err)
	}
	root := tlog.Hash{1}.String()
	for _, text := range []string{
		"example.com/log\n07\n" + root + "\n", "example.com/log\n-1\n" + root + "\n", "example.com/log\n7\nAAAA\n",
		"example.com/log\n7\n" + root + "\nextension\n", "\n7\n" + root + "\n", "example.com/log\n7\n", "example.com/log\n99999999999999999999\n" + root + "\n",
	} {
		if _, err := c2sp.ParseCheckpoint(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	other, err := c2sp.Sign(c2sp.Checkpoint{Origin: "example.com/other", Size: 7}, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c2sp.Open(other, v); err == nil {
		t.Error("a checkpoint of another origin was taken")
	}
}

func TestAHistoryGivesItsNotesBackAndSaysWhereItIsTorn(t *testing.T) {
	s, _ := testKey(t)
	var history []byte
	var notes [][]byte
	for n := range int64(5) {
		signed, err := c2sp.Sign(c2sp.Checkpoint{Origin: "example.com/log", Size: n}, s)
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, signed)
		history = c2sp.AppendHistory(history, signed)
	}
	for cut := 0; cut <= len(history); cut++ {
		var got [][]byte
		var torn int64 = -1
		for s, err := range c2sp.History(bytes.NewReader(history[:cut])) {
			if errors.Is(err, c2sp.ErrTorn) {
				torn = s.Offset
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, s.Note)
		}
		whole := int64(0)
		for _, n := range got {
			whole += int64(len(n)) + 1
		}
		if !slices.EqualFunc(notes[:len(got)], got, bytes.Equal) {
			t.Fatalf("cut at %d: %q", cut, got)
		}
		if whole == int64(cut) && torn != -1 || whole < int64(cut) && torn != whole {
			t.Fatalf("cut at %d: %d whole bytes, torn at %d", cut, whole, torn)
		}
	}
}

func FuzzProof(f *testing.F) {
	s, v := testKey(f)
	leaf := []byte("entry")
	var e c2sp.Edge
	e.Append(nil, tlog.RecordHash(leaf))
	signed, err := c2sp.Sign(c2sp.Checkpoint{Origin: "example.com/log", Size: 1, Root: e.Root()}, s)
	if err != nil {
		f.Fatal(err)
	}
	good := c2sp.FormatProof(0, nil, signed)
	f.Add(good, leaf)
	f.Add(bytes.Replace(good, []byte("index 0"), []byte("index 1"), 1), leaf)
	f.Add(bytes.Replace(good, []byte("\nindex"), []byte("\nextra AA==\nindex"), 1), leaf)
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 00\n"), leaf)
	f.Fuzz(func(t *testing.T, proof, entry []byte) {
		if _, at, err := c2sp.CheckProof(proof, entry, v); err == nil && (!bytes.Equal(entry, leaf) || at != 0) {
			t.Errorf("proved %q at %d by\n%s", entry, at, proof)
		}
		for range c2sp.History(bytes.NewReader(proof)) {
		}
		for rest := proof; ; {
			var err error
			if _, rest, err = c2sp.NextEntry(rest); err != nil {
				break
			}
		}
	})
}
