package api

import (
	"encoding/json/v2"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
)

// filterNames are the parameters that say which entries are meant; the same for
// the list and for the stream.
var filterNames = []string{"agent", "session", "class", "severity", "action", "type", "tool", "rule", "canaries"}

var entryTypes = []guardbook.EntryType{
	guardbook.TypeStart, guardbook.TypeStop, guardbook.TypeHeartbeat, guardbook.TypeDecision, guardbook.TypeStream,
	guardbook.TypeRefusal, guardbook.TypePassthrough, guardbook.TypePolicy, guardbook.TypeContainment, guardbook.TypeAlert,
	guardbook.TypeNotification, guardbook.TypeAgent, guardbook.TypeOperator, guardbook.TypeDegraded, guardbook.TypeClient,
	guardbook.TypeTool, guardbook.TypeCanary,
}

// maxPage is the most entries of one answer.
const maxPage = 1000

const defaultPage = 100

func (p *params) filter() archive.Query {
	q := archive.Query{
		Agent: p.text("agent"), Session: p.text("session"), Tool: p.text("tool"), Rule: p.text("rule"),
		Class:       guardbook.Class(p.oneOf("class", names(guardbook.Classes))),
		Action:      guardbook.Action(p.oneOf("action", names(guardbook.Actions))),
		MinSeverity: p.severity("severity"),
	}
	q.NoCanaries = p.oneOf("canaries", []string{"show", "hide"}) == "hide"
	for _, t := range p.manyOf("type", names(entryTypes)) {
		q.Types = append(q.Types, guardbook.EntryType(t))
	}
	return q
}

// eventQuery reads the query of a list of events.
func eventQuery(r *http.Request) (archive.Query, error) {
	p := query(r, append(slices.Clone(filterNames), "since", "until", "after", "before", "limit", "order")...)
	q := p.filter()
	q.Since, q.Until = p.time("since"), p.time("until")
	q.After, q.Before = p.number("after", -1, math.MaxInt64), p.number("before", 0, math.MaxInt64)
	q.Limit = defaultPage
	if n := p.number("limit", 1, maxPage); n != nil {
		q.Limit = int(*n)
	}
	switch p.oneOf("order", []string{"asc", "desc"}) {
	case "asc":
	case "desc":
		q.Desc = true
	default: // forwards from a place, else the newest first
		q.Desc = q.After == nil
	}
	return q, p.err
}

// wanted is what of an entry a filter looks at.
type wanted struct {
	Agent    string              `json:"agent"`
	Session  string              `json:"session"`
	Tool     *guardbook.ToolRef  `json:"tool"`
	Rule     string              `json:"rule"`
	Severity *guardbook.Severity `json:"severity"`
	Decision guardbook.Action    `json:"decision"`
	Findings []struct {
		Class guardbook.Class `json:"class"`
	} `json:"findings"`
}

// matches reports whether an entry of the book is one that a filter means: the
// same entries that the archive would list. As there, an entry whose body this
// version cannot read is found by its header only.
func matches(q archive.Query, e guardbook.Entry) bool {
	if len(q.Types) > 0 && !slices.Contains(q.Types, e.Type) || q.Tenant != "" && q.Tenant != e.Tenant {
		return false
	}
	if q.Agent == "" && q.Session == "" && q.Tool == "" && q.Rule == "" && q.Class == "" && q.MinSeverity == nil && q.Action == "" && !q.NoCanaries {
		return true
	}
	var x wanted
	if err := json.Unmarshal(e.Raw, &x); err != nil {
		return false
	}
	if q.NoCanaries && q.Agent == "" && x.Agent == guardbook.CanaryAgent && slices.Contains(guardbook.CanaryTypes, e.Type) {
		return false
	}
	return (q.Agent == "" || q.Agent == x.Agent) &&
		(q.Session == "" || q.Session == x.Session) &&
		(q.Tool == "" || x.Tool != nil && q.Tool == x.Tool.Name) &&
		(q.Rule == "" || q.Rule == x.Rule) &&
		(q.Action == "" || q.Action == x.Decision) &&
		(q.MinSeverity == nil || x.Severity != nil && *x.Severity >= *q.MinSeverity) &&
		(q.Class == "" || x.hasClass(q.Class))
}

func (x *wanted) hasClass(c guardbook.Class) bool {
	for _, f := range x.Findings {
		if f.Class == c {
			return true
		}
	}
	return false
}

// filterText writes down, for the record of reads, what was asked for. The place
// and the size of a page do not matter: paging through is one read.
func filterText(q archive.Query) map[string]string {
	out := map[string]string{}
	set := func(name, v string) {
		if v != "" {
			out[name] = v
		}
	}
	set("agent", q.Agent)
	set("session", q.Session)
	set("tool", q.Tool)
	set("rule", q.Rule)
	set("class", string(q.Class))
	set("action", string(q.Action))
	if q.NoCanaries {
		set("canaries", "hide")
	}
	set("type", strings.Join(names(q.Types), ","))
	if q.MinSeverity != nil {
		set("severity", q.MinSeverity.String())
	}
	if !q.Since.IsZero() {
		set("since", q.Since.Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		set("until", q.Until.Format(time.RFC3339Nano))
	}
	for name, v := range out {
		if len(v) > 200 {
			out[name] = strings.ToValidUTF8(v[:200], "") + "..."
		}
	}
	return out
}
