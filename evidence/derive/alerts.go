package derive

import (
	"sort"
	"time"

	"github.com/guardbook/guardbook"
)

// alerts follows every alert from opening to closing.
type alerts struct {
	m      map[string]*alert
	order  []*alert
	byRule map[string][]*alert // by agent and rule, oldest first
	open   map[string][]*alert
	steps  int64 // alert entries in the window
	sends  int64 // notification entries in the window
}

type alert struct {
	guardbook.AlertEntry // as it was opened
	ref                  Ref
	log, rec             string
	in                   bool
	opened               time.Time
	eventAt              time.Time // when what it is about occurred
	final                guardbook.Severity
	count                int64
	lastAt               time.Time
	notified             time.Time // first delivery
	via, result          string
	attempts, delivered  int64
	failed, gaveUp       int64
	acked                time.Time
	ackBy                string
	owner, ownerAtEnd    string
	assigned             time.Time
	closed               time.Time
	closedBy             string
	disposition, comment string
	contained            time.Time // the first kill that covers it while it was open
	entries              []Ref
	first, end           Ref // the event that opened it and the entry that closed it
}

func (a *alerts) init() {
	a.m, a.byRule, a.open = map[string]*alert{}, map[string][]*alert{}, map[string][]*alert{}
}

func (s *state) alert(x event, b guardbook.AlertEntry) {
	if x.in {
		s.alerts.steps++
	}
	a := s.alerts.m[b.Alert]
	if a == nil {
		if b.Op != "opened" {
			return
		}
		a = &alert{AlertEntry: b, ref: x.ref, log: x.Log, rec: x.Rec, in: x.in, opened: x.ts, final: b.Severity, count: 1, lastAt: x.ts, owner: b.Owner}
		s.alerts.m[b.Alert] = a
		s.alerts.order = append(s.alerts.order, a)
		s.alerts.forget(b.Agent)
		s.alerts.open[b.Agent] = append(s.alerts.open[b.Agent], a)
		key := b.Agent + " " + b.Rule
		a.first = x.ref
		for _, d := range s.decisions.pending[key] {
			if d.ref.ID == b.Event {
				a.first = d.ref
			}
		}
		s.alerts.byRule[key] = append(s.alerts.byRule[key], a)
		delete(s.decisions.pending, key)
		if a.in {
			s.walk.offer(walkAlert, x)
		}
	}
	if len(a.entries) < maxRefs {
		a.entries = append(a.entries, x.ref)
	}
	switch b.Op {
	case "repeated":
		a.count = max(a.count+1, b.Count)
		a.lastAt = x.ts
	case "acknowledged":
		if a.acked.IsZero() {
			a.acked, a.ackBy = x.ts, b.By
		}
		if b.Owner != "" {
			a.owner = b.Owner
		} else if a.owner == "" {
			a.owner = b.By
		}
	case "assigned":
		a.owner, a.assigned = b.Owner, x.ts
	case "closed":
		a.end = x.ref
		a.closed, a.closedBy, a.disposition, a.comment = x.ts, b.By, b.Disposition, b.Comment
		if b.Count > a.count {
			a.count = b.Count
		}
	}
	if b.Severity > a.final {
		a.final = b.Severity
	}
	if x.ts.Before(s.p.To) {
		a.ownerAtEnd = a.owner
	}
}

func (s *state) notification(x event, b guardbook.NotificationEntry) {
	if x.in {
		s.alerts.sends++
	}
	a := s.alerts.m[b.Alert]
	if a == nil {
		return
	}
	a.attempts++
	switch b.Outcome {
	case "delivered":
		a.delivered++
		if a.notified.IsZero() {
			a.notified, a.via = x.ts, b.Via
		}
	case "gave_up":
		a.gaveUp++
	default:
		a.failed++
	}
	if a.result == "" || b.Outcome == "delivered" {
		a.result = b.Outcome
	}
	if a.in {
		s.walk.follow(a.Alert, x)
	}
}

// contained ties a kill to the alerts that were open about what it stops.
func (as *alerts) contained(k *block) {
	for _, list := range as.open {
		for _, a := range list {
			if a.contained.IsZero() && a.closed.IsZero() && k.covers("", a.Agent, a.Session, "") {
				a.contained = k.effective
			}
		}
	}
}

// forget drops the closed alerts from the list of open ones.
func (as *alerts) forget(agent string) {
	list := as.open[agent][:0]
	for _, a := range as.open[agent] {
		if a.closed.IsZero() {
			list = append(list, a)
		}
	}
	as.open[agent] = list
}

// of is the alert that gathers a decision: the one that it opened, or the one
// about the same agent and rule that was open then. Repeated events have no entry
// of their own, so this follows from the order of the book.
func (as *alerts) of(agent, rule string, class guardbook.Class, at Ref) *alert {
	// The alerts of one agent and rule stand in the order of their first events, and
	// only those of different classes overlap: a few steps back reach all that can
	// have been open.
	list := as.byRule[agent+" "+rule]
	i := sort.Search(len(list), func(i int) bool { return at.before(list[i].first) })
	var found *alert
	for steps := 0; i > 0 && steps < 2*len(guardbook.Classes); steps++ {
		i--
		a := list[i]
		if a.end.ID != "" && a.end.before(at) {
			continue
		}
		if a.Class == class {
			return a
		}
		if found == nil {
			found = a
		}
	}
	return found
}

// before reports whether an entry stands before another.
func (r Ref) before(o Ref) bool {
	return r.Epoch < o.Epoch || r.Epoch == o.Epoch && r.Seq < o.Seq
}

// statusAt is an alert's status at a time; zero is the end of all.
func (a *alert) statusAt(at time.Time) string {
	before := func(t time.Time) bool { return !t.IsZero() && (at.IsZero() || t.Before(at)) }
	switch {
	case before(a.closed):
		return "closed"
	case before(a.acked):
		return "acknowledged"
	}
	return "open"
}

// Times within which an alert is to be acknowledged and closed, by severity; zero
// means none is set. They are the program's defaults, printed in every listing
// that uses them.
var (
	ackWithin = map[guardbook.Severity]time.Duration{
		guardbook.Critical: 15 * time.Minute, guardbook.High: time.Hour, guardbook.Medium: 8 * time.Hour, guardbook.Low: 72 * time.Hour,
	}
	closeWithin = map[guardbook.Severity]time.Duration{
		guardbook.Critical: 24 * time.Hour, guardbook.High: 72 * time.Hour, guardbook.Medium: 240 * time.Hour, guardbook.Low: 720 * time.Hour,
	}
)

const limitsText = "acknowledge: critical 15 min, high 1 h, medium 8 h, low 3 d; close: critical 24 h, high 72 h, medium 10 d, low 30 d; info none; around the clock (defaults of the program)"

// due is when something was to be done, and whether it was: "yes", "no" or "not
// yet due" at the end of the entries. Acknowledging counts as done when the alert
// was closed at once.
func (s *state) due(a *alert, within time.Duration, done time.Time) (at string, met string) {
	if within == 0 {
		return "", ""
	}
	t := a.opened.Add(within)
	switch {
	case !done.IsZero() && !done.After(t):
		met = "yes"
	case done.IsZero() && when(s.last).Before(t):
		met = "not yet due"
	default:
		met = "no"
	}
	return stamp(t), met
}

// answered is when an alert was first taken up.
func (a *alert) answered() time.Time {
	if a.acked.IsZero() || !a.closed.IsZero() && a.closed.Before(a.acked) {
		return a.closed
	}
	return a.acked
}

var alertColumns = []column{
	{"row_id", "id of the row: the id of the entry that opened the alert", "text", "alert.id", false},
	{"seq", "place in the log", "count", "alert.seq", false},
	{"log", "the log's origin", "text", "alert.log", false},
	{"alert_id", "the alert", "text", "alert.alert", false},
	{"opened_at", "when it was opened", "time", "alert.ts", false},
	{"recorded_at", "when that was recorded", "time", "alert.rec", false},
	{"carried_in", "whether it was opened before the window", "true or false", "opened_at", false},
	{"agent_id", "about which agent", "text", "alert.agent", true},
	{"session_id", "about which session", "text", "alert.session", true},
	{"rule_id", "the rule that decided", "text", "alert.rule", true},
	{"threat_class", "the threat class", "text", "alert.class", true},
	{"title", "its title", "text", "alert.title", true},
	{"severity_initial", "severity when it was opened", "info to critical", "alert.severity", false},
	{"severity_final", "highest severity that it reached", "info to critical", "alert.severity", false},
	{"events", "how many events it gathers", "count", "alert.count", false},
	{"first_event", "entry that opened it", "text", "alert.event", true},
	{"last_seen_at", "the latest of its events", "time", "alert.ts where op is repeated", false},
	{"receiver", "who was to be told", "text", "alert.receiver", true},
	{"first_notified_at", "the first delivery", "time", "notification.ts where outcome is delivered", true},
	{"first_notified_via", "by which channel", "text", "notification.via", true},
	{"delivery", "what came of the deliveries: delivered once any was", "text", "notification.outcome", true},
	{"delivery_attempts", "attempts to deliver", "count", "notification entries", false},
	{"acked_at", "when somebody took it up", "time", "alert.ts where op is acknowledged", true},
	{"acked_by", "who", "text", "alert.by", true},
	{"owner_at_period_end", "who owned it at the end of the window", "text", "alert.owner", true},
	{"owner_at_extraction", "who owned it at the end of the book in the package", "text", "alert.owner", true},
	{"closed_at", "when it was closed", "time", "alert.ts where op is closed", true},
	{"closed_by", "who closed it", "text", "alert.by", true},
	{"disposition", "what it turned out to be", "text", "alert.disposition", true},
	{"comment", "why", "text", "alert.comment", true},
	{"ack_due_at", "by when it was to be taken up: " + limitsText, "time", "opened_at and severity_initial", true},
	{"ack_in_time", "whether it was", "yes, no, not yet due", "computed", true},
	{"close_due_at", "by when it was to be closed", "time", "opened_at and severity_initial", true},
	{"closed_in_time", "whether it was", "yes, no, not yet due", "computed", true},
	{"contained_at", "the first kill that covers its agent or session while it was open", "time", "containment.effective_at", true},
	{"reopens", "the closed alert that it repeats", "text", "alert.reopens", true},
	{"status_at_period_end", "open, acknowledged or closed at the end of the window", "text", "computed", false},
	{"status_at_extraction", "the same at the end of the book in the package", "text", "computed", false},
}

func (s *state) alertRow(t *table, a *alert) error {
	ackDue, ackMet := s.due(a, ackWithin[a.Severity], a.answered())
	closeDue, closeMet := s.due(a, closeWithin[a.Severity], a.closed)
	return t.row(a.ref.ID, a.ref.Seq, a.log, a.Alert, stamp(a.opened), a.rec, a.opened.Before(s.p.From), a.Agent, a.Session, a.Rule, string(a.Class),
		a.Title, a.Severity.String(), a.final.String(), a.count, a.Event, stamp(a.lastAt), a.Receiver, stamp(a.notified), a.via, a.result, a.attempts,
		stamp(a.acked), a.ackBy, a.ownerAtEnd, a.owner, stamp(a.closed), a.closedBy, a.disposition, a.comment, ackDue, ackMet, closeDue, closeMet,
		stamp(a.contained), a.Reopens, a.statusAt(s.p.To), a.statusAt(time.Time{}))
}

var notificationColumns = []column{
	{"row_id", "id of the attempt's entry", "text", "notification.id", false},
	{"seq", "place in the log", "count", "notification.seq", false},
	{"occurred_at", "when it was made", "time", "notification.ts", false},
	{"alert_id", "the alert", "text", "notification.alert", false},
	{"receiver", "who was to be told", "text", "notification.receiver", false},
	{"via", "by which channel", "text", "notification.via", false},
	{"attempt", "which attempt it was", "count", "notification.attempt", false},
	{"outcome", "delivered, failed (tried again) or gave_up", "text", "notification.outcome", false},
	{"status", "HTTP status of the receiver", "count", "notification.status", true},
	{"latency_us", "how long it took", "microseconds", "notification.us", false},
	{"error", "what went wrong", "text", "notification.error", true},
	{"message_id", "the delivery's own id", "text", "notification.message", true},
}
