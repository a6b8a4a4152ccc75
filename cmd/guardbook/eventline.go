package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
)

var eventColumns = []string{"TIME", "SEQ", "TYPE", "AGENT", "SESSION", "WHAT", "DECISION", "SEVERITY", "RULE"}

// eventFacts are the members of any entry that a line shows.
type eventFacts struct {
	Agent    string             `json:"agent"`
	Session  string             `json:"session"`
	Kind     string             `json:"kind"`
	Role     string             `json:"role"`
	Tool     *guardbook.ToolRef `json:"tool"`
	Decision string             `json:"decision"`
	Would    string             `json:"would"`
	Severity string             `json:"severity"`
	Rule     string             `json:"rule"`

	Op       string `json:"op"`
	By       string `json:"by"`
	Scope    string `json:"scope"`
	Title    string `json:"title"`
	Outcome  string `json:"outcome"`
	Phase    string `json:"phase"`
	Path     string `json:"path"`
	Code     string `json:"code"`
	Status   int    `json:"status"`
	Receiver string `json:"receiver"`
	Method   string `json:"method"`
	Endpoint string `json:"endpoint"`
	Trigger  string `json:"trigger"`
	Version  string `json:"version"`
	Reason   string `json:"reason"`
	Error    string `json:"error"`
	Cell     string `json:"cell"`
	Got      string `json:"got"`
	Event    string `json:"event"`
	First    int64  `json:"first"`
	Last     int64  `json:"last"`
}

// eventRow is an entry as a row of the table. An entry whose members are not what
// they should be is shown by its header.
func eventRow(e guardbook.Entry) []string {
	f, err := guardbook.Body[eventFacts](e)
	if err != nil {
		f = eventFacts{}
	}
	decision := f.Decision
	if f.Would != "" {
		decision += " (" + f.Would + ")" // monitor mode: what enforce mode would have done
	}
	return []string{clock(e.TS), fmt.Sprint(e.Seq), string(e.Type), dash(f.Agent), dash(f.Session), dash(f.what(e.Type)), dash(decision), dash(f.Severity), dash(f.Rule)}
}

// what says in a few words what happened.
func (f *eventFacts) what(t guardbook.EntryType) string {
	words := func(w ...string) string { return strings.Join(strings.Fields(strings.Join(w, " ")), " ") }
	status := ""
	if f.Status != 0 {
		status = fmt.Sprint(f.Status)
	}
	switch t {
	case guardbook.TypeDecision:
		if f.Tool != nil {
			return words(f.Kind, f.Tool.Name)
		}
		return words(f.Kind, f.Role)
	case guardbook.TypeContainment:
		return words(f.Op, f.Scope, "by", f.By)
	case guardbook.TypeAlert:
		if f.By != "" {
			return words(f.Op, "by", f.By)
		}
		return words(f.Op, f.Title)
	case guardbook.TypeNotification:
		return words(f.Outcome, "to", f.Receiver, status)
	case guardbook.TypeStream:
		return words(f.Phase, f.Outcome, f.Path)
	case guardbook.TypeRefusal:
		return words(status, f.Code, f.Path)
	case guardbook.TypePassthrough:
		return words(f.Method, f.Endpoint)
	case guardbook.TypePolicy:
		return words(f.Outcome, "at", f.Trigger)
	case guardbook.TypeStart:
		return words("guardbook", f.Version)
	case guardbook.TypeStop:
		return f.Reason
	case guardbook.TypeAgent, guardbook.TypeOperator:
		return words(f.Op, "by", f.By)
	case guardbook.TypeCanary:
		return words("test of", f.Path+",", f.Cell+":", f.Got)
	case guardbook.TypeTool:
		if f.Tool != nil {
			return words(f.Op, f.Tool.Server, f.Tool.Name, "by", f.By)
		}
		return words(f.Op, "by", f.By)
	case guardbook.TypeClient:
		tool := ""
		if f.Tool != nil {
			tool = f.Tool.Name
		}
		if f.Event == "gap" {
			return words("numbers", fmt.Sprint(f.First), "to", fmt.Sprint(f.Last), "never arrived")
		}
		return words("SDK:", f.Kind, tool, f.Event+",", f.Reason)
	case guardbook.TypeDegraded:
		return f.Error
	}
	return ""
}

// clock writes an entry's time to the millisecond.
func clock(ts string) string {
	t, err := time.Parse(guardbook.TimeLayout, ts)
	if err != nil {
		return ts
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// eventPrinter prints entries one by one; the columns have fixed widths, since
// what comes is not known.
type eventPrinter struct {
	c      *cli
	begun  bool
	widths []int
}

func (p *eventPrinter) print(e guardbook.Entry) error {
	if p.c.json {
		return p.c.printRaw([]guardbook.Entry{e})
	}
	if !p.begun {
		p.begun = true
		p.widths = []int{24, 7, 11, 16, 16, 30, 9, 8, 0}
		if err := p.line(eventColumns); err != nil {
			return err
		}
	}
	return p.line(eventRow(e))
}

func (p *eventPrinter) line(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		cell = printable(cell)
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", max(p.widths[i]-utf8.RuneCountInString(cell), 0)+2))
		}
	}
	_, err := fmt.Fprintln(p.c.out, strings.TrimRight(b.String(), " "))
	return err
}
