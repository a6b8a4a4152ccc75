package respond

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/guardbook/guardbook"
)

// AlertOptions tune Alerts. The zero value is what production uses.
type AlertOptions struct {
	// Link returns the address of an alert's page; nil: notices carry none.
	Link func(alert string) string
	// Attempts is how often a notice is tried before it is given up; default 8.
	Attempts int
	// Backoff is the wait after the first failed attempt; it doubles with each
	// one. Default 30 s: eight attempts take about an hour.
	Backoff time.Duration
	// RepeatEvery is the least time between two repeated entries of an alert that
	// does not become more severe; default 1 minute.
	RepeatEvery time.Duration
	// KeepClosed is how many closed alerts stay in memory; older ones are in the
	// book and the archive. Default 10,000.
	KeepClosed int
	Log        *slog.Logger
}

// Alerts opens an alert for every decision that policy wants somebody to look at,
// counts those that belong together, and sees to it that the receiver is told.
//
// The state is a fold of entries in the order of the book, and nothing else: an
// operator's step takes effect when its entry is read back. What must be done
// (entries to write, notices to deliver) follows from the state, so a restart
// goes on where the last run stopped and does nothing twice that is in the book.
type Alerts struct {
	rec       Recorder
	receivers map[string]Receiver
	o         AlertOptions
	log       *slog.Logger

	// operating admits one operator's step at a time; taken before mu.
	operating sync.Mutex

	mu         sync.Mutex
	alerts     map[string]*alert
	open       map[string]*alert        // by key; not closed
	lastClosed map[string]string        // by key: the newest closed alert
	closed     []string                 // kept in memory, in the order of closing
	work       map[string]*alert        // what may need something done
	flying     map[string]int           // attempts under way, by receiver
	waiting    map[string]chan struct{} // operators' steps, until they are read back
	caughtUp   bool                     // the past is known
	holdUntil  time.Time                // the book failed: no steps before this
	hold       time.Duration

	wake chan struct{}
}

// NewAlerts returns alerts that deliver to the receivers, by the name that
// policies use. Give it entries of earlier logs with Apply, then call Run.
func NewAlerts(rec Recorder, receivers map[string]Receiver, o AlertOptions) *Alerts {
	if o.Attempts <= 0 {
		o.Attempts = 8
	}
	if o.Backoff <= 0 {
		o.Backoff = 30 * time.Second
	}
	if o.RepeatEvery <= 0 {
		o.RepeatEvery = time.Minute
	}
	if o.KeepClosed <= 0 {
		o.KeepClosed = 10_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Alerts{
		rec: rec, receivers: receivers, o: o, log: o.Log,
		alerts:     map[string]*alert{},
		open:       map[string]*alert{},
		lastClosed: map[string]string{},
		work:       map[string]*alert{},
		flying:     map[string]int{},
		waiting:    map[string]chan struct{}{},
		wake:       make(chan struct{}, 1),
	}
}

// List returns the alerts that match, the newest first, without their entries.
func (a *Alerts) List(f Filter) []Alert {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := []Alert{}
	for _, x := range a.alerts {
		if f.matches(&x.Alert) {
			out = append(out, x.view(false))
		}
	}
	slices.SortFunc(out, func(x, y Alert) int {
		if n := strings.Compare(y.Opened, x.Opened); n != 0 {
			return n
		}
		return strings.Compare(y.ID, x.ID)
	})
	return out
}

// Get returns one alert with its entries.
func (a *Alerts) Get(id string) (Alert, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.alerts[id]
	if x == nil {
		return Alert{}, unknownAlert(id)
	}
	return x.view(true), nil
}

func unknownAlert(id string) error {
	return &problem{kind: ErrNotFound, text: fmt.Sprintf("there is no alert %.80q: see the list of alerts; one that was closed long ago is in the list of events", id)}
}

// Open counts the alerts that are not closed.
func (a *Alerts) Open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open)
}

func (a *Alerts) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// keyOf says which decisions belong to the same alert. It holds who and what, never
// content or severity.
func keyOf(tenant, agent, rule string, class guardbook.Class) string {
	escape := strings.NewReplacer("%", "%25", "|", "%7C")
	return strings.Join([]string{escape.Replace(tenant), escape.Replace(agent), escape.Replace(rule), escape.Replace(string(class))}, "|")
}

// classOf is the threat class that a decision is about: the one that its rule
// names, else that of its gravest finding; empty if it has none.
func classOf(d *guardbook.DecisionEntry) guardbook.Class {
	var best *guardbook.Finding
	for i := range d.Findings {
		f := &d.Findings[i]
		if strings.HasSuffix(d.Rule, "/"+string(f.Class)) {
			return f.Class
		}
		if best == nil || f.Severity > best.Severity || f.Severity == best.Severity && f.Confidence > best.Confidence {
			best = f
		}
	}
	if best == nil {
		return ""
	}
	return best.Class
}

// titleOf is one line for people, made of names only.
func titleOf(d *guardbook.DecisionEntry, class guardbook.Class) string {
	what := string(class)
	switch {
	case d.Containment != "":
		what = "containment"
	case what == "":
		what = "policy"
	}
	done := map[guardbook.Action]string{
		guardbook.ActionFlag: "flagged", guardbook.ActionRedact: "redacted", guardbook.ActionHold: "held", guardbook.ActionBlock: "blocked",
	}
	action := d.Decision
	verb := ""
	if d.Would != "" {
		action, verb = d.Would, "would have been "
	}
	if s := done[action]; s != "" {
		verb += s
	} else {
		verb += string(action)
	}
	tool := ""
	if d.Tool != nil && d.Tool.Name != "" {
		tool = " " + d.Tool.Name
	}
	title := strings.Map(visible, fmt.Sprintf("%s: %s %s in %s%s", d.Agent, what, verb, d.Kind, tool))
	return clipTitle(title)
}

// clipTitle keeps a title within a line.
func clipTitle(title string) string {
	if len(title) > 200 {
		title = strings.ToValidUTF8(title[:197], "") + "..."
	}
	return title
}

// visible replaces what could break or reorder a line: a tool's name is not ours.
func visible(r rune) rune {
	if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
		return unicode.ReplacementChar
	}
	return r
}
