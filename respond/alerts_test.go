package respond_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

// oncall is a receiver that remembers, and answers as it is told to.
type oncall struct {
	mu     sync.Mutex
	got    []respond.Notice
	at     []time.Time
	answer func(n respond.Notice) (respond.Delivery, error) // nil: delivered
}

func (o *oncall) Via() string { return "test" }

func (o *oncall) Notify(ctx context.Context, n respond.Notice) (respond.Delivery, error) {
	o.mu.Lock()
	o.got, o.at = append(o.got, n), append(o.at, time.Now())
	answer := o.answer
	o.mu.Unlock()
	if answer != nil {
		return answer(n)
	}
	return respond.Delivery{Status: 200, Message: n.ID}, nil
}

func (o *oncall) notices() []respond.Notice {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

// logbook is what alerts are tested with: a real book or one in memory.
type logbook interface {
	respond.Recorder
	respond.Follower
}

// follow runs alerts over a book until stop is called.
func follow(t *testing.T, b logbook, to respond.Receiver, o respond.AlertOptions) (*respond.Alerts, func()) {
	receivers := map[string]respond.Receiver{}
	if to != nil {
		receivers["oncall"] = to
	}
	a := respond.NewAlerts(b, receivers, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, b, 0) }()
	synctest.Wait()
	return a, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}
}

func decision(agent, rule string, s guardbook.Severity) guardbook.DecisionEntry {
	return guardbook.DecisionEntry{
		Agent: agent, Session: "s1", Kind: guardbook.KindToolCall, Tool: &guardbook.ToolRef{Server: "crm", Name: "query"},
		Decision: guardbook.ActionBlock, Rule: rule, Severity: s, Policy: "p", Bundle: "sha256:x", Mode: guardbook.ModeEnforce, Alert: "oncall",
		Findings: []guardbook.Finding{{Class: guardbook.ClassPII, Severity: s, Excerpt: "****"}},
	}
}

func decide(t *testing.T, b respond.Recorder, ds ...guardbook.DecisionEntry) {
	t.Helper()
	for _, d := range ds {
		if err := b.Append(context.Background(), guardbook.Draft{Type: guardbook.TypeDecision, Body: d}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

// steps are the alert and notification entries of a book, in words.
func steps(t *testing.T, entries []guardbook.Entry) []string {
	var out []string
	for _, e := range entries {
		switch e.Type {
		case guardbook.TypeAlert:
			b := body[guardbook.AlertEntry](t, e)
			s := b.Op
			if b.Op == "opened" || b.Op == "repeated" {
				s += fmt.Sprintf(" %s %d", b.Severity, b.Count)
			}
			out = append(out, s)
		case guardbook.TypeNotification:
			b := body[guardbook.NotificationEntry](t, e)
			out = append(out, fmt.Sprintf("%s %d", b.Outcome, b.Attempt))
		}
	}
	return out
}

func wantSteps(t *testing.T, entries []guardbook.Entry, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, steps(t, entries)); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
}

func TestAMissedCanaryOpensAnAlertOfHighSeverity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		a, stop := follow(t, r, nil, respond.AlertOptions{})
		defer stop()
		for _, e := range []guardbook.CanaryEntry{
			{Agent: guardbook.CanaryAgent, Path: "openai/chat", Cell: "user text", OK: true},
			{Agent: guardbook.CanaryAgent, Path: "openai/chat", Cell: "contained", OK: true, Containment: "k"},
			{Agent: guardbook.CanaryAgent, Path: "openai/chat", Cell: "text in the answer"},
			{Agent: guardbook.CanaryAgent, Path: "openai/chat", Cell: "tool result"},
			{Agent: guardbook.CanaryAgent, Path: "inspect", Cell: "input"},
		} {
			if err := r.Append(context.Background(), guardbook.Draft{Type: guardbook.TypeCanary, Body: e}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		list := a.List(respond.Filter{})
		if len(list) != 2 {
			t.Fatalf("%d alerts: %+v", len(list), list)
		}
		for _, x := range list {
			want := int64(1)
			if x.Rule == "canary/openai/chat" {
				want = 2
			}
			if x.Severity != guardbook.High || x.Agent != guardbook.CanaryAgent || x.Receiver != "default" || x.Count != want || !strings.HasPrefix(x.Title, "detection missed a test on ") {
				t.Errorf("alert %+v", x)
			}
		}
	})
}

func TestAnAlertIsOpenedDeliveredOnceAndWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		to := &oncall{}
		a, stop := follow(t, r, to, respond.AlertOptions{Link: func(id string) string { return "https://gb.example/alerts/" + id }})
		defer stop()
		quiet := decision("billing", "p/x", guardbook.High)
		quiet.Alert = ""
		decide(t, r, quiet, decision("billing", "p/findings/pii", guardbook.High))
		time.Sleep(time.Second)
		synctest.Wait()
		es := r.entries(t)
		wantSteps(t, es, "opened high 1", "delivered 1", "notified")
		opened := body[guardbook.AlertEntry](t, es[2])
		want := guardbook.AlertEntry{
			Op: "opened", Alert: es[1].ID, Key: "default|billing|p/findings/pii|pii", Agent: "billing", Session: "s1", Rule: "p/findings/pii",
			Class: guardbook.ClassPII, Severity: guardbook.High, Title: "billing: pii blocked in tool_call query", Receiver: "oncall", Event: es[1].ID, Count: 1,
		}
		if d := cmp.Diff(want, opened); d != "" {
			t.Error(d)
		}
		n := body[guardbook.NotificationEntry](t, es[3])
		if n.Status != 200 || n.Via != "test" || n.Message != es[1].ID+".high" || n.Receiver != "oncall" {
			t.Errorf("%+v", n)
		}
		got := to.notices()
		if len(got) != 1 || got[0].Link != "https://gb.example/alerts/"+es[1].ID || got[0].Reason != "opened" || got[0].Alert.Facts.Findings[0].Excerpt != "****" {
			t.Errorf("notices: %+v", got)
		}
		if l := a.List(respond.Filter{State: respond.StateOpen}); len(l) != 1 || l[0].Delivery != "delivered" || a.Open() != 1 {
			t.Errorf("list: %+v", l)
		}
	})
}

func TestDecisionsOfTheSameKeyAreOneAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := newPages(), &oncall{}
		a, stop := follow(t, p, to, respond.AlertOptions{})
		defer stop()
		other := decision("billing", "p/x", guardbook.High)
		other.Findings[0].Class = guardbook.ClassSecret
		decide(t, p, decision("billing", "p/x", guardbook.High), decision("billing", "p/y", guardbook.High), decision("support", "p/x", guardbook.High), other)
		for range 100 {
			decide(t, p, decision("billing", "p/x", guardbook.High))
		}
		if l := a.List(respond.Filter{Agent: "billing"}); len(l) != 3 || a.Open() != 4 {
			t.Errorf("%d alerts of billing, %d in all", len(l), a.Open())
		}
		if got := to.notices(); len(got) != 4 {
			t.Errorf("%d notices", len(got))
		}
		x, err := a.Get(p.all()[0].ID)
		if err != nil || x.Count != 101 {
			t.Errorf("count %d, %v", x.Count, err)
		}
	})
}

func TestRepetitionsAreWrittenAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPages()
		_, stop := follow(t, p, &oncall{}, respond.AlertOptions{})
		defer stop()
		decide(t, p, decision("billing", "p/x", guardbook.High))
		time.Sleep(500 * time.Millisecond)
		for range 120 { // one a second for two minutes
			decide(t, p, decision("billing", "p/x", guardbook.High))
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		wantSteps(t, p.all(), "opened high 1", "delivered 1", "notified", "repeated high 61", "repeated high 121")
	})
}

func TestAHigherSeverityIsWrittenAndToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := newPages(), &oncall{}
		a, stop := follow(t, p, to, respond.AlertOptions{})
		defer stop()
		decide(t, p, decision("billing", "p/x", guardbook.High))
		decide(t, p, decision("billing", "p/x", guardbook.Medium), decision("billing", "p/x", guardbook.Critical))
		wantSteps(t, p.all(), "opened high 1", "delivered 1", "notified", "repeated critical 3", "delivered 1", "notified")
		got := to.notices()
		if len(got) != 2 || got[1].Reason != "raised" || got[1].Alert.Severity != guardbook.Critical || got[0].ID == got[1].ID {
			t.Errorf("%+v", got)
		}
		x := a.List(respond.Filter{Severity: guardbook.Critical})
		if len(x) != 1 || x[0].Facts.Event != p.all()[5].ID && x[0].Facts.Event != p.all()[4].ID {
			t.Errorf("%+v", x)
		}
	})
}

func TestAClosedAlertIsReopenedAsANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := newPages(), &oncall{}
		a, stop := follow(t, p, to, respond.AlertOptions{})
		defer stop()
		decide(t, p, decision("billing", "p/x", guardbook.High))
		first := a.List(respond.Filter{})[0]
		if _, err := a.Close(t.Context(), first.ID, "ann", "false_positive", "a test card"); err != nil {
			t.Fatal(err)
		}
		decide(t, p, decision("billing", "p/x", guardbook.High))
		l := a.List(respond.Filter{State: respond.StateOpen})
		if len(l) != 1 || l[0].Reopens != first.ID || l[0].Count != 1 || len(to.notices()) != 2 {
			t.Errorf("%+v, %d notices", l, len(to.notices()))
		}
		closed, err := a.Get(first.ID)
		if err != nil || closed.State != "closed" || closed.Disposition != "false_positive" || closed.Comment != "a test card" || closed.Steps[2].By != "ann" {
			t.Errorf("%+v, %v", closed, err)
		}
	})
}

func TestAFailedDeliveryIsTriedAgainWithGrowingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := newPages(), &oncall{}
		to.answer = func(n respond.Notice) (respond.Delivery, error) {
			if n.Attempt <= 3 {
				return respond.Delivery{Status: 503, Message: n.ID}, errors.New("it answered 503")
			}
			return respond.Delivery{Status: 200, Message: n.ID}, nil
		}
		_, stop := follow(t, p, to, respond.AlertOptions{Backoff: 10 * time.Second})
		defer stop()
		decide(t, p, decision("billing", "p/x", guardbook.High))
		time.Sleep(time.Hour)
		synctest.Wait()
		wantSteps(t, p.all(), "opened high 1", "failed 1", "failed 2", "failed 3", "delivered 4", "notified")
		for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
			if got := to.at[i+1].Sub(to.at[i]); got < want*4/5 || got > want*6/5+time.Millisecond {
				t.Errorf("wait %d is %v", i+1, got)
			}
		}
		if got := to.notices(); got[0].ID != got[3].ID {
			t.Error("the notice's id changed between attempts")
		}
	})
}

func TestADeliveryIsGivenUpAndTheAlertSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(respond.Notice) (respond.Delivery, error)
		none   bool
		want   []string
		why    string
	}{
		"after all attempts": {
			answer: func(respond.Notice) (respond.Delivery, error) {
				return respond.Delivery{}, errors.New("connection refused")
			},
			want: []string{"opened high 1", "failed 1", "failed 2", "gave_up 3", "undelivered"}, why: "given up after 3 attempts: connection refused",
		},
		"at once when it is useless": {
			answer: func(respond.Notice) (respond.Delivery, error) {
				return respond.Delivery{Status: 401}, fmt.Errorf("%w: it answered 401", respond.ErrPermanent)
			},
			want: []string{"opened high 1", "gave_up 1", "undelivered"}, why: "refuses it",
		},
		"when there is no such receiver": {none: true, want: []string{"opened high 1", "undelivered"}, why: `no receiver named "oncall" is configured`},
		"when the receiver panics": {
			answer: func(respond.Notice) (respond.Delivery, error) { panic("nil map") },
			want:   []string{"opened high 1", "failed 1", "failed 2", "gave_up 3", "undelivered"}, why: "panicked",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, to := newPages(), respond.Receiver(&oncall{answer: c.answer})
				if c.none {
					to = nil
				}
				a, stop := follow(t, p, to, respond.AlertOptions{Attempts: 3})
				defer stop()
				decide(t, p, decision("billing", "p/x", guardbook.High))
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				wantSteps(t, p.all(), c.want...)
				x, err := a.Get(p.all()[0].ID)
				if err != nil || x.Delivery != "undelivered" || !strings.Contains(x.Steps[1].Comment, c.why) {
					t.Errorf("%+v, %v", x, err)
				}
			})
		})
	}
}

func TestAReceiverIsNotAskedBeforeItWantsToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := newPages(), &oncall{}
		to.answer = func(n respond.Notice) (respond.Delivery, error) {
			if n.Attempt == 1 {
				return respond.Delivery{Status: 429, RetryAfter: 5 * time.Minute}, errors.New("it answered 429")
			}
			return respond.Delivery{Status: 200}, nil
		}
		_, stop := follow(t, p, to, respond.AlertOptions{Backoff: time.Second})
		defer stop()
		decide(t, p, decision("billing", "p/x", guardbook.High))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(to.at) != 2 || to.at[1].Sub(to.at[0]) < 5*time.Minute {
			t.Errorf("attempts at %v", to.at)
		}
	})
}

func TestOneDeadReceiverDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, quick := newPages(), &oncall{}
		dead := &oncall{answer: func(respond.Notice) (respond.Delivery, error) {
			time.Sleep(25 * time.Second)
			return respond.Delivery{}, errors.New("timeout")
		}}
		a := respond.NewAlerts(p, map[string]respond.Receiver{"oncall": quick, "dead": dead}, respond.AlertOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx, p, 0) }()
		for i := range 50 {
			d := decision(fmt.Sprint("agent", i), "p/x", guardbook.High)
			d.Alert = "dead"
			decide(t, p, d)
		}
		decide(t, p, decision("billing", "p/x", guardbook.High))
		if n := len(quick.notices()); n != 1 {
			t.Errorf("%d notices", n)
		}
		if n := len(dead.notices()); n > 10 {
			t.Errorf("%d attempts at once", n)
		}
		cancel()
		<-done
	})
}

func TestOperatorsStepsAreCheckedAndWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		a, stop := follow(t, r, &oncall{}, respond.AlertOptions{})
		defer stop()
		decide(t, r, decision("billing", "p/x", guardbook.High))
		time.Sleep(time.Second)
		synctest.Wait()
		id := a.List(respond.Filter{})[0].ID
		ctx := t.Context()
		if _, err := a.Ack(ctx, "nothing", "ann", ""); !errors.Is(err, respond.ErrNotFound) {
			t.Errorf("ack of nothing: %v", err)
		}
		x, err := a.Ack(ctx, id, "ann", "looking")
		if err != nil || x.State != "acknowledged" || x.Owner != "ann" {
			t.Errorf("ack: %+v, %v", x, err)
		}
		if _, err := a.Ack(ctx, id, "ann", ""); !errors.Is(err, respond.ErrConflict) {
			t.Errorf("second ack: %v", err)
		}
		if x, err = a.Ack(ctx, id, "bob", "mine now"); err != nil || x.Owner != "bob" {
			t.Errorf("ack by another: %+v, %v", x, err)
		}
		if x, err = a.Assign(ctx, id, "bob", "cat"); err != nil || x.Owner != "cat" || x.State != "acknowledged" {
			t.Errorf("assign: %+v, %v", x, err)
		}
		for _, c := range []struct{ disposition, comment, says string }{
			{"", "x", "true_positive, false_positive"}, {"fine", "x", "insufficient_data"}, {"benign", " ", "comment is required"},
		} {
			if _, err := a.Close(ctx, id, "cat", c.disposition, c.comment); !errors.Is(err, respond.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("close as %q: %v", c.disposition, err)
			}
		}
		if _, err := a.Assign(ctx, id, "bob", ""); !errors.Is(err, respond.ErrInvalid) {
			t.Errorf("assign to nobody: %v", err)
		}
		r.full.Store(true)
		if _, err := a.Close(ctx, id, "cat", "benign", "x"); !errors.Is(err, respond.ErrNotRecorded) {
			t.Errorf("close on a full disk: %v", err)
		}
		r.full.Store(false)
		if x, err = a.Close(ctx, id, "cat", "benign", "a test"); err != nil || x.State != "closed" {
			t.Errorf("close: %+v, %v", x, err)
		}
		if _, err := a.Ack(ctx, id, "ann", ""); !errors.Is(err, respond.ErrConflict) {
			t.Errorf("ack of a closed alert: %v", err)
		}
		wantSteps(t, r.entries(t), "opened high 1", "delivered 1", "notified", "acknowledged", "acknowledged", "assigned", "closed")
	})
}

func TestTheTitleIsOneLineOfVisibleText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, to := newPages(), &oncall{}
		_, stop := follow(t, p, to, respond.AlertOptions{})
		defer stop()
		d := decision("billing", "p/x", guardbook.High)
		d.Tool.Name = "evil\n\x1b[2J\u202etool" + strings.Repeat("x", 500)
		d.Decision, d.Would, d.Mode = guardbook.ActionAllow, guardbook.ActionBlock, guardbook.ModeMonitor
		decide(t, p, d)
		title := to.notices()[0].Alert.Title
		if strings.ContainsAny(title, "\n\x1b\u202e") || len(title) > 200 || !strings.HasPrefix(title, "billing: pii would have been blocked in tool_call evil") {
			t.Errorf("%q", title)
		}
	})
}
