package respond_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

func TestWhatWasDeliveredIsNotDeliveredAgainAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		to := &oncall{}
		_, stop := follow(t, r, to, respond.AlertOptions{})
		decide(t, r, decision("billing", "p/x", guardbook.High))
		decide(t, r, decision("billing", "p/x", guardbook.High))
		time.Sleep(time.Second)
		stop()
		for range 3 {
			_, stop = follow(t, r, to, respond.AlertOptions{})
			time.Sleep(10 * time.Minute)
			stop()
		}
		wantSteps(t, r.entries(t), "opened high 1", "delivered 1", "notified", "repeated high 2")
		if n := len(to.notices()); n != 1 {
			t.Errorf("%d notices", n)
		}
	})
}

func TestAPendingDeliveryGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		down := &oncall{answer: func(respond.Notice) (respond.Delivery, error) {
			return respond.Delivery{}, errors.New("connection refused")
		}}
		_, stop := follow(t, r, down, respond.AlertOptions{})
		decide(t, r, decision("billing", "p/x", guardbook.High))
		time.Sleep(time.Minute)
		stop()
		up := &oncall{}
		_, stop = follow(t, r, up, respond.AlertOptions{})
		defer stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		wantSteps(t, r.entries(t), "opened high 1", "failed 1", "failed 2", "delivered 3", "notified")
		if down.notices()[0].ID != up.notices()[0].ID {
			t.Error("the notice's id changed with the restart")
		}
	})
}

func TestAnAttemptThatTheStopCutShortIsMadeByTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPages()
		a := respond.NewAlerts(p, map[string]respond.Receiver{"oncall": waiting{}}, respond.AlertOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx, p, 0) }()
		decide(t, p, decision("billing", "p/x", guardbook.High))
		cancel()
		<-done
		wantSteps(t, p.all(), "opened high 1")
		_, stop := follow(t, p, &oncall{}, respond.AlertOptions{})
		defer stop()
		wantSteps(t, p.all(), "opened high 1", "delivered 1", "notified")
	})
}

// waiting is a receiver that never answers.
type waiting struct{}

func (waiting) Via() string { return "test" }

func (waiting) Notify(ctx context.Context, _ respond.Notice) (respond.Delivery, error) {
	<-ctx.Done()
	return respond.Delivery{}, ctx.Err()
}

// A crash may come behind any entry. Whatever was written before it, the next run
// adds what is missing and nothing twice.
func TestACrashBehindAnyEntryLosesNothingAndDoublesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPages()
		down := &oncall{answer: func(n respond.Notice) (respond.Delivery, error) {
			if n.Attempt == 1 {
				return respond.Delivery{}, errors.New("connection refused")
			}
			return respond.Delivery{Status: 200}, nil
		}}
		a, stop := follow(t, p, down, respond.AlertOptions{})
		for i := range 3 {
			decide(t, p, decision("billing", "p/x", guardbook.High), decision("support", "p/x", guardbook.Medium))
			if i == 1 {
				decide(t, p, decision("billing", "p/x", guardbook.Critical))
			}
			time.Sleep(45 * time.Second)
		}
		if _, err := a.Close(t.Context(), p.all()[0].ID, "ann", "true_positive", "patched"); err != nil {
			t.Fatal(err)
		}
		decide(t, p, decision("billing", "p/x", guardbook.High))
		time.Sleep(time.Hour)
		synctest.Wait()
		stop()
		whole := p.all()
		for n := range len(whole) + 1 {
			q := newPages(whole[:n:n]...)
			b, stop := follow(t, q, &oncall{}, respond.AlertOptions{})
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			checkWhole(t, fmt.Sprintf("a crash behind entry %d", n-1), q.all(), b)
			stop()
		}
	})
}

// checkWhole checks what must hold of a book when nothing is left to do.
func checkWhole(t *testing.T, when string, entries []guardbook.Entry, a *respond.Alerts) {
	t.Helper()
	opened, settled, decisions := map[string]int{}, map[string]int{}, int64(0)
	for _, e := range entries {
		switch e.Type {
		case guardbook.TypeDecision:
			decisions++
		case guardbook.TypeAlert:
			b := body[guardbook.AlertEntry](t, e)
			switch b.Op {
			case "opened":
				opened[b.Alert]++
			case "notified":
				settled[b.Alert+"."+b.Severity.String()]++
			}
		}
	}
	var counted int64
	for _, x := range a.List(respond.Filter{}) {
		counted += x.Count
		if opened[x.ID] != 1 {
			t.Errorf("%s: alert %s was opened %d times", when, x.ID, opened[x.ID])
		}
		if x.Delivery != "delivered" || settled[x.ID+"."+x.Severity.String()] != 1 {
			t.Errorf("%s: alert %s is %s, told %v", when, x.ID, x.Delivery, settled)
		}
		whole, err := a.Get(x.ID)
		if err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		for _, s := range whole.Steps {
			last = max(last, s.Count)
		}
		if last != x.Count {
			t.Errorf("%s: the book says %d for alert %s, which has %d", when, last, x.ID, x.Count)
		}
	}
	if counted != decisions {
		t.Errorf("%s: %d decisions, %d counted", when, decisions, counted)
	}
}

func TestStepsWaitForABookThatIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPages()
		to := &oncall{}
		a, stop := follow(t, p, to, respond.AlertOptions{})
		defer stop()
		p.limit = 1
		decide(t, p, decision("billing", "p/x", guardbook.High))
		time.Sleep(10 * time.Minute)
		if n := len(to.notices()); n != 0 || p.Size() != 1 {
			t.Fatalf("%d notices, %d entries", n, p.Size())
		}
		if _, err := a.Ack(t.Context(), p.all()[0].ID, "ann", ""); !errors.Is(err, respond.ErrConflict) {
			t.Errorf("ack of an alert that is not in the book: %v", err)
		}
		p.mu.Lock()
		p.limit = 2 // the opening fits, what came of the delivery does not
		p.mu.Unlock()
		time.Sleep(10 * time.Minute)
		p.mu.Lock()
		p.limit = 0
		p.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		wantSteps(t, p.all(), "opened high 1", "delivered 1", "notified")
		if n := len(to.notices()); n != 1 {
			t.Errorf("%d notices: an attempt was made again because it could not be recorded", n)
		}
	})
}

func TestTheAlertsAfterARestartAreThoseBefore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPages()
			flaky := &oncall{answer: func(n respond.Notice) (respond.Delivery, error) {
				if len(n.ID)%3 == n.Attempt%3 {
					return respond.Delivery{Status: 500}, errors.New("it answered 500")
				}
				return respond.Delivery{Status: 200, Message: n.ID}, nil
			}}
			a, stop := follow(t, p, flaky, respond.AlertOptions{KeepClosed: 3})
			for range rapid.IntRange(1, 30).Draw(rt, "steps") {
				play(t, rt, a, p)
			}
			stop()
			again := respond.NewAlerts(p, nil, respond.AlertOptions{KeepClosed: 3})
			for _, e := range p.all() {
				if err := again.Apply(e); err != nil {
					rt.Fatal(err)
				}
			}
			before, after := a.List(respond.Filter{}), again.List(respond.Filter{})
			if d := cmp.Diff(before, after, cmpopts.EquateEmpty()); d != "" {
				rt.Fatal(d)
			}
			for _, x := range before {
				one, err1 := a.Get(x.ID)
				two, err2 := again.Get(x.ID)
				if d := cmp.Diff(one, two, cmpopts.EquateEmpty()); d != "" || err1 != nil || err2 != nil {
					rt.Fatal(d, err1, err2)
				}
			}
		})
	})
}

// play does one random thing.
func play(t *testing.T, rt *rapid.T, a *respond.Alerts, p *pages) {
	if rapid.Bool().Draw(rt, "decide") {
		agent := rapid.SampledFrom([]string{"billing", "support"}).Draw(rt, "agent")
		rule := rapid.SampledFrom([]string{"p/x", "p/y"}).Draw(rt, "rule")
		s := guardbook.Severity(rapid.IntRange(0, 4).Draw(rt, "severity"))
		decide(t, p, decision(agent, rule, s))
	}
	time.Sleep(time.Duration(rapid.IntRange(0, 100).Draw(rt, "seconds")) * time.Second)
	synctest.Wait()
	open := a.List(respond.Filter{})
	if len(open) == 0 {
		return
	}
	x := rapid.SampledFrom(open).Draw(rt, "alert")
	var err error
	switch rapid.SampledFrom([]string{"", "ack", "assign", "close"}).Draw(rt, "step") {
	case "ack":
		_, err = a.Ack(t.Context(), x.ID, rapid.SampledFrom([]string{"ann", "bob"}).Draw(rt, "by"), "")
	case "assign":
		_, err = a.Assign(t.Context(), x.ID, "ann", rapid.SampledFrom([]string{"ann", "cat"}).Draw(rt, "owner"))
	case "close":
		_, err = a.Close(t.Context(), x.ID, "ann", "test", "done")
	}
	if err != nil && !errors.Is(err, respond.ErrConflict) {
		rt.Fatal(err)
	}
}
