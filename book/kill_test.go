package book_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

const (
	dataVar       = "GUARDBOOK_TEST_DATA"
	durabilityVar = "GUARDBOOK_TEST_DURABILITY"
)

// appendUntilKilled is a process that appends from many goroutines and prints
// each entry as soon as it is acknowledged.
func appendUntilKilled() int {
	key, _, err := book.LoadKey(filepath.Join(os.Getenv(dataVar), "signing-key"))
	if err != nil {
		slog.Error("child", "error", err)
		return 1
	}
	b, err := book.Open(filepath.Join(os.Getenv(dataVar), "book"), book.Options{
		Key: key, Durability: book.Durability(os.Getenv(durabilityVar)),
		SyncEvery: 5 * time.Millisecond, SealEvery: 10 * time.Millisecond,
	})
	if err != nil {
		slog.Error("child", "error", err)
		return 1
	}
	for a := range 8 {
		go func() {
			for i := int64(0); ; i++ {
				group := []guardbook.Draft{heartbeat(i)}
				if a == 0 {
					group = append(group, heartbeat(i), heartbeat(i))
				}
				rs, err := b.Append(context.Background(), group...)
				if err != nil {
					slog.Error("child", "error", err)
					os.Exit(1)
				}
				for _, r := range rs {
					// One write a line, so that the pipe holds whole lines only.
					os.Stdout.Write(fmt.Appendf(nil, "%d %s\n", r.Seq, r.ID))
				}
			}
		}()
	}
	select {}
}

// A hundred times, half of them in each mode, a process is killed with kill -9 while it appends. Every entry
// that it had acknowledged is there, the numbers have no gap, and the tree
// verifies.
func TestKill9LosesNoAcknowledgedEntry(t *testing.T) {
	for _, d := range []book.Durability{book.Strict, book.Balanced} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			const kills, perBook = 50, 5
			data, acknowledged := "", map[int64]string{}
			total := 0
			for round := range kills {
				if round%perBook == 0 { // a book that is small is verified fast
					data, acknowledged = t.TempDir(), map[int64]string{}
				}
				total += killOnce(t, data, d, acknowledged)
				afterKill(t, data, d, acknowledged)
			}
			if total == 0 {
				t.Error("no round got to an acknowledgement: nothing was tested")
			}
			t.Logf("%d entries acknowledged before %d kills", total, kills)
		})
	}
}

func killOnce(t *testing.T, data string, d book.Durability, acknowledged map[int64]string) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVar+"=append", dataVar+"="+data, durabilityVar+"="+string(d))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	n := 0
	read := func() bool {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		var seq int64
		var id string
		if _, err := fmt.Sscanf(line, "%d %s\n", &seq, &id); err != nil {
			t.Fatalf("child wrote %q", line)
		}
		if other, ok := acknowledged[seq]; ok {
			t.Errorf("number %d was given to %s and %s", seq, other, id)
		}
		acknowledged[seq] = id
		n++
		return true
	}
	if rand.IntN(4) > 0 { // else it may still be opening the book
		read()
	}
	time.AfterFunc(time.Duration(rand.Int64N(int64(30*time.Millisecond))), func() { child.Process.Kill() })
	for read() {
	}
	io.Copy(io.Discard, out)
	child.Wait()
	if child.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", child.ProcessState)
	}
	return n
}

func afterKill(t *testing.T, data string, d book.Durability, acknowledged map[int64]string) {
	t.Helper()
	b := open(t, data, book.Options{Durability: d})
	defer b.Close()
	if o := b.Opened(); o.Epoch != 1 || o.Lost != "" {
		t.Fatalf("opened as %+v", o)
	}
	found := int64(0)
	for found < b.Size() {
		es, err := b.Read(t.Context(), found, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if id, ok := acknowledged[e.Seq]; ok && id != e.ID {
				t.Fatalf("entry %d is %s, acknowledged was %s", e.Seq, e.ID, id)
			}
		}
		found += int64(len(es))
	}
	for seq := range acknowledged {
		if seq >= found {
			t.Fatalf("entry %d was acknowledged and is lost: the book has %d", seq, found)
		}
	}
	if rep := report(t, data, keyIn(t, data).Verifier(), kept(t, data)...); rep.Exit != verify.ExitIntact && found > 0 {
		rep.WriteText(t.Output())
		t.Fatal("the book does not verify")
	}
}
