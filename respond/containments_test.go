package respond_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

func TestScopesAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"billing-bot":       "agent:billing-bot",
		"agent:billing:bot": "agent:billing:bot",
		"session:s-17":      "session:s-17",
		"tool:send_email":   "tool:send_email",
		"tenant:acme":       "tenant:acme",
	} {
		if got, err := respond.ParseScope(text); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "agent:", "agents:x", "a b:c", "x\x1b[2J", "agent: x", "agent:x ", "agent:\xff", strings.Repeat("x", 2000), ":x"} {
		_, err := respond.ParseScope(text)
		if !errors.Is(err, respond.ErrInvalid) || !strings.Contains(err.Error(), "tenant:NAME") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzAScopeThatIsReadIsWrittenTheSame(f *testing.F) {
	f.Add("billing-bot")
	f.Add("session:x:y")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := respond.ParseScope(text)
		if err != nil {
			return
		}
		again, err := respond.ParseScope(s.String())
		if err != nil || again != s {
			t.Errorf("%q: %v, then %v, %v", text, s, again, err)
		}
	})
}

func interaction(kind guardbook.Kind, agent, session, tool string) *guardbook.Interaction {
	in := &guardbook.Interaction{Kind: kind, Tenant: guardbook.DefaultTenant, Agent: agent, Session: session}
	if tool != "" {
		in.Tool = &guardbook.Tool{Name: tool}
	}
	return in
}

func TestAKillCoversItsScopeAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		scope string
		in    *guardbook.Interaction
		want  bool
	}{
		{"a", interaction(guardbook.KindInput, "a", "s", ""), true},
		{"a", interaction(guardbook.KindOutput, "b", "s", ""), false},
		{"a", interaction(guardbook.KindInput, "s", "a", ""), false},
		{"session:s", interaction(guardbook.KindToolResult, "b", "s", "t"), true},
		{"session:s", interaction(guardbook.KindInput, "b", "s2", ""), false},
		{"tool:t", interaction(guardbook.KindToolCall, "a", "s", "t"), true},
		{"tool:t", interaction(guardbook.KindToolCall, "a", "s", "u"), false},
		{"tool:t", interaction(guardbook.KindToolDefinition, "a", "s", "t"), false},
		{"tool:t", interaction(guardbook.KindToolResult, "a", "s", "t"), false},
		{"tenant:default", interaction(guardbook.KindInput, "a", "s", ""), true},
		{"tenant:default", &guardbook.Interaction{Kind: guardbook.KindInput}, true},
		{"tenant:other", interaction(guardbook.KindInput, "a", "s", ""), false},
	} {
		k := respond.NewContainments(newPages(), nil)
		if _, err := k.Kill(t.Context(), c.scope, "ann", "test", 0); err != nil {
			t.Fatal(err)
		}
		got, ok := k.Check(c.in)
		if ok != c.want || ok && (got.Scope == "" || got.Reason != "test" || got.By != "ann") {
			t.Errorf("%s, %s of %s in %s: %v, %+v", c.scope, c.in.Kind, c.in.Agent, c.in.Session, ok, got)
		}
	}
}

func TestAKillWithoutReasonOrNameIsRefusedAndContainsNothing(t *testing.T) {
	p := newPages()
	k := respond.NewContainments(p, nil)
	for _, c := range []struct{ scope, by, reason, says string }{
		{"a", "ann", "", "reason"}, {"a", "ann", " \n", "reason"}, {"a", "", "x", "who"}, {"foo:a", "ann", "x", "tenant:NAME"},
		{"a", "ann", strings.Repeat("x", 5000), "at most"},
	} {
		_, err := k.Kill(t.Context(), c.scope, c.by, c.reason, 0)
		if !errors.Is(err, respond.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := k.Kill(t.Context(), "a", "ann", "x", -time.Second); !errors.Is(err, respond.ErrInvalid) {
		t.Errorf("a negative duration: %v", err)
	}
	if len(k.List()) != 0 || p.Size() != 0 {
		t.Error("something was contained or written")
	}
}

func TestNothingPassesAndNothingIsRefusedBeforeTheKillIsInTheBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		inBook, asked, answered := make(chan struct{}), make(chan struct{}), make(chan int64, 1)
		k := respond.NewContainments(r, nil)
		r.before = func() {
			close(inBook)
			<-asked
		}
		go func() {
			<-inBook
			go func() {
				if _, ok := k.Check(interaction(guardbook.KindInput, "a", "s", "")); !ok {
					t.Error("it passed")
				}
				answered <- r.Size()
			}()
			if _, ok := k.Check(interaction(guardbook.KindInput, "b", "s", "")); ok {
				t.Error("another agent is contained")
			}
			time.Sleep(time.Second) // of the bubble: the first Check waits
			close(asked)
		}()
		c, err := k.Kill(t.Context(), "a", "ann", "it sends data out", 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := <-answered; n != 1 {
			t.Errorf("refused when the book had %d entries", n)
		}
		e := r.entries(t)[0]
		b := body[guardbook.ContainmentEntry](t, e)
		want := guardbook.ContainmentEntry{
			Op: "kill", Containment: c.ID, Scope: "agent:a", By: "ann", Reason: "it sends data out", EffectiveAt: c.EffectiveAt.Format(guardbook.TimeLayout),
		}
		if d := cmp.Diff(want, b); d != "" {
			t.Error(d)
		}
		if e.ID != c.ID || e.ID != c.Entry || !c.Recorded {
			t.Errorf("entry %s, containment %+v", e.ID, c)
		}
	})
}

func TestTheCheckOfAFreeAgentAllocatesNothing(t *testing.T) {
	k := respond.NewContainments(newPages(), nil)
	in := interaction(guardbook.KindToolCall, "a", "s", "t")
	check := func() { k.Check(in) }
	if n := testing.AllocsPerRun(1000, check); n != 0 {
		t.Errorf("nothing is contained: %v allocations", n)
	}
	if _, err := k.Kill(t.Context(), "b", "ann", "test", 0); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, check); n != 0 {
		t.Errorf("another agent is contained: %v allocations", n)
	}
}

func TestALiftSaysHowManyAttemptsWereRefusedAndStreamsCut(t *testing.T) {
	p := newPages()
	k := respond.NewContainments(p, nil)
	c, err := k.Kill(t.Context(), "a", "ann", "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.Refused(c.ID)
	}
	k.Cut(c.ID)
	k.Refused("another")
	if l := k.List(); len(l) != 1 || l[0].Refused != 3 || l[0].Cut != 1 {
		t.Errorf("list: %+v", l)
	}
	l, err := k.Lift(t.Context(), "agent:a", "bob", "it was patched")
	if err != nil {
		t.Fatal(err)
	}
	b := body[guardbook.ContainmentEntry](t, p.all()[1])
	want := guardbook.ContainmentEntry{
		Op: "lift", Containment: c.ID, Scope: "agent:a", By: "bob", Reason: "it was patched", EffectiveAt: b.EffectiveAt, Refused: 3, CutStreams: 1,
	}
	if d := cmp.Diff(want, b); d != "" {
		t.Error(d)
	}
	if l.Refused != 3 || l.Cut != 1 || l.Entry != p.all()[1].ID {
		t.Errorf("lift: %+v", l)
	}
	if _, ok := k.Check(interaction(guardbook.KindInput, "a", "s", "")); ok {
		t.Error("it is still contained")
	}
}

func TestALiftOfWhatIsNotContainedSaysWhatIs(t *testing.T) {
	k := respond.NewContainments(newPages(), nil)
	_, err := k.Lift(t.Context(), "a", "ann", "test")
	if !errors.Is(err, respond.ErrNotFound) || err.Error() != "agent:a is not contained; nothing is" {
		t.Errorf("%v", err)
	}
	for _, s := range []string{"b", "tool:t"} {
		if _, err := k.Kill(t.Context(), s, "ann", "test", 0); err != nil {
			t.Fatal(err)
		}
	}
	_, err = k.Lift(t.Context(), "a", "ann", "test")
	if !errors.Is(err, respond.ErrNotFound) || !strings.Contains(err.Error(), "agent:b") || !strings.Contains(err.Error(), "tool:t") {
		t.Errorf("%v", err)
	}
}

func TestASecondKillIsOneMoreEntryOfTheSameContainmentAndNeverShortensIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPages()
		k := respond.NewContainments(p, nil)
		kill := func(d time.Duration) respond.Containment {
			c, err := k.Kill(t.Context(), "a", "ann", "test", d)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first := kill(time.Hour)
		time.Sleep(time.Minute)
		if c := kill(time.Minute); !c.Until.Equal(first.Until) || c.ID != first.ID || !c.EffectiveAt.Equal(first.EffectiveAt) {
			t.Errorf("shorter: %+v", c)
		}
		if c := kill(2 * time.Hour); !c.Until.Equal(time.Now().Add(2 * time.Hour)) {
			t.Errorf("longer: %+v", c)
		}
		if c := kill(0); !c.Until.IsZero() || c.Entry == first.Entry {
			t.Errorf("for ever: %+v", c)
		}
		if n, l := p.Size(), k.List(); n != 4 || len(l) != 1 || !l[0].Until.IsZero() {
			t.Errorf("%d entries, %+v", n, l)
		}
	})
}

func TestAKillEndsByItselfAlsoAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		k, stop := running(t, r)
		if _, err := k.Kill(t.Context(), "a", "ann", "test", 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Kill(t.Context(), "b", "ann", "test", time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute - time.Second)
		synctest.Wait()
		if len(k.List()) != 2 {
			t.Error("it ended early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if l := k.List(); len(l) != 1 || l[0].Scope != "agent:b" {
			t.Errorf("after ten minutes: %+v", l)
		}
		stop()
		k, stop = running(t, r)
		defer stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		es := r.entries(t)
		if len(k.List()) != 0 || len(es) != 4 {
			t.Fatalf("after an hour: %+v, %d entries", k.List(), len(es))
		}
		if b := body[guardbook.ContainmentEntry](t, es[3]); b.Op != "expire" || b.By != "guardbook" || b.Scope != "agent:b" {
			t.Errorf("%+v", b)
		}
	})
}

// running folds the book and runs.
func running(t *testing.T, r *recorder) (*respond.Containments, func()) {
	k := respond.NewContainments(r, nil)
	for _, e := range r.entries(t) {
		if err := k.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	return k, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}
}

func TestAKillTakesEffectAtOnceThoughTheBookCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		k, stop := running(t, r)
		defer stop()
		stream, release := k.Watch(t.Context(), interaction(guardbook.KindOutput, "a", "s", ""))
		defer release()
		r.full.Store(true)
		c, err := k.Kill(t.Context(), "a", "ann", "test", 0)
		if !errors.Is(err, respond.ErrNotRecorded) || !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "not yet in the book") {
			t.Errorf("%v", err)
		}
		if _, ok := k.Check(interaction(guardbook.KindInput, "a", "s", "")); !ok || stream.Err() == nil {
			t.Error("the agent goes on")
		}
		if l := k.List(); len(l) != 1 || l[0].Recorded {
			t.Errorf("list: %+v", l)
		}
		time.Sleep(time.Minute)
		if r.Size() != 0 {
			t.Fatal("the book was written")
		}
		r.full.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		es := r.entries(t)
		if len(es) != 1 {
			t.Fatalf("%d entries", len(es))
		}
		b := body[guardbook.ContainmentEntry](t, es[0])
		if es[0].ID != c.ID || b.EffectiveAt != c.EffectiveAt.Format(guardbook.TimeLayout) || es[0].TS != b.EffectiveAt || es[0].Rec <= es[0].TS {
			t.Errorf("%+v, recorded %s", b, es[0].Rec)
		}
		if l := k.List(); !l[0].Recorded {
			t.Errorf("list: %+v", l)
		}
	})
}

// hanging is a book that does not answer.
type hanging struct{}

func (hanging) Append(ctx context.Context, _ ...guardbook.Draft) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h hanging) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	return h.Append(ctx, d...)
}

func TestAKillDoesNotWaitForABookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := respond.NewContainments(hanging{}, nil)
		gone, cancel := context.WithCancel(t.Context())
		cancel() // the operator went away, too
		if _, err := k.Kill(gone, "a", "ann", "test", 0); !errors.Is(err, respond.ErrNotRecorded) {
			t.Errorf("%v", err)
		}
		if _, ok := k.Check(interaction(guardbook.KindInput, "a", "s", "")); !ok {
			t.Error("the agent goes on")
		}
	})
}

func TestALiftThatCannotBeWrittenLiftsNothing(t *testing.T) {
	p := newPages()
	k := respond.NewContainments(p, nil)
	if _, err := k.Kill(t.Context(), "a", "ann", "test", 0); err != nil {
		t.Fatal(err)
	}
	p.limit = 1
	if _, err := k.Lift(t.Context(), "a", "ann", "test"); !errors.Is(err, respond.ErrNotRecorded) {
		t.Errorf("%v", err)
	}
	if len(k.List()) != 1 {
		t.Error("it was lifted")
	}
}

func TestTheLiftOfAnUnrecordedKillWritesBoth(t *testing.T) {
	p := newPages()
	p.limit = 1
	p.log.Add(time.Now(), time.Now(), guardbook.TypeStart, guardbook.StartEntry{})
	k := respond.NewContainments(p, nil)
	if _, err := k.Kill(t.Context(), "a", "ann", "test", 0); !errors.Is(err, respond.ErrNotRecorded) {
		t.Fatal(err)
	}
	p.limit = 0
	if _, err := k.Lift(t.Context(), "a", "ann", "test"); err != nil {
		t.Fatal(err)
	}
	var ops []string
	for _, e := range p.all()[1:] {
		ops = append(ops, body[guardbook.ContainmentEntry](t, e).Op)
	}
	if d := cmp.Diff([]string{"kill", "lift"}, ops); d != "" {
		t.Error(d)
	}
}
