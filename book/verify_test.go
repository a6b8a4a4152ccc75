package book_test

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

// report verifies the book of a data directory.
func report(t testing.TB, data, trust string, anchors ...verify.Anchor) *verify.Report {
	t.Helper()
	r, err := book.OpenReader(filepath.Join(data, "book"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	root, err := verify.ParseTrust(trust)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := verify.Verify(t.Context(), r.Logs(), verify.Options{Book: "test", Trust: root, Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// kept gives the checkpoints that a book publishes now, as somebody keeps them who
// will use them as anchors.
func kept(t testing.TB, data string) []verify.Anchor {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "book", "*", book.CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := verify.ReadAnchors(files)
	if err != nil {
		t.Fatal(err)
	}
	return anchors
}

func TestAnUntouchedBookIsIntact(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	for range 7 {
		fill(t, b, 111)
		if _, err := b.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, b, 5)
	rep := report(t, data, keyIn(t, data).Verifier(), kept(t, data)...) // while it is open
	rep.WriteText(t.Output())
	if rep.Exit != verify.ExitIntact {
		t.Errorf("exit %d", rep.Exit)
	}
}

// A running instance appends and seals while the verifier reads: nothing that is
// only new may look wrong. An anchor is older than what is signed meanwhile.
func TestVerifyWorksWhileTheBookGrows(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{Durability: book.Balanced, SealEvery: time.Millisecond})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := b.Append(context.Background(), heartbeat(1), heartbeat(2), heartbeat(3)); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	for b.Checkpoint().Size < 300 {
		time.Sleep(time.Millisecond)
	}
	for range 15 {
		rep := report(t, data, keyIn(t, data).Verifier(), kept(t, data)...)
		newer := func(g verify.Gap) bool { return g.Kind == "unanchored" }
		if rep.Exit == verify.ExitFailed || rep.Anchors.Valid != 1 || len(slices.DeleteFunc(rep.Gaps, newer)) > 0 {
			rep.WriteText(t.Output())
			t.Errorf("exit %d", rep.Exit)
			break
		}
	}
	close(stop)
	wg.Wait()
}
