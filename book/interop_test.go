package book_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
)

// tileFiles lets torchwood read a log's directory.
type tileFiles string

func (d tileFiles) ReadTiles(_ context.Context, ts []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range ts {
		b, err := os.ReadFile(filepath.Join(string(d), filepath.FromSlash(torchwood.TilePath(t))))
		if errors.Is(err, fs.ErrNotExist) && t.W < 256 { // C2SP: the full tile stands in for a partial one
			full := t
			full.W = 256
			if b, err = os.ReadFile(filepath.Join(string(d), filepath.FromSlash(torchwood.TilePath(full)))); err == nil && t.L >= 0 {
				b = b[:t.W*tlog.HashSize]
			}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (d tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (d tileFiles) ReadEndpoint(_ context.Context, path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), path))
}

// An independent implementation of C2SP reads what the book publishes: checkpoint,
// every entry through the tiles, and proofs.
func TestTorchwoodVerifiesCheckpointTilesAndProofs(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 257, 700, 256*256 + 3} {
		data := t.TempDir()
		b := open(t, data, book.Options{Durability: book.Balanced})
		for left := size; left > 0; left -= 33_000 { // more than one seal: partial tiles grow into full ones
			small := make([]guardbook.Draft, min(left, 33_000))
			for i := range small {
				small[i] = guardbook.Draft{ID: "x", Type: guardbook.TypeStop}
			}
			if _, err := b.Append(t.Context(), small...); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		epoch := filepath.Join(data, "book", "1")
		v, err := note.NewVerifier(keyIn(t, data).Verifier())
		if err != nil {
			t.Fatal(err)
		}
		policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(b.Origin()), torchwood.SingleVerifierPolicy(v))
		signed, err := os.ReadFile(filepath.Join(epoch, book.CheckpointFile))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := torchwood.VerifyCheckpoint(signed, policy)
		if err != nil || c.N != int64(size) {
			t.Fatalf("size %d: checkpoint of %d: %v", size, c.N, err)
		}
		client, err := torchwood.NewClient(tileFiles(epoch))
		if err != nil {
			t.Fatal(err)
		}
		next := int64(0)
		for i, entry := range client.AllEntries(t.Context(), c.Tree, 0) {
			if i != next {
				t.Fatalf("size %d: entry %d after %d", size, i, next-1)
			}
			next++
			if i%(1+int64(size)/10) != 0 && i != int64(size)-1 {
				continue
			}
			e, err := b.Entry(t.Context(), i)
			if err != nil || string(e.Raw) != string(entry) {
				t.Fatalf("size %d: entry %d differs: %v", size, i, err)
			}
			proof, err := b.Prove(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			if err := torchwood.VerifyProof(policy, tlog.RecordHash(entry), proof); err != nil {
				t.Fatalf("size %d: proof of %d: %v\n%s", size, i, err, proof)
			}
			if i > 0 {
				if err := torchwood.VerifyProof(policy, tlog.RecordHash([]byte("another")), proof); err == nil {
					t.Fatal("a proof proves another entry")
				}
			}
		}
		if err := client.Err(); err != nil || next != int64(size) {
			t.Fatalf("size %d: read %d entries: %v", size, next, err)
		}
	}
}
