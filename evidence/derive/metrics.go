package derive

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"time"

	"github.com/guardbook/guardbook"
)

// spread describes durations in seconds.
type spread struct {
	N       int     `json:"n"`
	Median  float64 `json:"median_s"`
	P95     float64 `json:"p95_s"`
	Max     float64 `json:"max_s"`
	Measure string  `json:"measure"`
}

func spreadOf(measure string, ds []time.Duration) spread {
	s := spread{N: len(ds), Measure: measure}
	if len(ds) == 0 {
		return s
	}
	slices.Sort(ds)
	at := func(q float64) float64 { return ds[min(len(ds)-1, int(q*float64(len(ds))))].Seconds() }
	s.Median, s.P95, s.Max = at(0.5), at(0.95), ds[len(ds)-1].Seconds()
	return s
}

// writeMetrics writes what can be counted.
func (w *writer) writeMetrics() error {
	s, d := w.s, &w.s.decisions
	var detect, answer, contain, resolve []time.Duration
	for _, a := range s.alerts.order {
		if !a.in {
			continue
		}
		if !a.eventAt.IsZero() {
			detect = append(detect, a.opened.Sub(a.eventAt))
			if !a.contained.IsZero() {
				contain = append(contain, a.contained.Sub(a.eventAt))
			}
		}
		if t := a.answered(); !t.IsZero() {
			answer = append(answer, t.Sub(a.opened))
		}
		if !a.closed.IsZero() {
			resolve = append(resolve, a.closed.Sub(a.opened))
		}
	}
	kinds, classes := map[string]int64{}, map[string]int64{}
	for k, n := range d.kinds {
		kinds[string(k)] = n
	}
	for c, n := range d.classes {
		classes[string(c)] = n
	}
	m := struct {
		Window struct {
			From string `json:"from"`
			To   string `json:"to"`
		} `json:"window"`
		Entries    map[string]int64 `json:"entries_by_type"`
		Decisions  map[string]int64 `json:"decisions_by_action"`
		Kinds      map[string]int64 `json:"decisions_by_kind"`
		Severities map[string]int64 `json:"decisions_by_severity"`
		Findings   map[string]int64 `json:"findings_by_class"`
		FailOpen   int64            `json:"fail_open_decisions"`
		Cached     int64            `json:"cached_decisions"`
		Passed     int64            `json:"unread_passthroughs"`
		Heartbeats int64            `json:"heartbeats"`
		Restarts   int              `json:"restarts"`
		Limits     string           `json:"alert_limits"`
		MTTD       spread           `json:"mttd"`
		MTTA       spread           `json:"mtta"`
		MTTC       spread           `json:"mttc"`
		MTTR       spread           `json:"mttr"`
	}{
		Entries: s.facts.Counts, Decisions: s.facts.Decisions, Kinds: kinds, Severities: d.severities, Findings: classes,
		FailOpen: d.failOpen, Cached: d.cached, Passed: d.passed, Heartbeats: s.life.beats, Restarts: s.life.restarts, Limits: limitsText,
		MTTD: spreadOf("from the event that opened an alert to its opening", detect),
		MTTA: spreadOf("from an alert's opening to its acknowledgement, or its closing if that came first", answer),
		MTTC: spreadOf("from the event that opened an alert to the first containment of its agent or session while it was open", contain),
		MTTR: spreadOf("from an alert's opening to its closing", resolve),
	}
	m.Window.From, m.Window.To = stamp(s.p.From), stamp(s.p.To)
	b, err := json.Marshal(m, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return text(w.sink, "00-summary/metrics.json", string(b)+"\n")
}

// tieOuts compares counts that were come by in different ways.
func (s *state) tieOuts() {
	add := func(t TieOut) { s.facts.TieOuts = append(s.facts.TieOuts, t) }
	var sum int64
	for _, a := range guardbook.Actions {
		sum += s.facts.Decisions[string(a)]
	}
	add(tie("CC7.2", "decisions by action", "decision entries of the window", s.decisions.total, "sum over allow, log, flag, redact, hold, block", sum))
	add(tie("CC7.2", "decisions and test interactions", "rows, and decisions about the instances' own test interactions", s.decisions.total+s.canaries.decisions, "decision entries of the window", s.facts.Counts[string(guardbook.TypeDecision)]))
	add(tie("CC6.1", "tool calls by kind", "tool_call decisions of the window", s.decisions.tools, "decisions of the window counted by kind", s.decisions.kinds[guardbook.KindToolCall]))
	for _, boot := range sorted(s.life.boots) {
		c := s.life.boots[boot]
		if c.to.Seq == c.from.Seq {
			continue
		}
		t := tie("CC7.2", "heartbeat counter, run "+boot, fmt.Sprintf("decision entries between entries %d and %d of log %d", c.from.Seq, c.to.Seq, c.to.Epoch), c.at,
			"rise of the counter \"interactions\" between these heartbeats", c.counted)
		t.Note = "The counter is read a moment before its heartbeat is recorded; decisions of that moment are in the book and not yet in the counter. Fewer entries than counted would be decisions that are missing."
		t.Tolerated = t.Delta > 0
		add(t)
	}
	var used, matched int64
	for _, u := range s.policies.bundles {
		if u.in > 0 {
			used++
			if u.applied {
				matched++
			}
		}
	}
	add(tie("CC8.1", "bundles on decisions", "distinct bundles on the decisions of the window", used, "those of them that an earlier policy entry activates", matched))
	for _, t := range sorted(s.p.Archive) {
		add(tie(archivePopulation[t], "archive, type "+t, "entries of the window in the book", s.facts.Counts[t], "count of the archive's own query (SQL) over the same window", s.p.Archive[t]))
	}
}

// archivePopulation says which population an entry type belongs to.
var archivePopulation = map[string]string{"decision": "CC7.2", "alert": "CC7.3", "containment": "CC7.4", "policy": "CC8.1"}
