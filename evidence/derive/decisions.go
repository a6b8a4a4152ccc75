package derive

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// quiet is how long like events may be apart to count as one interval.
const quiet = 15 * time.Minute

// decisions is what the first pass keeps of the decisions.
type decisions struct {
	total, tools int64 // in the window
	kinds        map[guardbook.Kind]int64
	classes      map[guardbook.Class]int64
	severities   map[string]int64
	failOpen     int64
	cached       int64
	layerRuns    int64
	high         int64 // severity high and above that did more than allow or log
	sessions     map[string]*clientSeq
	passed       int64 // passthroughs in the window

	layers     episodes                 // COV-04
	unread     episodes                 // COV-05
	monitor    episodes                 // COV-10
	strangers  episodes                 // COV-03
	noPolicy   episodes                 // ACC-01
	outside    episodes                 // ACC-03
	removed    episodes                 // ACC-05
	unalerted  episodes                 // ALR-01
	unknown    episodes                 // CHG-01
	pending    map[string][]pendingHigh // by agent and rule
	proofs     []Ref                    // high and above
	proofsLeft int64
}

// pendingHigh is a decision of high severity that no alert names yet.
type pendingHigh struct {
	object, detail string
	at             time.Time
	ref            Ref
}

func (d *decisions) init() {
	d.kinds, d.classes, d.severities = map[guardbook.Kind]int64{}, map[guardbook.Class]int64{}, map[string]int64{}
	d.sessions, d.pending = map[string]*clientSeq{}, map[string][]pendingHigh{}
	d.layers.gap, d.unread.gap = quiet, quiet
}

func (s *state) decision(x event, b guardbook.DecisionEntry) {
	if c := s.policies.current; c != nil && c.Bundle == b.Bundle {
		if c.decisions++; c.firstUse == "" {
			c.firstUse = x.ID
		}
	}
	if s.life.now != nil {
		s.life.now.entries++
	}
	s.afterBlock(x, &b)
	if s.ofCanary(x, &b) || !x.in {
		return
	}
	d := &s.decisions
	d.total++
	d.kinds[b.Kind]++
	d.severities[b.Severity.String()]++
	s.facts.Decisions[string(b.Decision)]++
	if b.Cached {
		d.cached++
	}
	for _, f := range b.Findings {
		d.classes[f.Class]++
	}
	if b.Kind == guardbook.KindToolCall {
		d.tools++
	}
	s.seen(x, &b)
	s.failures(x, &b)
	s.outsidePolicy(x, &b)
	s.number(x, b.Agent, cmp.Or(b.Client, b.Session), b.ClientSeq)
	s.alarm(x, &b)
	s.walk.decision(x, &b)
}

// seen keeps the register of agents up with the traffic.
func (s *state) seen(x event, b *guardbook.DecisionEntry) {
	a := s.agents.get(b.Agent)
	a.decisions++
	if a.firstSeen.IsZero() {
		a.firstSeen = x.ts
	}
	a.lastSeen = x.ts
	if !a.registered() {
		if a.again > 0 {
			s.decisions.removed.hit(b.Agent, x.ts, x.ref, "decisions about an agent after it was removed from the register")
		} else {
			s.decisions.strangers.hit(b.Agent, x.ts, x.ref, "decisions about an agent that the register does not have")
		}
	}
	if b.Mode == guardbook.ModeMonitor {
		s.decisions.monitor.hit(b.Agent+" (policy "+orNone(b.Policy)+")", x.ts, x.ref, "decided in monitor mode: nothing was stopped")
	}
	if b.Policy == "" && b.Containment == "" {
		s.decisions.noPolicy.hit(b.Agent, x.ts, x.ref, "no policy covered the agent; rule "+b.Rule+", decision "+string(b.Decision))
	}
	u := s.bundle(b.Bundle)
	u.in++
	if !u.applied {
		s.decisions.unknown.hit(orNone(b.Bundle), x.ts, x.ref, "decisions name a bundle that no entry before them activates")
	}
}

// failures notes what was not scanned, or not to the end.
func (s *state) failures(x event, b *guardbook.DecisionEntry) {
	d := &s.decisions
	for _, l := range b.Layers {
		d.layerRuns++
		if l.Error == "" {
			continue
		}
		outcome := "the interaction was stopped"
		if b.Decision.Releases() {
			outcome = "the interaction passed"
		}
		if strings.HasPrefix(l.Error, "incomplete") {
			d.unread.hit(b.Agent+" "+l.Name, x.ts, x.ref, "scan not completed: "+l.Error+"; "+outcome)
			continue
		}
		d.layers.hit(b.Agent+" "+l.Name, x.ts, x.ref, "layer failed: "+l.Error+"; "+outcome)
	}
	if b.FailOpen {
		d.failOpen++
		d.layers.hit(b.Agent+" fail-open", x.ts, x.ref, "let through because policy says so when a layer fails (on_error)")
	}
}

// outsidePolicy notes tool calls that went on although policy would have stopped
// them, or although it could not be said.
func (s *state) outsidePolicy(x event, b *guardbook.DecisionEntry) {
	if b.Kind != guardbook.KindToolCall || !b.Decision.Releases() || b.Tool == nil {
		return
	}
	object := b.Agent + " -> " + b.Tool.Name
	switch {
	case b.Would != "" && !b.Would.Releases():
		s.decisions.outside.hit(object, x.ts, x.ref, "monitor mode: policy would have decided "+string(b.Would)+" by rule "+b.Rule)
	case b.FailOpen:
		s.decisions.outside.hit(object, x.ts, x.ref, "fail-open: a layer failed and the call went on")
	}
}

// alarm notes decisions of high severity: each is to have an alert, and gets a
// proof.
func (s *state) alarm(x event, b *guardbook.DecisionEntry) {
	if b.Severity < guardbook.High {
		return
	}
	d := &s.decisions
	if len(d.proofs) < s.p.MaxProofs {
		d.proofs = append(d.proofs, x.ref)
	} else {
		d.proofsLeft++
	}
	action := guardbook.Stricter(b.Decision, b.Would)
	if action == guardbook.ActionAllow || action == guardbook.ActionLog {
		return
	}
	d.high++
	object := b.Agent + " " + b.Rule
	if b.Alert == "" {
		d.unalerted.hit(object, x.ts, x.ref, b.Severity.String()+" decision; policy "+orNone(b.Policy)+" names no receiver for its severity")
		return
	}
	if s.alerts.of(b.Agent, b.Rule, "", x.ref) != nil {
		return
	}
	d.pending[object] = append(d.pending[object], pendingHigh{object, b.Severity.String() + " decision for receiver " + b.Alert + ", and no alert gathers it", x.ts, x.ref})
}

// passthrough notes a request that policy let through unread.
func (s *state) passthrough(x event, b guardbook.PassthroughEntry) {
	if !x.in {
		return
	}
	s.number(x, b.Agent, b.Client, b.ClientSeq)
	s.decisions.passed++
	s.decisions.unread.hit(b.Agent+" "+b.Method+" "+b.Endpoint, x.ts, x.ref, "endpoint passed unread by rule "+orNone(b.Rule)+" of policy "+orNone(b.Policy))
}

// settleAlarms lists the decisions of high severity that no alert gathers.
func (s *state) settleAlarms() {
	d := &s.decisions
	var left []pendingHigh
	for _, list := range d.pending {
		left = append(left, list...)
	}
	slices.SortFunc(left, func(a, b pendingHigh) int {
		return cmp.Or(cmp.Compare(a.ref.Epoch, b.ref.Epoch), cmp.Compare(a.ref.Seq, b.ref.Seq))
	})
	for _, p := range left {
		d.unalerted.hit(p.object, p.at, p.ref, p.detail)
	}
}

// chooseProofs lists the entries that get an inclusion proof: those that
// exceptions point at, then the decisions of high severity.
func (s *state) chooseProofs() {
	seen := map[Ref]bool{}
	add := func(r Ref) {
		if seen[r] {
			return
		}
		seen[r] = true
		if len(s.facts.Proofs) >= s.p.MaxProofs {
			s.facts.ProofsLeft++
			return
		}
		s.facts.Proofs = append(s.facts.Proofs, r)
	}
	for _, c := range s.facts.Checks {
		for _, e := range c.Exceptions {
			for _, r := range e.Refs {
				add(r)
			}
		}
	}
	for _, r := range s.decisions.proofs {
		add(r)
	}
	s.facts.ProofsLeft += s.decisions.proofsLeft
	slices.SortFunc(s.facts.Proofs, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
	})
}
