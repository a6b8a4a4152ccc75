package respond_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

func TestAKillCutsTheStreamsItCoversAndNoOthers(t *testing.T) {
	k := respond.NewContainments(newPages(), nil)
	watch := func(agent, session, tool string) context.Context {
		ctx, release := k.Watch(t.Context(), interaction(guardbook.KindOutput, agent, session, tool))
		t.Cleanup(release)
		return ctx
	}
	a, b := watch("a", "s1", ""), watch("b", "s2", "t")
	kill := func(scope string) {
		t.Helper()
		if _, err := k.Kill(t.Context(), scope, "ann", "test", 0); err != nil {
			t.Fatal(err)
		}
	}
	kill("a")
	var contained *respond.ContainedError
	if !errors.As(context.Cause(a), &contained) || contained.Scope != "agent:a" || contained.Error() != "agent:a is contained" {
		t.Errorf("cause: %v", context.Cause(a))
	}
	kill("tool:t")
	if b.Err() != nil {
		t.Error("another stream was cut")
	}
	kill("session:s2")
	if b.Err() == nil {
		t.Error("the session's stream goes on")
	}
	if late := watch("a", "s9", ""); !errors.As(context.Cause(late), &contained) {
		t.Error("a stream of a contained agent begins")
	}
	released, release := k.Watch(t.Context(), interaction(guardbook.KindOutput, "c", "s3", ""))
	release()
	kill("c")
	if errors.As(context.Cause(released), &contained) {
		t.Error("a released stream was cut")
	}
}

func TestAReplicaFollowsKillsAndLifts(t *testing.T) {
	p := newPages()
	k, replica := respond.NewContainments(p, nil), respond.NewContainments(newPages(), nil)
	stream, release := replica.Watch(t.Context(), interaction(guardbook.KindOutput, "a", "s", ""))
	defer release()
	if _, err := k.Kill(t.Context(), "a", "ann", "test", 0); err != nil {
		t.Fatal(err)
	}
	follow := func(from int) {
		for _, e := range p.all()[from:] {
			for _, c := range []*respond.Containments{k, replica} { // also back to the one that wrote it
				if err := c.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	follow(0)
	if stream.Err() == nil || len(replica.List()) != 1 {
		t.Error("the replica does not know the kill")
	}
	if _, err := k.Lift(t.Context(), "a", "ann", "test"); err != nil {
		t.Fatal(err)
	}
	follow(0)
	if len(replica.List()) != 0 || len(k.List()) != 0 {
		t.Error("an entry that was read again brought the kill back")
	}
}

func TestTheStateAfterARestartIsTheStateBefore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPages()
		k := respond.NewContainments(p, nil)
		ctx := context.Background()
		scopes := []string{"agent:a", "agent:b", "session:s", "tool:t", "tenant:x"}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			scope := rapid.SampledFrom(scopes).Draw(rt, "scope")
			switch rapid.SampledFrom([]string{"kill", "for", "lift", "refuse", "cut"}).Draw(rt, "step") {
			case "kill":
				if _, err := k.Kill(ctx, scope, "ann", "test", 0); err != nil {
					rt.Fatal(err)
				}
			case "for":
				d := time.Duration(rapid.IntRange(1, 100).Draw(rt, "hours")) * time.Hour
				if _, err := k.Kill(ctx, scope, "bob", "test", d); err != nil {
					rt.Fatal(err)
				}
			case "lift":
				if _, err := k.Lift(ctx, scope, "ann", "test"); err != nil && !errors.Is(err, respond.ErrNotFound) {
					rt.Fatal(err)
				}
			case "refuse":
				for _, c := range k.List() {
					k.Refused(c.ID)
					_ = p.Append(ctx, guardbook.Draft{Type: guardbook.TypeDecision, Body: guardbook.DecisionEntry{Agent: "a", Containment: c.ID}})
				}
			case "cut":
				for _, c := range k.List() {
					k.Cut(c.ID)
					_ = p.Append(ctx, guardbook.Draft{Type: guardbook.TypeStream, Body: guardbook.StreamEntry{Phase: "close", Containment: c.ID}})
				}
			}
		}
		again := respond.NewContainments(p, nil)
		for _, e := range p.all() {
			if err := again.Apply(e); err != nil {
				rt.Fatal(err)
			}
		}
		if d := cmp.Diff(k.List(), again.List()); d != "" {
			rt.Fatal(d)
		}
	})
}
