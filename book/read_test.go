package book_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/c2sp"
	"golang.org/x/mod/sumdb/note"
)

func TestAFollowerGetsEveryEntryOnceAndInOrder(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{Durability: book.Balanced})
	fill(t, b, 700)
	b.Close()
	b = open(t, data, book.Options{Durability: book.Balanced}) // the old ones are in the journal only
	ctx, cancel := context.WithCancel(t.Context())
	done := errors.New("seen all")
	var wg sync.WaitGroup
	for from := range int64(3) {
		wg.Go(func() {
			next := from * 350
			err := b.Follow(ctx, next, func(es []guardbook.Entry) error {
				for _, e := range es {
					if e.Seq != next {
						t.Errorf("got %d, want %d", e.Seq, next)
					}
					next++
				}
				if next == 1400 {
					return done
				}
				return nil
			})
			if !errors.Is(err, done) {
				t.Errorf("follower ended with %v", err)
			}
		})
	}
	fill(t, b, 700)
	wg.Wait()

	wg.Go(func() {
		if err := b.Follow(ctx, 1400, func([]guardbook.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled follower ended with %v", err)
		}
	})
	cancel()
	wg.Wait()
	wg.Go(func() {
		if err := b.Follow(context.Background(), 1400, func([]guardbook.Entry) error { return nil }); !errors.Is(err, book.ErrClosed) {
			t.Errorf("the follower of a closed book ended with %v", err)
		}
	})
	b.Close()
	wg.Wait()
	if _, err := b.Append(context.Background(), heartbeat(1)); !errors.Is(err, book.ErrClosed) {
		t.Errorf("append to a closed book: %v", err)
	}
}

func TestAnEntryIsFoundByItsID(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{Durability: book.Balanced})
	old := heartbeat(1)
	old.ID = "01890000-0000-7000-8000-000000000001" // made long before it was recorded
	rs, err := b.Append(t.Context(), heartbeat(0), old)
	if err != nil {
		t.Fatal(err)
	}
	// An entry whose body names the id of another as its own.
	if _, err := b.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeOperator, Body: map[string]any{"aa": map[string]string{"id": rs[0].ID}}}); err != nil {
		t.Fatal(err)
	}
	fill(t, b, 300)
	for _, r := range rs {
		if e, err := b.Find(t.Context(), strings.ToUpper(r.ID)); err != nil || e.Seq != r.Seq {
			t.Errorf("found %d, %v; want %d", e.Seq, err, r.Seq)
		}
	}
	for _, id := range []string{"01890000-0000-7000-8000-000000000002", "", "x"} {
		if _, err := b.Find(t.Context(), id); !errors.Is(err, book.ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Another process reads the book while it is written.
func TestAReaderSeesTheBookWhileItIsWritten(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	fill(t, b, 300)
	if _, err := b.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fill(t, b, 10)
	if n, err := r.Size(t.Context(), 1); n != 310 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	es, err := r.Read(t.Context(), 1, 305, 100)
	if err != nil || len(es) != 5 {
		t.Errorf("read %d, %v", len(es), err)
	}
	v, err := note.NewVerifier(r.Epochs()[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	e, in, err := r.Find(t.Context(), must(b.Entry(t.Context(), 17)).ID)
	if err != nil || in != 1 || e.Seq != 17 {
		t.Fatalf("found %d in %d, %v", e.Seq, in, err)
	}
	proof, err := r.Prove(t.Context(), 1, 17)
	if err != nil {
		t.Fatal(err)
	}
	if c, at, err := c2sp.CheckProof(proof, e.Raw, v); err != nil || at != 17 || c.Size != 300 {
		t.Errorf("%d in %d: %v", at, c.Size, err)
	}
	if _, err := r.Prove(t.Context(), 1, 305); err == nil || !strings.Contains(err.Error(), "not sealed yet") {
		t.Errorf("proof of an entry that isn't sealed: %v", err)
	}
	if _, err := r.Prove(t.Context(), 1, 999); !errors.Is(err, book.ErrNotFound) {
		t.Errorf("proof of an entry that isn't there: %v", err)
	}
	if notes, err := r.Checkpoints(1); err != nil || len(notes) != 2 {
		t.Errorf("%d checkpoints, %v", len(notes), err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTheBookSealsItselfWhenThereIsSomethingNew(t *testing.T) {
	b := open(t, t.TempDir(), book.Options{SealEvery: 5 * time.Millisecond})
	if c := b.Checkpoint(); c.Size != 0 || c.Note == nil {
		t.Fatalf("a new book has the checkpoint %+v", c)
	}
	for n := int64(1); n < 4; n++ {
		fill(t, b, 1)
		for b.Checkpoint().Size != n {
			time.Sleep(time.Millisecond)
		}
	}
	// An entry that isn't sealed yet is sealed when a proof is asked for.
	fill(t, b, 1)
	if _, err := b.Prove(t.Context(), 3); err != nil {
		t.Error(err)
	}
}

func TestTheSigningKeyIsMadeOnceAndKeptPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing-key")
	k, created, err := book.LoadKey(path)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, created, err := book.LoadKey(path)
	if err != nil || created || again.Verifier() != k.Verifier() || again.Fingerprint() != k.Fingerprint() {
		t.Errorf("loaded again: %v %v", created, err)
	}
	if public := strings.TrimSpace(string(read(t, path+".pub"))); public != k.Verifier() {
		t.Errorf("published %q", public)
	}
	for epoch, name := range map[int]string{1: "guardbook/" + k.Instance(), 2: "guardbook/" + k.Instance() + "/2"} {
		s, err := k.Signer(epoch)
		if err != nil {
			t.Fatal(err)
		}
		v, err := note.NewVerifier(k.EpochVerifier(epoch))
		if err != nil || v.Name() != name || s.Name() != name {
			t.Errorf("epoch %d signs as %q (%v)", epoch, s.Name(), err)
		}
		signed, err := c2sp.Sign(c2sp.Checkpoint{Origin: name}, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c2sp.Open(signed, v); err != nil {
			t.Errorf("epoch %d: %v", epoch, err)
		}
		// A checkpoint is signed by the book only, never as somebody's document.
		if _, err := k.Sign(c2sp.Checkpoint{Origin: name}.Text()); err == nil {
			t.Error("a checkpoint was signed as a document")
		}
	}
	if _, err := k.Sign("a document\n"); err != nil {
		t.Error(err)
	}
	for _, broken := range []string{"", "x", "PRIVATE+KEY+guardbook/x+00000000+AA==", strings.Replace(string(read(t, path)), "guardbook/", "other/", 1)} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := book.LoadKey(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", broken, err)
		}
	}
}
