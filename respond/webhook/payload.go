package webhook

import (
	"fmt"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

// payload is what a receiver gets; docs/alerts.md describes it. Members may be
// added; none is renamed or taken away.
type payload struct {
	Type      string        `json:"type"`      // alert.opened | alert.raised
	Timestamp string        `json:"timestamp"` // when this attempt was made
	Attempt   int           `json:"attempt"`
	Text      string        `json:"text"` // one line for people
	Link      string        `json:"link,omitzero"`
	Alert     alertFacts    `json:"alert"`
	Decision  respond.Facts `json:"decision"`
}

type alertFacts struct {
	ID       string             `json:"id"`
	Key      string             `json:"key"` // the same for everything that belongs together
	State    respond.State      `json:"state"`
	Severity guardbook.Severity `json:"severity"`
	Title    string             `json:"title"`
	Tenant   string             `json:"tenant"`
	Agent    string             `json:"agent"`
	Rule     string             `json:"rule"`
	Class    guardbook.Class    `json:"class,omitzero"`
	Receiver string             `json:"receiver"`
	Count    int64              `json:"count"`
	Opened   string             `json:"opened"`
	Owner    string             `json:"owner,omitzero"`
	Reopens  string             `json:"reopens,omitzero"`
}

func payloadOf(n respond.Notice, now time.Time) payload {
	a := n.Alert
	p := payload{
		Type: "alert." + n.Reason, Timestamp: now.UTC().Format(time.RFC3339), Attempt: n.Attempt, Link: n.Link,
		Alert: alertFacts{
			ID: a.ID, Key: a.Key, State: a.State, Severity: a.Severity, Title: a.Title, Tenant: a.Tenant, Agent: a.Agent,
			Rule: a.Rule, Class: a.Class, Receiver: a.Receiver, Count: a.Count, Opened: a.Opened, Owner: a.Owner, Reopens: a.Reopens,
		},
		Decision: a.Facts,
	}
	p.Text = fmt.Sprintf("[%s] %s (rule %s)", a.Severity, a.Title, a.Rule)
	if n.Reason == respond.ReasonRaised {
		p.Text = fmt.Sprintf("[%s, raised] %s (rule %s, %d times)", a.Severity, a.Title, a.Rule, a.Count)
	}
	if n.Link != "" {
		p.Text += " " + n.Link
	}
	return p
}
