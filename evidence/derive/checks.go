package derive

import (
	"fmt"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

func (s *state) checkCoverage() {
	d := &s.decisions
	c := s.checks.made("COV-01", s.life.beats, "heartbeats")
	c.Note = "a gap is more than twice the heartbeat's own interval between two signs of life (start, heartbeat, stop)"
	for _, g := range s.life.gaps {
		c.add(Exception{Object: "instance " + orNone(g.Instance), Start: g.Start, End: g.End, Detail: g.Cause, StillOpen: g.Open})
	}

	registered := int64(0)
	c = s.checks.m["COV-02"]
	for _, name := range sorted(s.agents.m) {
		a := s.agents.m[name]
		if !a.during(s.p.From, s.p.To) {
			continue
		}
		registered++
		if a.decisions == 0 {
			c.add(Exception{Object: name, Start: s.p.From, End: s.p.To, Detail: "registered, and no decision about it in the window", Refs: refs(a.createdRef), StillOpen: a.registered()})
		}
	}
	s.checks.made("COV-02", registered, "registered agents")

	s.checks.made("COV-03", d.total, "decisions").addAll(&d.strangers, byBuild)
	s.checks.m["COV-03"].Note = "agents only; servers of tools have no register in the book"

	c = s.checks.made("COV-04", d.layerRuns, "runs of layers")
	c.addAll(&d.layers, byRuntime)
	for _, i := range s.life.degraded {
		c.add(Exception{Object: "book", Start: i.start, End: i.end, Count: i.count, Detail: i.detail, Refs: refs(i.ref), DetectedBy: byRuntime})
	}
	s.checks.made("COV-05", d.total+d.passed, "decisions and passthroughs").addAll(&d.unread, byRuntime)

	s.checkNumbers()
	s.checkCompared()
	s.checkCanaries()
	s.checks.made("COV-10", d.total, "decisions").addAll(&d.monitor, byRuntime)
}

func (s *state) checkAccess() {
	d := &s.decisions
	c := s.checks.made("ACC-01", d.total, "decisions")
	c.Note = "and the registered agents against every bundle in force in the window"
	c.addAll(&d.noPolicy, byBuild)
	for _, a := range s.policies.attempts {
		if !s.live(a) {
			continue
		}
		for _, name := range sorted(s.agents.m) {
			start, end := later(a.ts, s.p.From), s.endOf(a.superseded)
			g := s.agents.m[name]
			if _, _, ok := covering(a.Policies, name); !ok && g.during(start, end) {
				c.add(Exception{Object: name, Start: start, End: end, Refs: refs(a.ref), StillOpen: a.superseded.IsZero() && g.registered(),
					Detail: "no policy of bundle " + a.Bundle + " covers the registered agent", Compensating: "without a policy everything that the agent does is stopped"})
			}
		}
	}

	grants := int64(0)
	c = s.checks.m["ACC-02"]
	for _, h := range s.policies.grants.done {
		if h.effect != "allow" {
			continue
		}
		grants++
		if strings.Contains(h.tool, "*") {
			c.add(Exception{Object: h.agent + " -> " + h.tool, Start: later(h.from, s.p.From), End: s.endOf(h.to), StillOpen: h.to.IsZero(),
				Detail: "policy " + h.policy + " grants tools by the pattern " + h.tool})
		}
	}
	s.checks.made("ACC-02", grants, "grants in force")
	s.checks.made("ACC-03", d.tools, "tool calls").addAll(&d.outside, byRuntime)

	examined := int64(0)
	c = s.checks.m["ACC-04"]
	for _, name := range sorted(s.agents.m) {
		a := s.agents.m[name]
		if !a.during(s.p.From, s.p.To) {
			continue
		}
		examined++
		if a.owner == "" {
			c.add(Exception{Object: "agent " + name, Start: later(a.created, s.p.From), End: s.endOf(a.removed), Detail: "no owner was named", Refs: refs(a.createdRef), StillOpen: a.registered()})
		}
	}
	told := map[string]bool{}
	for _, a := range s.policies.attempts {
		if !s.live(a) {
			continue
		}
		for _, p := range a.Policies {
			examined++
			if p.Owner == "" && !told[p.Policy] {
				told[p.Policy] = true
				c.add(Exception{Object: "policy " + p.Policy, Start: later(a.ts, s.p.From), End: s.endOf(a.superseded), Detail: "no owner is named in " + p.File, Refs: refs(a.ref), StillOpen: a.superseded.IsZero()})
			}
		}
	}
	s.checks.made("ACC-04", examined, "agents and policies in force")
	s.checks.m["ACC-04"].Note = "owners only; approvals of agents and grants are not in the book"
	s.checks.made("ACC-05", d.total, "decisions").addAll(&d.removed, byBuild)
}

func (s *state) checkAlerts() {
	s.checks.made("ALR-01", s.decisions.high, "decisions of high or critical severity that did more than allow or log").addAll(&s.decisions.unalerted, byBuild)
	var opened, high, closed int64
	for _, a := range s.alerts.order {
		if a.Severity >= guardbook.High && a.opened.Before(s.p.To) && (a.closed.IsZero() || !a.closed.Before(s.p.From)) {
			high++
			if a.ownerAtEnd == "" && a.statusAt(s.p.To) != "closed" {
				s.checks.m["ALR-02"].add(Exception{Object: "alert " + a.Alert, Start: a.opened, End: s.end(), Detail: a.Severity.String() + " alert about " + orNone(a.Agent), Refs: a.entries, StillOpen: a.owner == ""})
			}
		}
		if !a.closed.IsZero() && s.inside(a.closed) {
			closed++
			if a.disposition == "" || strings.TrimSpace(a.comment) == "" {
				s.checks.m["ALR-05"].add(Exception{Object: "alert " + a.Alert, Start: a.closed, End: a.closed, Detail: "closed by " + orNone(a.closedBy) + "; disposition: " + orNone(a.disposition) + "; comment: " + orNone(a.comment), Refs: a.entries})
			}
		}
		if a.opened.Before(s.p.To) && a.statusAt(s.p.To) != "closed" {
			s.checks.m["ALR-13"].add(Exception{Object: "alert " + a.Alert, Start: a.opened, End: s.p.To, Detail: a.Severity.String() + " alert about " + orNone(a.Agent) + ", " + a.statusAt(s.p.To), Refs: a.entries, StillOpen: a.closed.IsZero()})
		}
		if !a.in {
			continue
		}
		opened++
		s.lateAlert(a)
		if a.Receiver != "" && a.delivered == 0 {
			s.checks.m["ALR-06"].add(Exception{Object: "alert " + a.Alert, Start: a.opened, End: later(a.opened, a.lastAt), Refs: a.entries, DetectedBy: byRuntime, StillOpen: true,
				Detail: fmt.Sprintf("receiver %s: %d attempts, none delivered", a.Receiver, a.attempts)})
		}
	}
	s.checks.made("ALR-02", high, "alerts of high or critical severity")
	s.checks.made("ALR-03", opened, "alerts opened").Note = limitsText
	s.checks.made("ALR-04", opened, "alerts opened").Note = limitsText + "; a time for containing is not judged, because containments are not tied to alerts"
	s.checks.made("ALR-05", closed, "alerts closed")
	s.checks.made("ALR-06", opened, "alerts opened")
	s.checks.made("ALR-13", int64(len(s.alerts.order)), "alerts in the book")
}

// lateAlert notes an alert that was taken up or closed later than it should.
func (s *state) lateAlert(a *alert) {
	for _, l := range []struct {
		check, what string
		within      time.Duration
		done        time.Time
	}{
		{"ALR-03", "acknowledged", ackWithin[a.Severity], a.answered()},
		{"ALR-04", "closed", closeWithin[a.Severity], a.closed},
	} {
		at, met := s.due(a, l.within, l.done)
		if met != "no" {
			continue
		}
		detail := fmt.Sprintf("%s alert, to be %s by %s; not done by the end of the book in the package", a.Severity, l.what, at)
		end := when(s.last)
		if !l.done.IsZero() {
			detail, end = fmt.Sprintf("%s alert, to be %s by %s; done %s", a.Severity, l.what, at, stamp(l.done)), l.done
		}
		s.checks.m[l.check].add(Exception{Object: "alert " + a.Alert, Start: when(at), End: end, Detail: detail, Refs: a.entries, StillOpen: l.done.IsZero()})
	}
}

func (s *state) checkContainment() {
	var begun, ended, held int64
	for _, k := range s.containment.order {
		if k.in {
			begun++
		}
		if s.inForce(k) {
			held++
			if k.leaks > 0 {
				s.checks.m["INC-05"].add(Exception{Object: k.scope, Start: k.firstLeak, End: k.lastLeak, Count: k.leaks, Refs: k.leakRefs, StillOpen: k.ended.IsZero(),
					Detail: "released after containment " + k.id + " took effect at " + stamp(k.effective) + "; the last was: " + k.lastLeakKind})
			}
		}
		if k.endOp == "lift" && s.inside(k.ended) {
			ended++
			if k.by == k.liftedBy {
				s.checks.m["INC-04"].add(Exception{Object: k.scope, Start: k.started, End: k.ended, Detail: "begun and lifted by " + orNone(k.by), Refs: refs(k.ref)})
			}
		}
	}
	c := s.checks.made("INC-03", begun, "containments begun")
	if begun == 0 {
		c.add(Exception{Object: "kill switch", Start: s.p.From, End: s.p.To, Detail: "no containment was begun in the window"})
	}
	s.checks.made("INC-04", ended, "containments lifted").Note = "who began and who lifted; an approval is not recorded"
	s.checks.made("INC-05", held, "containments in force").Note = "decisions in the scope that let something pass, made after the containment took effect, and streams that ran to their end more than a second after it"
}

func (s *state) checkChange() {
	c := s.checks.made("CHG-01", s.decisions.total, "decisions")
	c.Note = "bundles only; whether a bundle is known to a repository is not read"
	c.addAll(&s.decisions.unknown, byBuild)
	for _, h := range s.facts.Missing {
		c.add(Exception{Object: "policy text " + h, Start: s.p.From, End: s.p.To, Detail: "a file of a bundle that was in force is not kept any more"})
	}
	n := int64(0)
	c = s.checks.m["CHG-12"]
	for _, a := range s.policies.attempts {
		if !a.in {
			continue
		}
		n++
		if !a.applied() {
			c.add(Exception{Object: "bundle " + orNone(a.Rejected), Start: a.ts, End: a.ts, Detail: a.Error, Refs: refs(a.ref), DetectedBy: byRuntime, Compensating: "the bundle before stayed in force: " + orNone(a.Bundle)})
		}
	}
	s.checks.made("CHG-12", n, "attempts to load policy")
}

func (s *state) checkIntegrity() {
	var entries, checkpoints int64
	int01, int02, int03, int04, int05 := s.checks.m["INT-01"], s.checks.m["INT-02"], s.checks.m["INT-03"], s.checks.m["INT-04"], s.checks.m["INT-05"]
	for i := range s.facts.Logs {
		f := &s.facts.Logs[i]
		entries += f.Size
		checkpoints += int64(f.Checkpoints)
		several(int01, f.Origin, f.Unreadable, "entries that cannot be read as what they say they are")
		several(int02, f.Origin, f.Misplaced, "entries whose number or log does not fit their place")
		several(int05, f.Origin, f.BackInTime, "recorded before the entry before")
		if len(f.Wrong) > 0 {
			int03.add(Exception{Object: f.Origin, Count: int64(len(f.Wrong)), Detail: fmt.Sprintf("the root differs from the checkpoint of size %d; the first difference lies in entries %d to %d", f.Wrong[0], f.Range[0], f.Range[1]-1)})
		}
		if f.Short {
			int03.add(Exception{Object: f.Origin, Detail: fmt.Sprintf("%d entries, fewer than a checkpoint says", f.Size)})
		}
		if len(f.Unsigned) > 0 {
			int04.add(Exception{Object: f.Origin, Count: int64(len(f.Unsigned)), Detail: "checkpoints that the book's key did not sign"})
		}
	}
	int05.addAll(&s.clock, byBuild)
	s.checks.made("INT-01", entries, "entries")
	s.checks.made("INT-02", entries, "entries")
	s.checks.made("INT-03", checkpoints, "checkpoints")
	s.checks.made("INT-04", checkpoints, "checkpoints")
	s.checks.made("INT-05", entries, "entries").Note = "recorded times within a log, and entries that occurred more than 2 s after they were recorded"
	s.checks.made("INT-06", 0, "anchors").add(Exception{Object: "book", Start: s.p.From, End: s.p.To, StillOpen: true,
		Detail:       "no witness, time stamp or copy outside the operator's reach; who holds the signing key could have rewritten the log before this package left the house",
		Compensating: "a checkpoint that the auditor took earlier anchors everything before it: guardbook evidence verify --anchor FILE"})
	s.checks.made("INT-08", entries, "entries").add(Exception{Object: "book", Count: max(1, entries), StillOpen: true,
		Detail: fmt.Sprintf("%d entries are signed and not anchored; %d further entries were not signed yet when the package was built and are not in it", entries, s.p.Unsealed)})
	c := s.checks.made("INT-09", total(s.facts.Counts), "entries of the window")
	if s.facts.Late > 0 {
		c.add(Exception{Object: "book", Start: s.p.To, End: when(s.last), Count: s.facts.Late, Detail: "they belong to the window by when they occurred, and are in the listings"})
	}

	c = s.checks.made("IPE-01", int64(len(s.facts.TieOuts)), "tie-outs")
	for _, t := range s.facts.TieOuts {
		if t.Delta != 0 && !t.Tolerated {
			c.add(Exception{Object: t.Name, Start: s.p.From, End: s.p.To, Count: max(t.Delta, -t.Delta), Detail: fmt.Sprintf("%s: %d; %s: %d", t.PathA, t.CountA, t.PathB, t.CountB)})
		}
	}
	s.checks.made("IPE-02", 5, "populations").Note = "the listings are made a second time from the log in the package; a build in which one differs is given up"
	c = s.checks.made("IPE-03", 1, "program")
	if s.p.Tool.Commit == "" || s.p.Tool.Commit == "unknown" || s.p.Tool.Dirty {
		c.add(Exception{Object: "guardbook " + s.p.Tool.Version, Detail: fmt.Sprintf("commit %s, modified: %t", orNone(s.p.Tool.Commit), s.p.Tool.Dirty)})
	}
	s.checks.made("IPE-04", 5, "populations").Note = "every query is built into the program; none can be given"
	c = s.checks.made("IPE-05", 1, "window")
	if last := when(s.last); last.Before(s.p.To) {
		c.add(Exception{Object: "window", Start: last, End: s.p.To, StillOpen: true, Detail: "the last entry in the package was recorded before the window's end: later entries are not in it"})
	}
}

func several(c *Check, object string, list []Ref, detail string) {
	if len(list) > 0 {
		c.add(Exception{Object: object, Count: int64(len(list)), Detail: fmt.Sprintf("%s; the first is %d", detail, list[0].Seq), Refs: named(list)})
	}
}

// named keeps up to maxRefs references that have an id.
func named(list []Ref) []Ref {
	var out []Ref
	for _, r := range list {
		if r.ID != "" && len(out) < maxRefs {
			out = append(out, r)
		}
	}
	return out
}

func refs(r Ref) []Ref {
	if r.ID == "" {
		return nil
	}
	return []Ref{r}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// endOf is an end within the window; zero is open.
func (s *state) endOf(t time.Time) time.Time {
	if t.IsZero() || t.After(s.p.To) {
		return s.p.To
	}
	return t
}

func total(m map[string]int64) int64 {
	var n int64
	for _, v := range m {
		n += v
	}
	return n
}
