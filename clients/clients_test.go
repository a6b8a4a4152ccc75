package clients

import (
	"context"
	"encoding/json/v2"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
)

// TestRangesAreASet holds ranges against a plain set of numbers.
func TestRangesAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Numbers
		set := map[int64]bool{}
		for _, n := range rapid.SliceOf(rapid.Int64Range(1, 60)).Draw(t, "numbers") {
			last := n + rapid.Int64Range(0, 3).Draw(t, "more")
			r.add(span{n, last})
			for i := n; i <= last; i++ {
				set[i] = true
			}
		}
		if r.count() != int64(len(set)) {
			t.Fatalf("%d numbers counted, %d in the set", r.count(), len(set))
		}
		missing := map[int64]bool{}
		for _, g := range r.gaps() {
			for i := g.first; i <= g.last; i++ {
				missing[i] = true
			}
		}
		for i := int64(1); i <= r.highest(); i++ {
			if set[i] == missing[i] {
				t.Fatalf("%d: seen %v, missing %v", i, set[i], missing[i])
			}
			if set[i] != r.covers(span{i, i}) {
				t.Fatalf("%d: covers is wrong", i)
			}
		}
		for i := 1; i < len(r.list); i++ {
			if r.list[i].first <= r.list[i-1].last+1 {
				t.Fatalf("runs touch: %v", r.list)
			}
		}
	})
}

// ledger is a recorder that folds what it takes back in, as the book does.
type ledger struct {
	t     *testing.T
	c     *Clients
	fail  error
	gaps  []guardbook.ClientEntry
	other int
}

func (l *ledger) Append(_ context.Context, drafts ...guardbook.Draft) error {
	if l.fail != nil {
		return l.fail
	}
	for _, d := range drafts {
		body := d.Body.(guardbook.ClientEntry)
		if body.Event == "gap" {
			l.gaps = append(l.gaps, body)
		} else {
			l.other++
		}
		apply(l.t, l.c, d.Type, body)
	}
	return nil
}

func apply(t *testing.T, c *Clients, typ guardbook.EntryType, body any) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	head, err := json.Marshal(guardbook.Header{V: 1, Log: "l", ID: "i", Rec: time.Now().UTC().Format(guardbook.TimeLayout), Type: typ, Tenant: "default"})
	if err != nil {
		t.Fatal(err)
	}
	whole := append(append(head[:len(head)-1:len(head)-1], ','), raw[1:]...)
	e, err := guardbook.ParseEntry(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(e); err != nil {
		t.Fatal(err)
	}
}

func decided(t *testing.T, c *Clients, seqs ...int64) {
	t.Helper()
	for _, n := range seqs {
		apply(t, c, guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "bot", Client: "p1", ClientSeq: n})
	}
}

func newLedger(t *testing.T) (*Clients, *ledger) {
	l := &ledger{t: t}
	c := New(Options{Recorder: l})
	l.c = c
	return c, l
}

func TestANumberThatNeverArrivesBecomesOneGapEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := newLedger(t)
		decided(t, c, 1, 2, 5, 6)
		report := func() {
			t.Helper()
			if err := c.report(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		report()
		time.Sleep(patience / 2)
		decided(t, c, 4) // overtaken, not lost
		report()
		if len(l.gaps) != 0 {
			t.Fatalf("reported too early: %+v", l.gaps)
		}
		time.Sleep(2 * patience)
		report()
		time.Sleep(2 * patience)
		report()
		if len(l.gaps) != 1 || l.gaps[0].First != 3 || l.gaps[0].Last != 3 || l.gaps[0].Count != 1 || l.gaps[0].Agent != "bot" {
			t.Fatalf("got %+v", l.gaps)
		}
		if got := c.List(); len(got) != 1 || len(got[0].Missing) != 1 || got[0].Missing[0] != (Missing{3, 3}) || got[0].Highest != 6 || got[0].Seen != 5 {
			t.Errorf("list: %+v", got)
		}
		decided(t, c, 3) // a spool that was found a week later
		if got := c.List(); len(got[0].Missing) != 0 || got[0].Events["gap"] != 1 {
			t.Errorf("list: %+v", got)
		}
	})
}

func TestWhatIsToldTwiceIsWrittenOnce(t *testing.T) {
	c, l := newLedger(t)
	event := func(id string, seq int64) Event {
		return Event{ID: id, Draft: guardbook.Draft{Type: guardbook.TypeClient, Body: guardbook.ClientEntry{Agent: "bot", Client: "p1", Event: "refused", Told: id, ClientSeq: seq}}}
	}
	l.fail = errors.New("disk full")
	if _, _, err := c.Record(t.Context(), "bot", "default", "p1", []Event{event("a", 1)}); err == nil {
		t.Fatal("a failed write was taken for a success")
	}
	l.fail = nil
	accepted, duplicate, err := c.Record(t.Context(), "bot", "default", "p1", []Event{event("a", 1), event("b", 2), event("a", 1)})
	if err != nil || accepted != 2 || duplicate != 1 {
		t.Fatalf("accepted %d, duplicate %d, %v", accepted, duplicate, err)
	}
	accepted, duplicate, err = c.Record(t.Context(), "bot", "default", "p1", []Event{event("a", 1), event("b", 2)})
	if err != nil || accepted != 0 || duplicate != 2 || l.other != 2 {
		t.Errorf("accepted %d, duplicate %d, written %d, %v", accepted, duplicate, l.other, err)
	}
	// A server that starts anew knows it from the book.
	again, _ := newLedger(t)
	for _, id := range []string{"a", "b"} {
		apply(t, again, guardbook.TypeClient, guardbook.ClientEntry{Agent: "bot", Client: "p1", Event: "refused", Told: id})
	}
	if accepted, duplicate, err := again.Record(t.Context(), "bot", "default", "p1", []Event{event("b", 2)}); err != nil || accepted != 0 || duplicate != 1 {
		t.Errorf("after a restart: accepted %d, duplicate %d, %v", accepted, duplicate, err)
	}
}
