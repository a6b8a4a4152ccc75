package derive

import (
	"bytes"
	"encoding/json/v2"
	"fmt"
	"strings"
	"time"
)

// The outcomes of a check.
const (
	OutcomeException    = "EXCEPTION"
	OutcomeNone         = "NO_EXCEPTION_FOUND"
	OutcomeNotEvaluated = "NOT_EVALUATED"
)

// Outcome is what a check came to.
func (k *Check) Outcome() string {
	switch {
	case k.NotEvaluated != "":
		return OutcomeNotEvaluated
	case len(k.Exceptions) > 0:
		return OutcomeException
	}
	return OutcomeNone
}

// ExceptionRow is one line of 00-summary/exceptions.jsonl: a check, or an
// exception that it found.
type ExceptionRow struct {
	Record       string   `json:"record"` // check | exception
	ID           string   `json:"id"`
	Check        string   `json:"check"`
	Severity     string   `json:"severity"`
	Criterion    string   `json:"criterion"`
	Title        string   `json:"title"`
	Outcome      string   `json:"outcome,omitzero"`
	Examined     int64    `json:"n_examined"`
	Unit         string   `json:"examined_unit,omitzero"`
	Object       string   `json:"object,omitzero"`
	Start        string   `json:"start,omitzero"`
	End          string   `json:"end,omitzero"`
	Seconds      int64    `json:"duration_s,omitzero"`
	Count        int64    `json:"count"`
	Detail       string   `json:"detail,omitzero"`
	Refs         []string `json:"evidence_refs,omitempty"`
	Detected     string   `json:"first_detected_at,omitzero"`
	DetectedBy   string   `json:"detected_by,omitzero"`
	StillOpen    bool     `json:"still_open,omitzero"`
	Compensating string   `json:"compensating_facts,omitzero"`
	Response     string   `json:"management_response"`
}

// Rows is a check and what it found, as lines of the listing.
func (k *Check) Rows(first int) []ExceptionRow {
	detail := k.NotEvaluated
	if detail == "" {
		detail = k.Note
	}
	rows := []ExceptionRow{{Record: "check", ID: k.ID, Check: k.ID, Severity: k.Severity, Criterion: k.Criterion, Title: k.Title,
		Outcome: k.Outcome(), Examined: k.Examined, Unit: k.Unit, Count: int64(len(k.Exceptions)), Detail: detail}}
	for i, e := range k.Exceptions {
		r := ExceptionRow{Record: "exception", ID: fmt.Sprintf("EXC-%04d", first+i), Check: k.ID, Severity: k.Severity, Criterion: k.Criterion, Title: k.Title,
			Object: e.Object, Start: stamp(e.Start), End: stamp(e.End), Count: e.Count, Detail: e.Detail, DetectedBy: e.DetectedBy, StillOpen: e.StillOpen, Compensating: e.Compensating}
		if !e.Start.IsZero() && e.End.After(e.Start) {
			r.Seconds = int64(e.End.Sub(e.Start) / time.Second)
		}
		if e.DetectedBy == byRuntime {
			r.Detected = stamp(e.Start)
		}
		for _, ref := range e.Refs {
			r.Refs = append(r.Refs, ref.String())
		}
		rows = append(rows, r)
	}
	return rows
}

var exceptionColumns = []column{
	{"record", "a check, or an exception that it found", "check or exception", "", false},
	{"id", "the check's id, or the exception's number in this package", "text", "", false},
	{"check", "the check", "text", "", false},
	{"severity", "the check's severity", "text", "", false},
	{"criterion", "the criterion that it bears on", "text", "", false},
	{"title", "what the check looks for", "text", "", false},
	{"outcome", "of a check: EXCEPTION, NO_EXCEPTION_FOUND, or NOT_EVALUATED with the reason in detail", "text", "", true},
	{"n_examined", "of a check: how much it looked at", "count", "", true},
	{"examined_unit", "of what", "text", "", true},
	{"object", "what the exception is about", "text", "", true},
	{"start", "when it began", "time", "", true},
	{"end", "when it ended", "time", "", true},
	{"duration_s", "how long it lasted", "seconds", "", true},
	{"count", "how many: exceptions of a check, events of an exception", "count", "", false},
	{"detail", "what was seen; of a check: how it looks, or why it could not", "text", "", true},
	{"evidence_refs", "entries: epoch/number id; the first ten", "text", "", true},
	{"first_detected_at", "when the running program recorded it; empty: found by building this package", "time", "", true},
	{"detected_by", "runtime or package build", "text", "", true},
	{"still_open", "whether it lasts at the end of the book in the package", "true or false", "", true},
	{"compensating_facts", "what limited it", "text", "", true},
	{"management_response", "left blank for management, to be given in a copy", "text", "", true},
}

// writeExceptions lists every check and every exception.
func (w *writer) writeExceptions() error {
	t, err := newTable(w.sink, "00-summary/exceptions", exceptionColumns, 0)
	if err != nil {
		return err
	}
	var jsonl bytes.Buffer
	n := 1
	for _, k := range w.s.checks.list {
		for _, r := range k.Rows(n) {
			b, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("exceptions: %w", err)
			}
			jsonl.Write(append(b, '\n'))
			var examined, seconds, open any
			if r.Record == "check" {
				examined = r.Examined
			} else {
				seconds, open = r.Seconds, r.StillOpen
			}
			if err := t.row(r.Record, r.ID, r.Check, r.Severity, r.Criterion, r.Title, r.Outcome, examined, r.Unit, r.Object, r.Start, r.End, seconds,
				r.Count, r.Detail, strings.Join(r.Refs, "; "), r.Detected, r.DetectedBy, open, r.Compensating, r.Response); err != nil {
				return err
			}
		}
		n += len(k.Exceptions)
	}
	if err := t.close(); err != nil {
		return err
	}
	return text(w.sink, "00-summary/exceptions.jsonl", jsonl.String())
}

// control is one control that the package holds evidence of.
type control struct {
	id, criterion, title                string
	iso42001, aiAct, aicm, aiuc1, owasp string
	files                               string
	checks                              []string // prefixes of the checks that bear on it
}

var controls = []control{
	{"AGT-AC-01", "CC6.1", "Agents reach tools only as policy allows", "A.9.2", "Art. 15", "AIS-11", "B006; D003", "ASI02; ASI03",
		"CC6.1/; registry/; policies/", []string{"ACC-"}},
	{"AGT-MON-01", "CC7.2", "What agents take in and put out is scanned and recorded", "A.6.2.6; A.6.2.8", "Art. 12", "LOG-05; LOG-08; LOG-14; LOG-15", "B005; E015", "ASI01; ASI05; ASI06; ASI10",
		"CC7.2/; 00-summary/coverage.csv", []string{"COV-"}},
	{"AGT-ALR-01", "CC7.3", "Events of high severity are told to people and judged by them", "A.3.3; A.8.4", "Art. 26(5)", "LOG-05", "E015", "ASI08",
		"CC7.3/; alerts/", []string{"ALR-"}},
	{"AGT-IR-01", "CC7.4", "An agent can be stopped at once, and the stop holds", "A.6.2.6", "Art. 14(4)(e)", "LOG-05", "B006", "ASI10",
		"CC7.4/; containment/", []string{"INC-"}},
	{"AGT-CHG-01", "CC8.1", "Policy changes are recorded, refused when invalid, and kept by hash", "A.6.2.5", "Art. 12", "LOG-09", "E015", "ASI04",
		"CC8.1/; policies/", []string{"CHG-"}},
	{"AGT-LOG-01", "CC2.1", "The record is complete and cannot be altered unseen", "A.6.2.8", "Art. 12; Art. 19; Art. 26(6)", "LOG-02; LOG-09", "E015", "ASI08; ASI10",
		"integrity/; manifest.json", []string{"INT-", "IPE-"}},
}

// writeMatrix writes which files and checks belong to which control.
func (w *writer) writeMatrix() error {
	t, err := newTable(w.sink, "00-summary/control-matrix", []column{{name: "control"}, {name: "criterion"}, {name: "control_title"}, {name: "iso_42001"}, {name: "eu_ai_act"},
		{name: "csa_aicm"}, {name: "aiuc_1"}, {name: "owasp_agentic"}, {name: "files"}, {name: "population_rows"}, {name: "checks"}, {name: "checks_not_evaluated"}, {name: "exceptions"},
		{name: "auditor_result"}, {name: "auditor_note"}}, 0)
	if err != nil {
		return err
	}
	rows := map[string]int64{}
	for _, p := range w.s.facts.Populations {
		rows[p.ID] = p.Rows
	}
	for _, c := range controls {
		var checks, open, found int64
		for _, k := range w.s.checks.list {
			for _, prefix := range c.checks {
				if strings.HasPrefix(k.ID, prefix) {
					checks++
					found += int64(len(k.Exceptions))
					if k.NotEvaluated != "" {
						open++
					}
				}
			}
		}
		var n any
		if v, ok := rows[c.criterion]; ok {
			n = v
		}
		if err := t.row(c.id, c.criterion, c.title, c.iso42001, c.aiAct, c.aicm, c.aiuc1, c.owasp, c.files, n, checks, open, found, "", ""); err != nil {
			return err
		}
	}
	return t.close()
}
