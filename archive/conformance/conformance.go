// Package conformance is what every archive engine must do: one suite of tests,
// run against the real engine by the tests of its package.
package conformance

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
)

// Log makes entries as a book would write them.
type Log struct {
	Origin  string
	Entries []guardbook.Entry
}

// Add appends an entry that occurred at ts and was recorded at rec.
func (l *Log) Add(ts, rec time.Time, typ guardbook.EntryType, body any) guardbook.Entry {
	seq := int64(len(l.Entries))
	h := guardbook.Header{
		V: guardbook.EntryVersion, Log: l.Origin, Seq: seq, ID: fmt.Sprintf("%s-%d", l.Origin, seq),
		TS: ts.UTC().Format(guardbook.TimeLayout), Rec: rec.UTC().Format(guardbook.TimeLayout),
		Instance: "test", Type: typ, Tenant: guardbook.DefaultTenant,
	}
	e := guardbook.Entry{Header: h, Raw: Raw(h, body)}
	l.Entries = append(l.Entries, e)
	return e
}

// Raw writes an entry as one line of canonical JSON.
func Raw(h guardbook.Header, body any) []byte {
	head, err := json.Marshal(h)
	if err != nil {
		panic(err) // a header is always valid
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("body of an entry: %v", err))
	}
	if len(b) > 2 {
		head = append(append(head[:len(head)-1], ','), b[1:]...)
	}
	v := jsontext.Value(head)
	if err := v.Canonicalize(); err != nil {
		panic(fmt.Sprintf("entry: %v", err))
	}
	return v
}

// day is the day on which the suite plays.
var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// book is a log with a bit of everything:
//
//	0 start   1..6 decisions, a minute apart   7 alert   8 a decision recorded an hour late   9 heartbeat, the next day
func book() *Log {
	l := &Log{Origin: "guardbook/test"}
	at := func(m int) time.Time { return day.Add(time.Duration(m) * time.Minute) }
	add := func(m int, typ guardbook.EntryType, body any) { l.Add(at(m), at(m).Add(time.Millisecond), typ, body) }
	add(0, guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Epoch: 1})
	decision := func(agent, session string, action guardbook.Action, sev guardbook.Severity, tool string, classes ...guardbook.Class) guardbook.DecisionEntry {
		d := guardbook.DecisionEntry{Agent: agent, Session: session, Kind: guardbook.KindInput, Decision: action, Severity: sev, Rule: agent + "/rule"}
		if tool != "" {
			d.Kind, d.Tool = guardbook.KindToolCall, &guardbook.ToolRef{Server: "crm", Name: tool}
		}
		for _, c := range classes {
			d.Findings = append(d.Findings, guardbook.Finding{Class: c, Severity: sev})
		}
		return d
	}
	add(1, guardbook.TypeDecision, decision("billing", "s1", guardbook.ActionAllow, guardbook.Info, ""))
	add(2, guardbook.TypeDecision, decision("billing", "s1", guardbook.ActionBlock, guardbook.High, "query", guardbook.ClassPromptInjection, guardbook.ClassPII, guardbook.ClassPII))
	add(3, guardbook.TypeDecision, decision("support", "s2", guardbook.ActionRedact, guardbook.Medium, "", guardbook.ClassPII))
	add(4, guardbook.TypeDecision, decision("support", "s2", guardbook.ActionAllow, guardbook.Info, ""))
	add(5, guardbook.TypeDecision, decision("billing", "s3", guardbook.ActionFlag, guardbook.Low, "query", guardbook.ClassAnomaly))
	add(6, guardbook.TypeDecision, decision("x' OR '1'='1", `s"4;--`, guardbook.ActionBlock, guardbook.Critical, "", guardbook.ClassSecret))
	add(7, guardbook.TypeAlert, guardbook.AlertEntry{Op: "opened", Alert: "a", Agent: "billing", Severity: guardbook.High, Rule: "billing/rule"})
	l.Add(at(4), at(64), guardbook.TypeDecision, decision("late", "s5", guardbook.ActionAllow, guardbook.Info, ""))
	add(25*60, guardbook.TypeHeartbeat, guardbook.HeartbeatEntry{Boot: "b"})
	return l
}

// Run tests an engine. open returns an empty archive, closed by the test's cleanup.
func Run(t *testing.T, open func(t *testing.T) archive.Archive) {
	t.Run("QueriesNarrow", func(t *testing.T) { queriesNarrow(t, filled(t, open)) })
	t.Run("CanariesCanBeLeftOut", func(t *testing.T) { canariesLeftOut(t, open(t)) })
	t.Run("CountsBy", func(t *testing.T) { countsBy(t, filled(t, open)) })
	t.Run("PagesMeetWithoutGapOrOverlap", func(t *testing.T) { pagesMeet(t, open(t)) })
	t.Run("AnEntryIsReturnedByteForByte", func(t *testing.T) { byteForByte(t, filled(t, open)) })
	t.Run("WritingABatchAgainChangesNothing", func(t *testing.T) { writesAgain(t, filled(t, open)) })
	t.Run("TheCursorMovesWithTheRows", func(t *testing.T) { cursorMoves(t, open(t)) })
	t.Run("ABatchWithAHoleIsRefusedWhole", func(t *testing.T) { refusesHoles(t, open(t)) })
	t.Run("ANewLogComesBehindTheOld", func(t *testing.T) { newLog(t, filled(t, open)) })
	t.Run("ResetForgetsEverything", func(t *testing.T) { resets(t, filled(t, open)) })
	t.Run("ReadersSeeWholeBatches", func(t *testing.T) { wholeBatches(t, open(t)) })
}

func filled(t *testing.T, open func(t *testing.T) archive.Archive) archive.Archive {
	t.Helper()
	a := open(t)
	write(t, a, book().Entries)
	return a
}

func write(t *testing.T, a archive.Archive, entries []guardbook.Entry) {
	t.Helper()
	if err := a.Write(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

// ids are the entries of a query, as "log:seq" with the first log left out.
func ids(t *testing.T, a archive.Archive, q archive.Query) []string {
	t.Helper()
	entries, err := a.Events(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		s := strconv.FormatInt(e.Seq, 10)
		if e.Log != "guardbook/test" {
			s = e.Log + ":" + s
		}
		out = append(out, s)
	}
	return out
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func ptr[T any](v T) *T { return &v }

func queriesNarrow(t *testing.T, a archive.Archive) {
	at := func(m int) time.Time { return day.Add(time.Duration(m) * time.Minute) }
	for _, c := range []struct {
		name string
		q    archive.Query
		want []string
	}{
		{"everything, in the order of the book", archive.Query{}, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}},
		{"newest first", archive.Query{Desc: true, Limit: 3}, []string{"9", "8", "7"}},
		{"one type", archive.Query{Types: []guardbook.EntryType{guardbook.TypeAlert}}, []string{"7"}},
		{"any of two types", archive.Query{Types: []guardbook.EntryType{guardbook.TypeStart, guardbook.TypeHeartbeat}}, []string{"0", "9"}},
		{"decisions and another type", archive.Query{Types: []guardbook.EntryType{guardbook.TypeDecision, guardbook.TypeHeartbeat}, After: ptr(int64(5))}, []string{"6", "8", "9"}},
		{"an agent", archive.Query{Agent: "billing"}, []string{"1", "2", "5", "7"}},
		{"a session", archive.Query{Session: "s2"}, []string{"3", "4"}},
		{"a tool", archive.Query{Tool: "query"}, []string{"2", "5"}},
		{"a rule", archive.Query{Rule: "support/rule"}, []string{"3", "4"}},
		{"a tenant", archive.Query{Tenant: "other"}, []string{}},
		{"a class, each entry once", archive.Query{Class: guardbook.ClassPII}, []string{"2", "3"}},
		{"a class, newest first", archive.Query{Class: guardbook.ClassPII, Desc: true, Limit: 1}, []string{"3"}},
		{"a class of an agent before a place", archive.Query{Class: guardbook.ClassPII, Agent: "billing", Before: ptr(int64(3))}, []string{"2"}},
		{"an action", archive.Query{Action: guardbook.ActionBlock}, []string{"2", "6"}},
		{"the action allow", archive.Query{Action: guardbook.ActionAllow}, []string{"1", "4", "8"}},
		{"at or above low", archive.Query{MinSeverity: ptr(guardbook.Low)}, []string{"2", "3", "5", "6", "7"}},
		{"at or above high", archive.Query{MinSeverity: ptr(guardbook.High)}, []string{"2", "6", "7"}},
		{"info means: it has a severity", archive.Query{MinSeverity: ptr(guardbook.Info)}, []string{"1", "2", "3", "4", "5", "6", "7", "8"}},
		{"since, inclusive", archive.Query{Since: at(6)}, []string{"6", "7", "9"}},
		{"until, exclusive", archive.Query{Until: at(2)}, []string{"0", "1"}},
		{"what was recorded late is found where it occurred", archive.Query{Since: at(4), Until: at(5)}, []string{"4", "8"}},
		{"late, newest first", archive.Query{Since: at(3), Until: at(5), Desc: true}, []string{"8", "4", "3"}},
		{"nothing after the end", archive.Query{Since: at(3000)}, []string{}},
		{"nothing before the beginning", archive.Query{Until: day}, []string{}},
		{"after and before a place", archive.Query{After: ptr(int64(2)), Before: ptr(int64(5))}, []string{"3", "4"}},
		{"after the first entry", archive.Query{After: ptr(int64(0)), Limit: 1}, []string{"1"}},
		{"all at once", archive.Query{
			Types: []guardbook.EntryType{guardbook.TypeDecision}, Agent: "billing", Session: "s1", Tool: "query", Rule: "billing/rule",
			Class: guardbook.ClassPromptInjection, Action: guardbook.ActionBlock, MinSeverity: ptr(guardbook.High), Since: day, Until: at(10), After: ptr(int64(0)),
		}, []string{"2"}},
		{"hostile values are values", archive.Query{Agent: "x' OR '1'='1", Session: `s"4;--`}, []string{"6"}},
		{"hostile values find nothing else", archive.Query{Agent: "' OR 1=1 --"}, []string{}},
	} {
		same(t, c.name, c.want, ids(t, a, c.q))
	}
}

func canariesLeftOut(t *testing.T, a archive.Archive) {
	l := &Log{Origin: "guardbook/test"}
	l.Add(day, day, guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "billing"})
	l.Add(day, day, guardbook.TypeDecision, guardbook.DecisionEntry{Agent: guardbook.CanaryAgent})
	l.Add(day, day, guardbook.TypeStream, guardbook.StreamEntry{Agent: guardbook.CanaryAgent})
	l.Add(day, day, guardbook.TypeCanary, guardbook.CanaryEntry{Agent: guardbook.CanaryAgent})
	l.Add(day, day, guardbook.TypeAlert, guardbook.AlertEntry{Agent: guardbook.CanaryAgent})
	l.Add(day, day, guardbook.TypeHeartbeat, guardbook.HeartbeatEntry{})
	write(t, a, l.Entries)
	same(t, "without canaries, with their alerts", []string{"0", "4", "5"}, ids(t, a, archive.Query{NoCanaries: true}))
	same(t, "asked for by name", []string{"1", "2", "3", "4"}, ids(t, a, archive.Query{NoCanaries: true, Agent: guardbook.CanaryAgent}))
	same(t, "everything", []string{"0", "1", "2", "3", "4", "5"}, ids(t, a, archive.Query{}))
}

func countsBy(t *testing.T, a archive.Archive) {
	for _, c := range []struct {
		by   archive.By
		q    archive.Query
		want map[string]int64
	}{
		{archive.ByClass, archive.Query{}, map[string]int64{"prompt_injection": 1, "pii": 2, "anomaly": 1, "secret": 1}},
		{archive.ByClass, archive.Query{Class: guardbook.ClassPII}, map[string]int64{"prompt_injection": 1, "pii": 2}},
		{archive.ByClass, archive.Query{Since: day.Add(3 * time.Minute), Until: day.Add(5 * time.Minute)}, map[string]int64{"pii": 1}},
		{archive.ByAgent, archive.Query{Types: []guardbook.EntryType{guardbook.TypeDecision}}, map[string]int64{"billing": 3, "support": 2, "late": 1, "x' OR '1'='1": 1}},
		{archive.ByAgent, archive.Query{Class: guardbook.ClassPII, After: ptr(int64(2))}, map[string]int64{"support": 1}},
		{archive.ByAction, archive.Query{}, map[string]int64{"allow": 3, "block": 2, "redact": 1, "flag": 1}},
		{archive.BySeverity, archive.Query{}, map[string]int64{"info": 3, "low": 1, "medium": 1, "high": 2, "critical": 1}},
		{archive.ByType, archive.Query{}, map[string]int64{"start": 1, "decision": 7, "alert": 1, "heartbeat": 1}},
		{archive.ByDay, archive.Query{}, map[string]int64{"2026-03-01": 9, "2026-03-02": 1}},
		{archive.ByTool, archive.Query{}, map[string]int64{"query": 2}},
		{archive.ByKind, archive.Query{}, map[string]int64{"input": 5, "tool_call": 2}},
		{archive.ByAgent, archive.Query{Agent: "nobody"}, map[string]int64{}},
	} {
		got, err := a.Counts(t.Context(), c.q, c.by)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("by %s", c.by), c.want, got)
	}
	if _, err := a.Counts(t.Context(), archive.Query{}, "agent; DROP TABLE events"); err == nil {
		t.Error("counting by something else is no error")
	}
}

func pagesMeet(t *testing.T, a archive.Archive) {
	l := &Log{Origin: "guardbook/test"}
	for i := range 250 {
		l.Add(day.Add(time.Duration(i)*time.Second), day.Add(time.Duration(i)*time.Second), guardbook.TypeDecision,
			guardbook.DecisionEntry{Agent: fmt.Sprint("a", i%3), Decision: guardbook.ActionAllow})
	}
	write(t, a, l.Entries)
	var forward, backward []int64
	for q := (archive.Query{Agent: "a1", Limit: 7}); ; {
		page, err := a.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			forward = append(forward, e.Seq)
		}
		q.After = ptr(page[len(page)-1].Seq)
	}
	for q := (archive.Query{Agent: "a1", Limit: 7, Desc: true}); ; {
		page, err := a.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			backward = append([]int64{e.Seq}, backward...)
		}
		q.Before = ptr(page[len(page)-1].Seq)
	}
	var want []int64
	for i := int64(1); i < 250; i += 3 {
		want = append(want, i)
	}
	same(t, "forward", want, forward)
	same(t, "backward", want, backward)
}

func byteForByte(t *testing.T, a archive.Archive) {
	for _, want := range book().Entries {
		got, err := a.Event(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, want.ID, want, got)
	}
	if _, err := a.Event(t.Context(), "nothing"); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("an unknown id: %v", err)
	}
	if _, err := a.Events(t.Context(), archive.Query{After: ptr(int64(1)), Log: "no such log"}); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("an unknown log: %v", err)
	}
}

func writesAgain(t *testing.T, a archive.Archive) {
	entries := book().Entries
	write(t, a, entries)
	write(t, a, entries[3:5])
	same(t, "entries", 10, len(ids(t, a, archive.Query{})))
	same(t, "of a class", []string{"2", "3"}, ids(t, a, archive.Query{Class: guardbook.ClassPII}))
	cursorIs(t, a, "guardbook/test", 10)
}

func cursorIs(t *testing.T, a archive.Archive, log string, next int64) {
	t.Helper()
	gotLog, gotNext, err := a.Cursor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if gotLog != log || gotNext != next {
		t.Errorf("cursor is %q, %d instead of %q, %d", gotLog, gotNext, log, next)
	}
}

func cursorMoves(t *testing.T, a archive.Archive) {
	cursorIs(t, a, "", 0)
	write(t, a, nil)
	cursorIs(t, a, "", 0)
	entries := book().Entries
	write(t, a, entries[:4])
	cursorIs(t, a, "guardbook/test", 4)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Write(ctx, entries[4:]); err == nil {
		t.Error("a write with an ended context is no error")
	}
	cursorIs(t, a, "guardbook/test", 4)
	same(t, "entries", 4, len(ids(t, a, archive.Query{})))
	write(t, a, entries[4:])
	cursorIs(t, a, "guardbook/test", 10)
}

func refusesHoles(t *testing.T, a archive.Archive) {
	entries := book().Entries
	if err := a.Write(t.Context(), []guardbook.Entry{entries[0], entries[2]}); err == nil {
		t.Error("a hole is no error")
	}
	other := (&Log{Origin: "other"}).Add(day, day, guardbook.TypeStart, guardbook.StartEntry{})
	other.Seq = 1
	if err := a.Write(t.Context(), []guardbook.Entry{entries[0], other}); err == nil {
		t.Error("two logs in one batch are no error")
	}
	same(t, "entries", []string{}, ids(t, a, archive.Query{}))
	cursorIs(t, a, "", 0)
}

func newLog(t *testing.T, a archive.Archive) {
	next := &Log{Origin: "guardbook/test/2"}
	for i := range 3 {
		// Its clock is behind: the order of logs is that of writing, not of time.
		at := day.Add(time.Duration(i)*time.Minute - time.Hour)
		next.Add(at, at, guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "billing", Decision: guardbook.ActionAllow})
	}
	write(t, a, next.Entries)
	cursorIs(t, a, "guardbook/test/2", 3)
	two := func(n int) string { return fmt.Sprint("guardbook/test/2:", n) }
	same(t, "both logs", []string{"1", "2", "5", "7", two(0), two(1), two(2)}, ids(t, a, archive.Query{Agent: "billing"}))
	same(t, "the newest log is meant", []string{two(2)}, ids(t, a, archive.Query{Agent: "billing", After: ptr(int64(1))}))
	same(t, "the older log, and on", []string{"7", two(0), two(1), two(2)}, ids(t, a, archive.Query{Agent: "billing", After: ptr(int64(5)), Log: "guardbook/test"}))
	same(t, "back into the older log", []string{two(0), "7"}, ids(t, a, archive.Query{Agent: "billing", Before: ptr(int64(1)), Desc: true, Limit: 2}))
	same(t, "time goes across logs", []string{"0", two(0), two(1), two(2)}, ids(t, a, archive.Query{Until: day.Add(time.Minute)}))
	write(t, a, book().Entries) // again: nothing new, but the cursor follows the writer
	cursorIs(t, a, "guardbook/test", 10)
	same(t, "entries", 13, len(ids(t, a, archive.Query{})))
}

func resets(t *testing.T, a archive.Archive) {
	if err := a.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	cursorIs(t, a, "", 0)
	same(t, "entries", []string{}, ids(t, a, archive.Query{}))
	write(t, a, book().Entries)
	same(t, "entries", 10, len(ids(t, a, archive.Query{})))
}

func wholeBatches(t *testing.T, a archive.Archive) {
	const batches, size = 40, 25
	l := &Log{Origin: "guardbook/test"}
	for range batches * size {
		l.Add(day, day, guardbook.TypeDecision, guardbook.DecisionEntry{Agent: "billing", Decision: guardbook.ActionAllow})
	}
	written := make(chan error, 1)
	go func() {
		for i := range batches {
			if err := a.Write(t.Context(), l.Entries[i*size:(i+1)*size]); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for done := false; !done; {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		if n := len(ids(t, a, archive.Query{Agent: "billing"})); n%size != 0 {
			t.Fatalf("a reader saw %d entries: half of a batch", n)
		}
	}
}
