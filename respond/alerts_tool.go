package respond

import (
	"cmp"
	"strings"

	"github.com/guardbook/guardbook"
)

// opQuarantined is the operation of a ToolEntry that somebody must look at.
const opQuarantined = "quarantined"

// maxToolAlerts is how many alerts about single tools of one server are open at once.
const maxToolAlerts = 10

// applyQuarantine opens or counts the alert of a tool of an MCP server that appeared
// later than the others, or is not any more what it was when it was pinned.
func (a *Alerts) applyQuarantine(e guardbook.Entry, b *guardbook.ToolEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// One for each tool; a server that makes up tools without end gets one for the rest.
	server := "mcp/" + b.Tool.Server
	rule, others := clipTitle(strings.Map(visible, server+"/"+b.Tool.Name)), 0 // the name is the server's
	for _, x := range a.open {
		if x.Agent == b.Agent && x.Class == guardbook.ClassToolPoisoning && strings.HasPrefix(x.Rule, server+"/") && x.Rule != rule {
			others++
		}
	}
	if others >= maxToolAlerts {
		rule = server
	}
	key := keyOf(e.Tenant, b.Agent, rule, guardbook.ClassToolPoisoning)
	x := a.open[key]
	if x == nil {
		what := "appeared"
		if b.Previous != "" {
			what = "has changed"
		}
		title := strings.Map(visible, b.Agent+": tool "+b.Tool.Name+" of MCP server "+b.Tool.Server+" "+what+" and is quarantined")
		x = &alert{Alert: Alert{
			ID: e.ID, Key: key, State: StateOpen, Severity: guardbook.High, Title: clipTitle(title),
			Tenant: e.Tenant, Agent: b.Agent, Rule: rule, Class: guardbook.ClassToolPoisoning, Receiver: cmp.Or(b.Alert, defaultReceiver),
			Opened: e.TS, Delivery: DeliveryPending, Reopens: a.lastClosed[key],
			Facts: Facts{Event: e.ID, Time: e.TS, Kind: guardbook.KindToolDefinition, Findings: []guardbook.Finding{},
				Tool: &b.Tool},
		}}
		a.alerts[x.ID], a.open[key] = x, x
	}
	x.Count++
	x.Event, x.Updated = e.ID, e.TS
	a.work[x.ID] = x
}
