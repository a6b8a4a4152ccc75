package respond

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/guardbook/guardbook"
)

// State is where an alert is in its life.
type State string

// The states of an alert.
const (
	StateOpen         State = "open"         // nobody has claimed it
	StateAcknowledged State = "acknowledged" // somebody owns it
	StateClosed       State = "closed"       // judged; the same key opens a new alert
)

// States lists every state in the order of an alert's life.
var States = []State{StateOpen, StateAcknowledged, StateClosed}

// Dispositions lists what an alert can be judged to have been when it is closed
// (the verdicts of OCSF).
var Dispositions = []string{"true_positive", "false_positive", "benign", "suspicious", "test", "duplicate", "insufficient_data"}

// Whether an alert's newest notice reached its receiver.
const (
	DeliveryPending     = "pending"
	DeliveryDelivered   = "delivered"
	DeliveryUndelivered = "undelivered" // given up
)

// The operations of an AlertEntry.
const (
	opOpened       = "opened"
	opRepeated     = "repeated"
	opNotified     = "notified"
	opUndelivered  = "undelivered"
	opAcknowledged = "acknowledged"
	opAssigned     = "assigned"
	opClosed       = "closed"
)

// The outcomes of a NotificationEntry.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed" // and will be tried again
	outcomeGaveUp    = "gave_up"
)

// Alert is something that a person must look at: one or many decisions with the
// same tenant, agent, rule and class. Times are written as in entries.
type Alert struct {
	ID       string             `json:"alert"` // the id of the decision that opened it
	Key      string             `json:"key"`   // tenant|agent|rule|class
	State    State              `json:"state"`
	Severity guardbook.Severity `json:"severity"` // the highest so far
	Title    string             `json:"title"`
	Tenant   string             `json:"tenant"`
	Agent    string             `json:"agent"`
	Session  string             `json:"session"` // of the decision that opened it
	Rule     string             `json:"rule"`
	Class    guardbook.Class    `json:"class,omitzero"`
	Receiver string             `json:"receiver"`
	Count    int64              `json:"count"`   // decisions so far
	Opened   string             `json:"opened"`  // when the first one occurred
	Updated  string             `json:"updated"` // when the newest one or the newest step occurred
	Event    string             `json:"event"`   // id of the newest decision
	Delivery string             `json:"delivery"`
	Owner    string             `json:"owner,omitzero"`
	// Disposition and Comment are those of the close.
	Disposition string `json:"disposition,omitzero"`
	Comment     string `json:"comment,omitzero"`
	Reopens     string `json:"reopens,omitzero"` // the closed alert with the same key
	// Facts are those of the decision that raised it to its severity.
	Facts Facts `json:"facts"`
	// Steps and Notifications are its entries in the book, oldest first; only Get
	// fills them. Of a long life, the oldest repetitions are left out.
	Steps         []Step         `json:"steps,omitzero"`
	Notifications []Notification `json:"notifications,omitzero"`
}

// Facts say what was decided and why, without anything that an agent said beyond
// the masked excerpts of findings.
type Facts struct {
	Event    string              `json:"event"` // id of the decision
	Time     string              `json:"time"`
	Kind     guardbook.Kind      `json:"kind"`
	Tool     *guardbook.ToolRef  `json:"tool,omitzero"`
	Session  string              `json:"session"`
	Decision guardbook.Action    `json:"decision"`
	Would    guardbook.Action    `json:"would,omitzero"` // in monitor mode: what enforce mode would have done
	Mode     guardbook.Mode      `json:"mode"`
	Policy   string              `json:"policy"`
	Bundle   string              `json:"bundle"`
	Findings []guardbook.Finding `json:"findings"` // at most 10
}

// Step is one alert entry.
type Step struct {
	Entry string `json:"entry"`
	Seq   int64  `json:"seq"`
	Time  string `json:"time"`
	guardbook.AlertEntry
}

// Notification is one notification entry: an attempt to deliver.
type Notification struct {
	Entry string `json:"entry"`
	Seq   int64  `json:"seq"`
	Time  string `json:"time"`
	guardbook.NotificationEntry
}

// Notice is what a receiver is told: an alert was opened, or became more severe.
type Notice struct {
	// ID is the same for every attempt to deliver this notice, so that a receiver
	// can drop what it already has: delivery is at least once.
	ID      string
	Attempt int // 1, 2, ...
	Reason  string
	Alert   Alert  // without Steps and Notifications
	Link    string // the alert's page; empty when the dashboard's address is not known
}

// The reasons of a notice.
const (
	ReasonOpened = "opened"
	ReasonRaised = "raised" // the severity rose while it was open
)

// Delivery is what came of one attempt.
type Delivery struct {
	Status     int           // HTTP status, if it came that far
	Message    string        // the delivery's own id, given to or by the receiver
	RetryAfter time.Duration // what the receiver asked for; 0: nothing
}

// Receiver delivers notices. It makes one attempt and does not retry; an error
// that wraps ErrPermanent says that another attempt is useless.
type Receiver interface {
	// Via names the way in notification entries: "webhook".
	Via() string
	Notify(ctx context.Context, n Notice) (Delivery, error)
}

// ErrPermanent is wrapped by the error of a delivery that would fail again.
var ErrPermanent = errors.New("the receiver refuses it")

// Filter says which alerts are meant; the zero value means all that are kept.
type Filter struct {
	State    State
	Agent    string
	Class    guardbook.Class
	Severity guardbook.Severity // at or above
}

func (f Filter) matches(a *Alert) bool {
	return (f.State == "" || f.State == a.State) && (f.Agent == "" || f.Agent == a.Agent) &&
		(f.Class == "" || f.Class == a.Class) && a.Severity >= f.Severity
}

// alert is an Alert and what must still be done about it. Everything in the first
// group is a fold of entries; the second is about work under way in this process.
type alert struct {
	Alert
	recorded         bool               // its opening is in the book
	recordedCount    int64              // the count that the book knows
	recordedSeverity guardbook.Severity // the severity that the book knows
	lastStep         time.Time          // of the newest opened or repeated entry
	settled          bool               // a notice was delivered or given up
	settledSeverity  guardbook.Severity // the severity that it told
	attempts         int                // failed attempts at the pending notice
	nextAttempt      time.Time

	writing    string    // id of an opened or repeated entry on its way to the book
	delivering string    // id of the last entry of an attempt under way
	notBefore  time.Time // what the receiver asked for
}

// noticeDue reports whether the receiver must still be told.
func (a *alert) noticeDue() bool {
	return a.recorded && (!a.settled || a.recordedSeverity > a.settledSeverity)
}

// view is a copy for callers; with the entries if whole.
func (a *alert) view(whole bool) Alert {
	v := a.Alert
	v.Facts.Findings = slices.Clone(v.Facts.Findings)
	if !whole {
		v.Steps, v.Notifications = nil, nil
		return v
	}
	v.Steps, v.Notifications = slices.Clone(v.Steps), slices.Clone(v.Notifications)
	return v
}
