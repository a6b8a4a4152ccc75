package derive

import (
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// containments follows the kill switch.
type containments struct {
	m     map[string]*block
	order []*block
	held  []*block // in force now
}

// block is one containment from kill to lift.
type block struct {
	id, scope, by, reason string
	started, effective    time.Time
	until                 string
	ref                   Ref
	log                   string
	rec                   string
	instance              string
	in                    bool
	ended                 time.Time
	endOp, liftedBy       string
	liftReason            string
	repeated              int64 // further orders while it held
	saidRefused, saidCut  int64 // what the lift entry says
	refused, cut          int64 // what the book holds
	firstRefused          time.Time
	leaks                 int64
	leakRefs              []Ref
	firstLeak, lastLeak   time.Time
	lastLeakKind          string
}

func (c *containments) init() { c.m = map[string]*block{} }

func (s *state) contain(x event, b guardbook.ContainmentEntry) {
	c := &s.containment
	switch b.Op {
	case "kill":
		if k := c.m[b.Containment]; k != nil { // the order was given again
			if b.Until != "" || k.until != "" {
				k.until = b.Until
			}
			k.repeated++
			return
		}
		k := &block{id: b.Containment, scope: b.Scope, by: b.By, reason: b.Reason, started: x.ts, effective: when(b.EffectiveAt),
			until: b.Until, ref: x.ref, log: x.Log, rec: x.Rec, instance: x.Instance, in: x.in}
		if k.effective.IsZero() {
			k.effective = x.ts
		}
		c.m[k.id] = k
		c.order = append(c.order, k)
		c.held = append(c.held, k)
		if k.in {
			s.walk.offer(walkKill, x)
		}
		s.alerts.contained(k)
	case "lift", "expire":
		k := c.m[b.Containment]
		if k == nil {
			return
		}
		k.ended, k.endOp, k.liftedBy, k.liftReason = x.ts, b.Op, b.By, b.Reason
		if at := when(b.EffectiveAt); !at.IsZero() {
			k.ended = at
		}
		k.saidRefused, k.saidCut = b.Refused, b.CutStreams
		for i, h := range c.held {
			if h == k {
				c.held = append(c.held[:i:i], c.held[i+1:]...)
				break
			}
		}
	}
}

// covers reports whether a containment's scope covers an interaction.
func (k *block) covers(tenant string, agent, session, tool string) bool {
	kind, name, ok := strings.Cut(k.scope, ":")
	if !ok {
		kind, name = "agent", k.scope
	}
	switch kind {
	case "agent":
		return agent == name
	case "session":
		return session == name
	case "tool":
		return tool != "" && tool == name
	case "tenant":
		return tenant == name
	}
	return false
}

// afterBlock looks whether a decision respects the containments in force: one
// that lets something pass, was recorded after the kill and made after it took
// effect is an event after block.
func (s *state) afterBlock(x event, d *guardbook.DecisionEntry) {
	if len(s.containment.held) == 0 && d.Containment == "" {
		return
	}
	if k := s.containment.m[d.Containment]; k != nil && !d.Decision.Releases() {
		k.refused++
		if k.firstRefused.IsZero() {
			k.firstRefused = x.ts
		}
		if k.in {
			s.walk.offer(walkRefused, x)
		}
	}
	if !d.Decision.Releases() {
		return
	}
	tool := ""
	if d.Tool != nil && d.Kind == guardbook.KindToolCall {
		tool = d.Tool.Name
	}
	for _, k := range s.containment.held {
		if !x.ts.Before(k.effective) && k.covers(x.Tenant, d.Agent, d.Session, tool) {
			k.leak(x, string(d.Kind))
		}
	}
}

func (k *block) leak(x event, kind string) {
	k.leaks++
	if k.firstLeak.IsZero() {
		k.firstLeak = x.ts
	}
	k.lastLeak, k.lastLeakKind = x.ts, kind
	if len(k.leakRefs) < maxRefs {
		k.leakRefs = append(k.leakRefs, x.ref)
	}
}

func (s *state) stream(x event, b guardbook.StreamEntry) {
	if b.Phase != "close" {
		return
	}
	if k := s.containment.m[b.Containment]; k != nil {
		k.cut++
		return
	}
	if b.Outcome != "complete" {
		return
	}
	// A stream that was ending when the kill came says so a moment later.
	for _, k := range s.containment.held {
		if x.ts.Sub(k.effective) > time.Second && k.covers(x.Tenant, b.Agent, b.Session, "") {
			k.leak(x, "stream that ran to its end")
		}
	}
}

// over reports whether the containment was in force at any time of the window.
func (s *state) inForce(k *block) bool {
	return k.started.Before(s.p.To) && (k.ended.IsZero() || k.ended.After(s.p.From))
}

var blockColumns = []column{
	{"row_id", "id of the row: the id of the kill's entry", "text", "containment.id", false},
	{"seq", "place in the log", "count", "containment.seq", false},
	{"log", "the log's origin", "text", "containment.log", false},
	{"containment", "id of the containment, from kill to lift", "text", "containment.containment", false},
	{"scope", "what was stopped", "agent:, session:, tool: or tenant:", "containment.scope", false},
	{"by", "who stopped it", "text", "containment.by", false},
	{"reason", "why", "text", "containment.reason", true},
	{"started", "when the order was given", "time", "containment.ts", false},
	{"recorded_at", "when the order was recorded", "time", "containment.rec", false},
	{"effective_at", "from when every call and stream was refused", "time", "containment.effective_at", false},
	{"until", "when it was to end by itself", "time", "containment.until", true},
	{"orders_repeated", "further orders to stop the same while it held", "count", "containment entries where op is kill", false},
	{"first_refused_at", "the first attempt that was refused", "time", "ts of the first decision that names it", true},
	{"attempts_refused", "calls refused by it", "count", "decision entries that name it", false},
	{"attempts_refused_stated", "the same, as counted by the running program when it ended", "count", "containment.refused", true},
	{"streams_cut", "running streams cut by it", "count", "stream entries that name it", false},
	{"streams_cut_stated", "the same, as counted by the running program when it ended", "count", "containment.cut", true},
	{"events_after_block", "decisions in its scope that let something pass while it was in force, and streams that ran to their end more than a second after it took effect", "count", "decision and stream entries", false},
	{"ended_at", "when it ended", "time", "ts of the lift or expire entry", true},
	{"ended_by_op", "how it ended", "lift or expire", "containment.op", true},
	{"lifted_by", "who lifted it", "text", "containment.by", true},
	{"lift_reason", "why", "text", "containment.reason", true},
	{"blocker_is_lifter", "whether one person did both", "true or false", "by equals lifted_by", true},
	{"status_at_period_end", "in force or ended at the end of the window", "text", "computed", false},
	{"status_at_extraction", "the same at the end of the book in the package", "text", "computed", false},
}

func (s *state) blockRow(t *table, k *block) error {
	var same, refused, cut any
	if !k.ended.IsZero() {
		refused, cut = k.saidRefused, k.saidCut
		if k.endOp == "lift" {
			same = k.by == k.liftedBy
		}
	}
	return t.row(k.ref.ID, k.ref.Seq, k.log, k.id, k.scope, k.by, k.reason, stamp(k.started), k.rec, stamp(k.effective), k.until, k.repeated,
		stamp(k.firstRefused), k.refused, refused, k.cut, cut, k.leaks, stamp(k.ended), k.endOp, k.liftedBy, k.liftReason, same,
		forceAt(k.ended, s.p.To), forceAt(k.ended, time.Time{}))
}

// forceAt says whether something that ended then was in force at a time; zero is
// the end of all.
func forceAt(ended, at time.Time) string {
	if ended.IsZero() || !at.IsZero() && !ended.Before(at) {
		return "in force"
	}
	return "ended"
}
