package respond

import (
	"bytes"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
)

// maxSteps bounds the entries of one alert that stay in memory.
const maxSteps = 200

// Apply folds one entry of the book into the state; entries come in the order of
// the book, each once. It does nothing else: Run acts on the state.
func (a *Alerts) Apply(e guardbook.Entry) error {
	defer a.readBack(e.ID)
	switch e.Type {
	case guardbook.TypeDecision:
		if !bytes.Contains(e.Raw, []byte(`"alert":`)) {
			return nil
		}
		b, err := guardbook.Body[guardbook.DecisionEntry](e)
		if err != nil || b.Alert == "" {
			return err
		}
		a.applyDecision(e, &b)
	case guardbook.TypeCanary:
		b, err := guardbook.Body[guardbook.CanaryEntry](e)
		if err != nil || b.OK {
			return err
		}
		a.applyMiss(e, &b)
	case guardbook.TypeTool:
		b, err := guardbook.Body[guardbook.ToolEntry](e)
		if err != nil || b.Op != opQuarantined {
			return err
		}
		a.applyQuarantine(e, &b)
	case guardbook.TypeAlert:
		b, err := guardbook.Body[guardbook.AlertEntry](e)
		if err != nil {
			return err
		}
		a.applyStep(e, b)
	case guardbook.TypeNotification:
		b, err := guardbook.Body[guardbook.NotificationEntry](e)
		if err != nil {
			return err
		}
		a.applyNotification(e, b)
	}
	return nil
}

func (a *Alerts) applyDecision(e guardbook.Entry, d *guardbook.DecisionEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	class := classOf(d)
	key := keyOf(e.Tenant, d.Agent, d.Rule, class)
	x := a.open[key]
	if x == nil {
		x = &alert{Alert: Alert{
			ID: e.ID, Key: key, State: StateOpen, Severity: d.Severity, Title: titleOf(d, class),
			Tenant: e.Tenant, Agent: d.Agent, Session: d.Session, Rule: d.Rule, Class: class, Receiver: d.Alert,
			Opened: e.TS, Delivery: DeliveryPending, Reopens: a.lastClosed[key], Facts: factsOf(e, d),
		}}
		a.alerts[x.ID], a.open[key] = x, x
	}
	x.Count++
	x.Event, x.Updated = e.ID, e.TS
	if d.Severity > x.Severity {
		x.Severity, x.Facts = d.Severity, factsOf(e, d)
	}
	a.work[x.ID] = x
}

// applyMiss opens or counts the alert of an entry path whose test interaction was
// not caught. No policy names its receiver: it goes to the default one.
func (a *Alerts) applyMiss(e guardbook.Entry, b *guardbook.CanaryEntry) {
	rule := "canary/" + b.Path
	a.mu.Lock()
	defer a.mu.Unlock()
	key := keyOf(e.Tenant, guardbook.CanaryAgent, rule, guardbook.ClassAnomaly)
	x := a.open[key]
	if x == nil {
		title := strings.Map(visible, "detection missed a test on "+b.Path+": "+b.Cell)
		x = &alert{Alert: Alert{
			ID: e.ID, Key: key, State: StateOpen, Severity: guardbook.High, Title: clipTitle(title),
			Tenant: e.Tenant, Agent: guardbook.CanaryAgent, Rule: rule, Class: guardbook.ClassAnomaly, Receiver: defaultReceiver,
			Opened: e.TS, Delivery: DeliveryPending, Reopens: a.lastClosed[key],
			Facts: Facts{Event: e.ID, Time: e.TS, Findings: []guardbook.Finding{}},
		}}
		a.alerts[x.ID], a.open[key] = x, x
	}
	x.Count++
	x.Event, x.Updated = e.ID, e.TS
	a.work[x.ID] = x
}

// defaultReceiver is who is told of what no policy names a receiver for.
const defaultReceiver = "default"

func factsOf(e guardbook.Entry, d *guardbook.DecisionEntry) Facts {
	const most = 10
	return Facts{
		Event: e.ID, Time: e.TS, Kind: d.Kind, Tool: d.Tool, Session: d.Session, Decision: d.Decision, Would: d.Would,
		Mode: d.Mode, Policy: d.Policy, Bundle: d.Bundle, Findings: slices.Clone(d.Findings[:min(len(d.Findings), most)]),
	}
}

func (a *Alerts) applyStep(e guardbook.Entry, b guardbook.AlertEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.alerts[b.Alert]
	if x == nil && b.Op == opOpened { // its decision is not in what was read: take the entry's word
		x = &alert{Alert: Alert{
			ID: b.Alert, Key: b.Key, State: StateOpen, Severity: b.Severity, Title: b.Title, Tenant: e.Tenant,
			Agent: b.Agent, Session: b.Session, Rule: b.Rule, Class: b.Class, Receiver: b.Receiver, Count: b.Count,
			Opened: e.TS, Event: b.Event, Delivery: DeliveryPending, Reopens: b.Reopens, Facts: Facts{Event: b.Event, Time: e.TS},
		}}
		a.alerts[x.ID], a.open[x.Key] = x, x
	}
	if x == nil {
		return // of an alert that was closed long ago
	}
	x.addStep(Step{e.ID, e.Seq, e.TS, b})
	x.Updated = max(x.Updated, e.TS)
	switch b.Op {
	case opOpened, opRepeated:
		x.recorded = true
		x.recordedCount = max(x.recordedCount, b.Count)
		x.recordedSeverity = max(x.recordedSeverity, b.Severity)
		x.lastStep = unstamp(e.TS)
		if x.noticeDue() {
			x.Delivery = DeliveryPending
		}
	case opNotified, opUndelivered:
		x.settled, x.settledSeverity = true, b.Severity
		x.attempts, x.nextAttempt = 0, time.Time{}
		switch {
		case x.noticeDue():
			x.Delivery = DeliveryPending
		case b.Op == opNotified:
			x.Delivery = DeliveryDelivered
		default:
			x.Delivery = DeliveryUndelivered
		}
	case opAcknowledged:
		if x.State == StateOpen {
			x.State = StateAcknowledged
		}
		x.Owner = b.By
	case opAssigned:
		x.Owner = b.Owner
	case opClosed:
		a.applyClose(x, b)
	}
	x.ready(e.ID)
	a.work[x.ID] = x
}

// applyClose closes an alert; a.mu is held.
func (a *Alerts) applyClose(x *alert, b guardbook.AlertEntry) {
	if x.State == StateClosed {
		return
	}
	x.State, x.Disposition, x.Comment = StateClosed, b.Disposition, b.Comment
	delete(a.open, x.Key)
	a.lastClosed[x.Key] = x.ID
	a.closed = append(a.closed, x.ID)
	if len(a.closed) > a.o.KeepClosed {
		delete(a.alerts, a.closed[0])
		delete(a.work, a.closed[0])
		a.closed = slices.Delete(a.closed, 0, 1)
	}
}

// addStep keeps the entry; of a long life the oldest repetitions go.
func (x *alert) addStep(s Step) {
	x.Steps = append(x.Steps, s)
	if len(x.Steps) <= maxSteps {
		return
	}
	oldest := slices.IndexFunc(x.Steps, func(s Step) bool { return s.Op == opRepeated })
	x.Steps = slices.Delete(x.Steps, max(oldest, 0), max(oldest, 0)+1)
}

func (a *Alerts) applyNotification(e guardbook.Entry, b guardbook.NotificationEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.alerts[b.Alert]
	if x == nil {
		return
	}
	if len(x.Notifications) == maxSteps {
		x.Notifications = slices.Delete(x.Notifications, 0, 1)
	}
	x.Notifications = append(x.Notifications, Notification{e.ID, e.Seq, e.TS, b})
	if b.Outcome == outcomeFailed {
		x.attempts = b.Attempt
		x.nextAttempt = unstamp(e.TS).Add(backoff(a.o.Backoff, b.Alert, b.Attempt))
	}
	x.ready(e.ID)
	a.work[x.ID] = x
}

// ready ends the wait for an entry of this process that was read back.
func (x *alert) ready(entry string) {
	if x.writing == entry {
		x.writing = ""
	}
	if x.delivering == entry {
		x.delivering = ""
	}
}

// readBack tells an operator's step that it has taken effect.
func (a *Alerts) readBack(entry string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.waiting[entry]; c != nil {
		close(c)
		delete(a.waiting, entry)
	}
}

// backoff is the wait after failed attempt n (1, 2, ...): first, doubled with each
// one, and up to a fifth longer or shorter, so that a receiver that comes back is
// not met by everything at once. The jitter is taken from the alert's id: after a
// restart the wait is the same.
func backoff(first time.Duration, id string, n int) time.Duration {
	d := first << min(n-1, 20)
	h := fnv.New32a()
	h.Write([]byte(id + "#" + strconv.Itoa(n)))
	return d + time.Duration((float64(h.Sum32()%1001)/1000-0.5)*0.4*float64(d))
}
