package derive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// writer is the second pass: it writes the populations and the listings.
type writer struct {
	s    *state
	sink Sink

	access, scans, changes, alerts, blocks *population
	notifications, admin, selftests        *table
	daily                                  map[dayKey]*dayRow
	attempts                               map[Ref]int // place of each attempt in state.policies.attempts
	cover                                  *coverage
	eventAt                                map[string]*alert // first events whose time is wanted
	err                                    error
}

// population is one population while it is written.
type population struct {
	Population
	t    *table
	raw  *lines
	days map[string]int64
	// early counts entries that would be rows if they had not occurred before the
	// window; they were recorded in it.
	early int64
}

func (w *writer) population(id, title, query string, cols []column) *population {
	p := &population{Population: Population{ID: id, Title: title, Query: query}, days: map[string]int64{}}
	if w.err != nil {
		return p
	}
	if p.t, w.err = newTable(w.sink, id+"/population", cols, w.s.p.RowsPerFile); w.err != nil {
		return p
	}
	p.JSONL = id + "/population.jsonl"
	if p.raw, w.err = newLines(w.sink, p.JSONL); w.err != nil {
		return p
	}
	w.err = dictionary(w.sink, id, cols)
	return p
}

// belongs reports whether an entry of the population's kind is a row, and counts
// it for the population's ipe.json.
func (w *writer) belongs(p *population, x event) bool {
	if !x.in {
		if x.ts.Before(w.s.p.From) && !when(x.Rec).Before(w.s.p.From) {
			p.early++
		}
		return false
	}
	if !when(x.Rec).Before(w.s.p.To) {
		p.Late++
	}
	r := RowRef{ID: x.ID, Seq: x.Seq, TS: x.TS}
	if p.Rows == 0 {
		p.First = r
	}
	p.Last = r
	p.Rows++
	p.days[x.ts.Format(time.DateOnly)]++
	return true
}

func (p *population) finish() error {
	for _, d := range sorted(p.days) {
		p.Days = append(p.Days, DayCount{d, p.days[d]})
	}
	p.Files, p.Raw = p.t.files, p.raw.n
	if len(p.Files) > 1 {
		p.Limits = append(p.Limits, fmt.Sprintf("The rows are split over %d CSV files, because a spreadsheet program opens no more than 1,048,576 lines.", len(p.Files)))
	}
	return cmp.Or(p.t.close(), p.raw.close())
}

func newWriter(s *state, sink Sink) *writer {
	w := &writer{s: s, sink: sink, daily: map[dayKey]*dayRow{}, attempts: map[Ref]int{}, eventAt: map[string]*alert{}, cover: newCoverage(s)}
	w.access = w.population("CC6.1", "Decisions on tool calls", `type = "decision" and kind = "tool_call" and agent <> "guardbook-canary" and from <= ts < to, in the order of the book`, accessColumns)
	w.scans = w.population("CC7.2", "Decisions on interactions (scan events)", `type = "decision" and agent <> "guardbook-canary" and from <= ts < to, in the order of the book`, scanColumns)
	w.alerts = w.population("CC7.3", "Alerts opened in the window", `type = "alert" and op = "opened" and from <= ts < to, in the order of the book; the JSON lines are all steps and notifications of these alerts`, alertColumns)
	w.blocks = w.population("CC7.4", "Containments begun in the window", `type = "containment" and op = "kill" and from <= ts < to, the first of each containment, in the order of the book; the JSON lines are its steps, the calls that it refused and the streams that it cut`, blockColumns)
	w.changes = w.population("CC8.1", "Attempts to load policy", `type = "policy" and from <= ts < to, in the order of the book`, changeColumns)
	if w.err == nil {
		w.notifications, w.err = newTable(sink, "alerts/notifications", notificationColumns, 0)
	}
	if w.err == nil {
		w.admin, w.err = newTable(sink, "admin/admin-actions", adminColumns, 0)
	}
	if w.err == nil {
		w.selftests, w.err = newTable(sink, "detectors/selftests", selftestColumns, 0)
	}
	for i, a := range s.policies.attempts {
		w.attempts[a.ref] = i
	}
	for _, a := range s.alerts.order {
		if a.in && a.Event != "" {
			w.eventAt[a.Event] = a
		}
	}
	return w
}

func (w *writer) write(ctx context.Context, l *Log) error {
	if w.err != nil {
		return w.err
	}
	return l.Entries(ctx, func(raw []byte) error {
		e, err := guardbook.ParseEntry(raw)
		if err != nil {
			return nil //nolint:nilerr // counted by the first pass
		}
		x := event{Entry: e, ref: Ref{l.Epoch, e.Seq, e.ID}, ts: when(e.TS)}
		x.in = w.s.inside(x.ts)
		if a := w.eventAt[e.ID]; a != nil {
			a.eventAt = x.ts
		}
		return w.entry(x)
	})
}

// body reads an entry's body. One that cannot be read gives no rows: the first
// pass has counted it.
func body[T any](x event) (T, bool) {
	b, err := guardbook.Body[T](x.Entry)
	return b, err == nil
}

// entry writes the rows and lines that one entry gives.
func (w *writer) entry(x event) error {
	switch x.Type {
	case guardbook.TypeDecision:
		b, ok := body[guardbook.DecisionEntry](x)
		if !ok {
			return nil
		}
		return w.decision(x, &b)
	case guardbook.TypePolicy:
		i, ok := w.attempts[x.ref]
		if !ok || !w.belongs(w.changes, x) {
			return nil
		}
		return cmp.Or(changeRow(w.changes.t, w.s.policies.attempts[i], w.s.before(i), x.Rec, x.Log), w.changes.raw.add(x.Raw))
	case guardbook.TypeAlert:
		b, ok := body[guardbook.AlertEntry](x)
		a := w.s.alerts.m[b.Alert]
		if !ok || a == nil {
			return nil
		}
		if a.ref == x.ref && w.belongs(w.alerts, x) {
			if err := w.s.alertRow(w.alerts.t, a); err != nil {
				return err
			}
		}
		if !a.in {
			return nil
		}
		return w.alerts.raw.add(x.Raw)
	case guardbook.TypeNotification:
		return w.notification(x)
	case guardbook.TypeContainment:
		b, ok := body[guardbook.ContainmentEntry](x)
		k := w.s.containment.m[b.Containment]
		if !ok || k == nil {
			return nil
		}
		if k.ref == x.ref && w.belongs(w.blocks, x) {
			if err := w.s.blockRow(w.blocks.t, k); err != nil {
				return err
			}
		}
		if !k.in {
			return nil
		}
		return w.blocks.raw.add(x.Raw)
	case guardbook.TypeStream:
		b, ok := body[guardbook.StreamEntry](x)
		if k := w.s.containment.m[b.Containment]; ok && k != nil && k.in {
			return w.blocks.raw.add(x.Raw)
		}
	case guardbook.TypeOperator, guardbook.TypeAgent:
		return w.adminAction(x)
	case guardbook.TypeCanary:
		return w.selftest(x)
	}
	return nil
}

// before is the attempt that was in force before attempt i.
func (s *state) before(i int) *attempt {
	for i--; i >= 0; i-- {
		if s.policies.attempts[i].applied() {
			return s.policies.attempts[i]
		}
	}
	return nil
}

func (w *writer) decision(x event, b *guardbook.DecisionEntry) error {
	if k := w.s.containment.m[b.Containment]; k != nil && k.in {
		if err := w.blocks.raw.add(x.Raw); err != nil {
			return err
		}
	}
	if b.Agent == guardbook.CanaryAgent {
		return nil
	}
	if w.belongs(w.scans, x) {
		w.day(x, b)
		w.cover.decision(b.Agent, x.ts)
		if err := cmp.Or(w.scanRow(x, b), w.scans.raw.add(x.Raw)); err != nil {
			return err
		}
	}
	if b.Kind != guardbook.KindToolCall || !w.belongs(w.access, x) {
		return nil
	}
	return cmp.Or(w.accessRow(x, b), w.access.raw.add(x.Raw))
}

func (w *writer) notification(x event) error {
	b, ok := body[guardbook.NotificationEntry](x)
	if !ok {
		return nil
	}
	if a := w.s.alerts.m[b.Alert]; a != nil && a.in {
		if err := w.alerts.raw.add(x.Raw); err != nil {
			return err
		}
	}
	if !x.in {
		return nil
	}
	var status any
	if b.Status != 0 {
		status = b.Status
	}
	return w.notifications.row(x.ID, x.Seq, x.TS, b.Alert, b.Receiver, b.Via, b.Attempt, b.Outcome, status, b.Micros, b.Error, b.Message)
}

var adminColumns = []column{
	{"row_id", "id of the entry", "text", "id", false},
	{"seq", "place in the log", "count", "seq", false},
	{"occurred_at", "when it was done", "time", "ts", false},
	{"type", "operator: access and evidence; agent: the register of agents", "text", "type", false},
	{"action", "what was done", "text", "op", false},
	{"by", "who did it", "text", "by", false},
	{"object", "to which agent, if to one", "text", "agent.agent", true},
	{"detail", "the rest", "text", "operator.detail, agent.owner, agent.purpose, agent.key", true},
}

func (w *writer) adminAction(x event) error {
	if !x.in {
		return nil
	}
	if x.Type == guardbook.TypeAgent {
		b, ok := body[guardbook.AgentEntry](x)
		if !ok {
			return nil
		}
		return w.admin.row(x.ID, x.Seq, x.TS, string(x.Type), b.Op, b.By, b.Agent, pairs(map[string]string{"owner": b.Owner, "purpose": b.Purpose, "key": b.Key}))
	}
	b, ok := body[guardbook.OperatorEntry](x)
	if !ok {
		return nil
	}
	return w.admin.row(x.ID, x.Seq, x.TS, string(x.Type), b.Op, b.By, b.Detail["agent"], pairs(b.Detail))
}

// pairs writes a map's non-empty members in order.
func pairs(m map[string]string) string {
	var out []string
	for _, k := range sorted(m) {
		if m[k] != "" {
			out = append(out, k+"="+m[k])
		}
	}
	return strings.Join(out, "; ")
}

// finish closes the populations and writes everything that is known only now.
func (w *writer) finish() error {
	if w.err != nil {
		return w.err
	}
	s := w.s
	counted := map[string]int64{"CC6.1": s.decisions.tools, "CC7.2": s.decisions.total, "CC7.3": 0, "CC7.4": 0, "CC8.1": s.facts.Counts[string(guardbook.TypePolicy)]}
	for _, a := range s.alerts.order {
		if a.in {
			counted["CC7.3"]++
		}
	}
	for _, k := range s.containment.order {
		if k.in {
			counted["CC7.4"]++
		}
	}
	for _, p := range []*population{w.access, w.scans, w.alerts, w.blocks, w.changes} {
		if err := p.finish(); err != nil {
			return err
		}
		p.Counted = counted[p.ID]
		p.Excluded = []Exclusion{{"recorded in the window, occurred before it", p.early, "the window is about when things occurred"}}
		switch p.ID {
		case "CC6.1":
			p.Excluded = append(p.Excluded, Exclusion{"agent = guardbook-canary", s.canaries.tools, canaryReason})
		case "CC7.2":
			p.Excluded = append(p.Excluded, Exclusion{"agent = guardbook-canary", s.canaries.decisions, canaryReason})
		}
		p.Limits = append(p.Limits, "What an agent did without Guardbook is not in the book: no listing made from it can show that.")
		s.facts.Populations = append(s.facts.Populations, p.Population)
	}
	if err := cmp.Or(w.notifications.close(), w.admin.close(), w.selftests.close()); err != nil {
		return err
	}
	for _, write := range []func() error{
		func() error { return s.writeAgents(w.sink) },
		func() error { return s.writeGrants(w.sink) },
		func() error { return s.writeActivations(w.sink) },
		w.writeAlerts, w.writeBlocks, w.writeDaily, w.writeWalks,
		func() error { return w.cover.write(w.sink) },
		w.writeMetrics, w.writeExceptions, w.writeMatrix,
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// writeAlerts lists every alert that was open at any time of the window.
func (w *writer) writeAlerts() error {
	t, err := newTable(w.sink, "alerts/alerts", alertColumns, 0)
	if err != nil {
		return err
	}
	for _, a := range w.s.alerts.order {
		if !a.opened.Before(w.s.p.To) || !a.closed.IsZero() && a.closed.Before(w.s.p.From) {
			continue
		}
		if err := w.s.alertRow(t, a); err != nil {
			return err
		}
	}
	return t.close()
}

// writeBlocks lists every containment that was in force at any time of the window.
func (w *writer) writeBlocks() error {
	t, err := newTable(w.sink, "containment/blocks", blockColumns, 0)
	if err != nil {
		return err
	}
	for _, k := range w.s.containment.order {
		if !w.s.inForce(k) {
			continue
		}
		if err := w.s.blockRow(t, k); err != nil {
			return err
		}
	}
	return t.close()
}

type dayKey struct {
	day, agent string
	kind       guardbook.Kind
	decision   guardbook.Action
	mode       guardbook.Mode
}

type dayRow struct{ n, failed, high int64 }

func (w *writer) day(x event, b *guardbook.DecisionEntry) {
	k := dayKey{x.ts.Format("2006-01-02"), b.Agent, b.Kind, b.Decision, b.Mode}
	r := w.daily[k]
	if r == nil {
		r = &dayRow{}
		w.daily[k] = r
	}
	r.n++
	if degradedDecision(b) {
		r.failed++
	}
	if b.Severity >= guardbook.High {
		r.high++
	}
}

// writeDaily sums the decisions up by day.
func (w *writer) writeDaily() error {
	t, err := newTable(w.sink, "CC7.2/daily", []column{{name: "day"}, {name: "agent_id"}, {name: "direction"}, {name: "action"}, {name: "mode"},
		{name: "decisions"}, {name: "degraded"}, {name: "high_or_critical"}}, 0)
	if err != nil {
		return err
	}
	keys := make([]dayKey, 0, len(w.daily))
	for k := range w.daily {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b dayKey) int {
		return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.agent, b.agent), cmp.Compare(a.kind, b.kind), cmp.Compare(a.decision, b.decision), cmp.Compare(a.mode, b.mode))
	})
	for _, k := range keys {
		r := w.daily[k]
		if err := t.row(k.day, k.agent, string(k.kind), string(k.decision), string(k.mode), r.n, r.failed, r.high); err != nil {
			return err
		}
	}
	return t.close()
}
