package book_test

import (
	"context"
	"encoding/json/jsontext"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
)

// keyIn makes, or reads again, the signing key of a test's data directory.
func keyIn(t testing.TB, data string) *book.Key {
	t.Helper()
	k, _, err := book.LoadKey(filepath.Join(data, "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens the book of a data directory and closes it with the test.
func open(t testing.TB, data string, o book.Options) *book.Book {
	t.Helper()
	if o.Key == nil {
		o.Key = keyIn(t, data)
	}
	if o.SealEvery == 0 {
		o.SealEvery = time.Hour // tests seal when they mean to
	}
	b, err := book.Open(filepath.Join(data, "book"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func heartbeat(n int64) guardbook.Draft {
	return guardbook.Draft{Type: guardbook.TypeHeartbeat, Body: guardbook.HeartbeatEntry{
		Boot: "b", Uptime: n, Interval: 30000, Counters: map[string]int64{"interactions": n, "blocked": 0},
	}}
}

// fill appends n entries in groups.
func fill(t testing.TB, b *book.Book, n int) {
	t.Helper()
	for n > 0 {
		var group []guardbook.Draft
		for range min(n, 100) {
			group = append(group, heartbeat(int64(n)))
			n--
		}
		if _, err := b.Append(t.Context(), group...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryAppendGetsTheNextNumber(t *testing.T) {
	for _, d := range []book.Durability{book.Strict, book.Balanced} {
		t.Run(string(d), func(t *testing.T) {
			b := open(t, t.TempDir(), book.Options{Durability: d})
			const appenders, each = 16, 40
			var mu sync.Mutex
			seen := map[int64]string{}
			var wg sync.WaitGroup
			for a := range appenders {
				wg.Go(func() {
					for i := range each {
						rs, err := b.Append(context.Background(), heartbeat(int64(a)), heartbeat(int64(i)))
						if err != nil {
							t.Error(err)
							return
						}
						if rs[1].Seq != rs[0].Seq+1 {
							t.Errorf("a group got %d and %d", rs[0].Seq, rs[1].Seq)
						}
						mu.Lock()
						for _, r := range rs {
							seen[r.Seq] = r.ID
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if got := b.Size(); got != appenders*each*2 || len(seen) != appenders*each*2 {
				t.Fatalf("size %d, %d numbers given out, want %d", got, len(seen), appenders*each*2)
			}
			es, err := b.Read(t.Context(), 0, 10000)
			if err != nil {
				t.Fatal(err)
			}
			rec := ""
			for i, e := range es {
				if e.Seq != int64(i) || seen[e.Seq] != e.ID || e.Log != b.Origin() || e.Rec < rec {
					t.Fatalf("entry %d: %s", i, e.Raw)
				}
				rec = e.Rec
				v := jsontext.Value(e.Raw).Clone()
				if err := v.Canonicalize(); err != nil || string(v) != string(e.Raw) {
					t.Fatalf("entry %d is not canonical: %s", i, e.Raw)
				}
			}
		})
	}
}

func TestABookGoesOnWhereItWasClosed(t *testing.T) {
	data := t.TempDir()
	b := open(t, data, book.Options{})
	if got := fmt.Sprint(b.Opened()); got != fmt.Sprint(book.Opened{Epoch: 1, Previous: -1, Clean: true}) {
		t.Errorf("a new book was opened as %s", got)
	}
	fill(t, b, 300)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, data, book.Options{})
	if got := fmt.Sprint(b.Opened()); got != fmt.Sprint(book.Opened{Epoch: 1, Previous: 299, Clean: false}) {
		t.Errorf("opened as %s", got)
	}
	rs, err := b.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeStop, Body: guardbook.StopEntry{Reason: "test"}})
	if err != nil || rs[0].Seq != 300 {
		t.Fatalf("%v %v", rs, err)
	}
	b.Close()
	b = open(t, data, book.Options{})
	if !b.Opened().Clean {
		t.Error("a book that ended with a stop entry was not opened clean")
	}
}
