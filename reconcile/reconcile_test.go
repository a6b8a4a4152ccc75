package reconcile_test

import (
	"encoding/json/v2"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/reconcile"
)

var day = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

func read(t *testing.T, text string) *reconcile.Export {
	t.Helper()
	e, err := reconcile.ReadExport(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExportsAreUnderstoodByTheirHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		text, provider string
		measure        reconcile.Measure
		hourly         bool
		want           map[string]int64
	}{
		"OpenAI usage, CSV": {"start_time,end_time,num_model_requests,model,input_tokens\n1793577600,1793664000,5,gpt-5-2025-08-07,100\n1793577600,1793664000,2,gpt-5-mini,9\n1793664000,1793750400,\"1,200\",gpt-5-mini,9\n",
			"openai", reconcile.Calls, false, map[string]int64{"2026-11-02 gpt-5-2025-08-07": 5, "2026-11-02 gpt-5-mini": 2, "2026-11-03 gpt-5-mini": 1200}},
		"OpenAI usage, JSON": {`{"object":"page","data":[{"object":"bucket","start_time":1793577600,"end_time":1793664000,"results":[{"num_model_requests":5,"model":"gpt-5"},{"num_model_requests":2,"model":"gpt-5"}]},{"start_time":1793664000,"results":[]}],"has_more":false}`,
			"openai", reconcile.Calls, false, map[string]int64{"2026-11-02 gpt-5": 7}},
		"OpenAI usage without models": {`{"data":[{"start_time":1793577600,"results":[{"num_model_requests":5,"model":null}]}]}`,
			"", reconcile.Calls, false, map[string]int64{"2026-11-02 (all models)": 5}},
		"older OpenAI usage": {`{"data":[{"aggregation_timestamp":1793577600,"n_requests":3,"snapshot_id":"gpt-4o-2024-08-06","n_generated_tokens_total":7}]}`,
			"openai", reconcile.Calls, false, map[string]int64{"2026-11-02 gpt-4o-2024-08-06": 3}},
		"Anthropic Console, CSV": {"\ufeffusage_date_utc,model_version,api_key,workspace,usage_type,usage_input_tokens_no_cache,usage_output_tokens\n2026-11-02,claude-sonnet-5-20260101,k,Default,message,100,41\n2026-11-02,claude-sonnet-5-20260101,k2,Default,message,100,1\n",
			"anthropic", reconcile.OutputTokens, false, map[string]int64{"2026-11-02 claude-sonnet-5-20260101": 42}},
		"Anthropic usage report": {`{"data":[{"starting_at":"2026-11-02T05:00:00Z","ending_at":"2026-11-02T06:00:00Z","results":[{"model":"claude-x","uncached_input_tokens":5,"output_tokens":6}]}]}`,
			"anthropic", reconcile.OutputTokens, true, map[string]int64{"2026-11-02T05:00Z claude-x": 6}},
		"semicolons and hours": {"Hour;Model Name;Requests\n2026-11-02 05:00;m;3\n2026-11-02T06:00:00Z;m;4\n",
			"openai", reconcile.Calls, true, map[string]int64{"2026-11-02T05:00Z m": 3, "2026-11-02T06:00Z m": 4}},
		"one row a call": {"timestamp\tmodel\n2026-11-02T05:10:00Z\tm\n2026-11-02T05:20:00Z\tm\n",
			"openai", reconcile.Calls, true, map[string]int64{"2026-11-02T05:00Z m": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			e := read(t, c.text)
			got := map[string]int64{}
			for _, r := range reconcile.Compare(e, reconcile.NewCounted("openai", e.Hourly, e.First, e.End), reconcile.Tolerance{}) {
				got[r.Bucket+" "+r.Model] = r.Provider
			}
			if d := cmp.Diff(c.want, got); d != "" || e.Measure != c.measure || e.Hourly != c.hourly || e.Provider() != c.provider {
				t.Errorf("%s %v %s\n%s", e.Measure, e.Hourly, e.Provider(), d)
			}
		})
	}
}

func TestAnExportThatCannotBeComparedIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "no rows",
		"date,model\n":                          "no rows",
		"model,requests\nm,1\n":                 "no column with a time",
		"date,model,cost_usd\n2026-11-02,m,3\n": "neither calls nor output tokens",
		"date,requests\n02.11.2026,1\n":         "is no time",
		"date,requests\n2026-11-02,many\n":      "is no count",
		"date,requests\n2026-11-02,-5\n":        "is no count",
		`{"data":[`:                             "not JSON",
		"date,requests\n\"2026":                 "not CSV",
	} {
		if _, err := reconcile.ReadExport(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// tale is a book of heartbeats.
type tale struct {
	t   *testing.T
	c   *reconcile.Counted
	seq int64
}

func (x *tale) add(at time.Time, kind guardbook.EntryType, body any) {
	x.t.Helper()
	h, err := json.Marshal(guardbook.Header{V: 1, Log: "l", Seq: x.seq, ID: fmt.Sprint(x.seq), TS: at.Format(guardbook.TimeLayout), Rec: at.Format(guardbook.TimeLayout), Instance: "i", Type: kind, Tenant: "default"})
	if err != nil {
		x.t.Fatal(err)
	}
	b, err := json.Marshal(body)
	if err != nil {
		x.t.Fatal(err)
	}
	x.seq++
	e, err := guardbook.ParseEntry([]byte(string(h[:len(h)-1]) + "," + string(b[1:])))
	if err != nil {
		x.t.Fatal(err)
	}
	if err := x.c.Add(e); err != nil {
		x.t.Fatal(err)
	}
}

func (x *tale) beat(at time.Time, boot string, calls ...guardbook.ModelCalls) {
	x.add(at, guardbook.TypeHeartbeat, guardbook.HeartbeatEntry{Boot: boot, Interval: 30_000, Uptime: 1000, Calls: calls})
}

func calls(path, model string, n, tokens int64) guardbook.ModelCalls {
	return guardbook.ModelCalls{Path: path, Model: model, Calls: n, OutputTokens: tokens}
}

func TestDifferencesAreFoundAndHarmlessOnesExplained(t *testing.T) {
	e := read(t, `date,model,requests
2026-11-02,same,10
2026-11-02,more,7
2026-11-02,gpt-5-2026-01-01,4
2026-11-02,nearly,100
2026-11-03,same,5
2026-11-03,late,3
2026-11-03,bypass,2
`)
	x := &tale{t: t, c: reconcile.NewCounted("openai", e.Hourly, e.First, e.End)}
	x.add(day, guardbook.TypeStart, guardbook.StartEntry{Boot: "a", Clean: true})
	x.beat(day.Add(time.Hour), "a", calls("openai/chat", "same", 4, 0), calls("anthropic/messages", "claude", 9, 0), calls("openai/chat", "nearly", 99, 0))
	x.beat(day.Add(2*time.Hour), "a", calls("openai/chat", "same", 6, 0), calls("openai/responses", "same", 4, 0), calls("openai/chat", "gpt-5", 4, 0), calls("openai/chat", "more", 5, 0), calls("openai/chat", "nearly", 99, 0), calls("anthropic/messages", "claude", 9, 0))
	x.add(day.Add(3*time.Hour), guardbook.TypePassthrough, guardbook.PassthroughEntry{Path: "openai", Method: "POST"})
	x.add(day.Add(3*time.Hour), guardbook.TypePassthrough, guardbook.PassthroughEntry{Path: "openai", Method: "POST"})
	x.add(day.Add(3*time.Hour), guardbook.TypePassthrough, guardbook.PassthroughEntry{Path: "openai", Method: "GET"})
	x.beat(day.Add(24*time.Hour-10*time.Second), "a", calls("openai/chat", "same", 6, 0), calls("openai/responses", "same", 4, 0), calls("openai/chat", "gpt-5", 4, 0), calls("openai/chat", "more", 5, 0), calls("openai/chat", "nearly", 99, 0))
	x.beat(day.Add(24*time.Hour+20*time.Second), "a", calls("openai/chat", "same", 6, 0), calls("openai/responses", "same", 4, 0), calls("openai/chat", "late", 4, 0))
	// A crash, and a new run that counts from 0.
	x.add(day.Add(25*time.Hour), guardbook.TypeStart, guardbook.StartEntry{Boot: "b", Clean: false})
	x.beat(day.Add(26*time.Hour), "b", calls("azure/chat", "same", 5, 0))
	rows := reconcile.Compare(e, x.c, reconcile.Tolerance{Absolute: 1})
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s %s %d %d %+d %s", r.Bucket[8:], r.Model, r.Book, r.Provider, r.Delta, r.Status))
		if r.Model == "bypass" && !strings.Contains(r.Note, "without its last counters") {
			t.Errorf("note %q", r.Note)
		}
	}
	want := []string{
		"02 gpt-5 4 0 -4 explained",
		"02 gpt-5-2026-01-01 0 4 +4 explained",
		"02 more 5 7 +2 explained",
		"02 nearly 99 100 +1 tolerated",
		"02 same 10 10 +0 equal",
		"03 bypass 0 2 +2 unexplained",
		"03 late 4 3 -1 tolerated",
		"03 same 5 5 +0 equal",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := reconcile.Left(rows); n != 1 {
		t.Errorf("%d rows are left", n)
	}
	for _, r := range reconcile.Compare(e, x.c, reconcile.Tolerance{}) {
		if r.Model == "late" && (r.Status != reconcile.Explained || !strings.Contains(r.Note, "heartbeats")) {
			t.Errorf("calls around midnight: %+v", r)
		}
		if r.Model == "nearly" && r.Status != reconcile.Unexplained {
			t.Errorf("without tolerance: %+v", r)
		}
	}
}

func TestCountersFromBeforeTheWindowAreNoCallsOfIt(t *testing.T) {
	e := read(t, "date,model,output_tokens\n2026-11-02,claude-x,40\n")
	x := &tale{t: t, c: reconcile.NewCounted("anthropic", e.Hourly, e.First, e.End)}
	x.add(day.Add(-time.Minute), guardbook.TypeHeartbeat, guardbook.HeartbeatEntry{Boot: "old", Interval: 30_000, Uptime: 3_600_000, Calls: []guardbook.ModelCalls{calls("anthropic/messages", "claude-x", 100, 1000)}})
	x.beat(day.Add(time.Hour), "old", calls("anthropic/messages", "claude-x", 104, 1040))
	rows := reconcile.Compare(e, x.c, reconcile.Tolerance{})
	if len(rows) != 1 || rows[0].Status != reconcile.Equal || rows[0].Book != 40 {
		t.Errorf("%+v", rows)
	}
}

func FuzzReadExport(f *testing.F) {
	f.Add("date,model,requests\n2026-11-02,m,1\n")
	f.Add(`{"data":[{"start_time":1793577600,"results":[{"num_model_requests":5}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := reconcile.ReadExport(strings.NewReader(text)); err == nil {
			reconcile.Compare(e, reconcile.NewCounted("openai", e.Hourly, e.First, e.End), reconcile.Tolerance{})
		}
	})
}
