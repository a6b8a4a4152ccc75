package reconcile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Export is a provider's own count.
type Export struct {
	Measure Measure
	Counts  map[Key]int64
	Hourly  bool // its times are finer than days
	Models  bool // it tells models apart
	// First and End are the beginning of the first bucket and the end of the last.
	First, End time.Time
	SHA256     string // of the export, in hex
}

// The names of columns, without capitals, spaces, underscores and the like.
var (
	timeColumns   = []string{"date", "day", "starttime", "starttimeiso", "startingat", "bucketstart", "usagedate", "usagedateutc", "timestamp", "aggregationtimestamp", "time", "hour"}
	modelColumns  = []string{"model", "modelversion", "modelname", "modelid", "snapshotid"}
	callColumns   = []string{"nummodelrequests", "nrequests", "requests", "requestcount", "numrequests", "requeststotal", "calls", "count"}
	tokenColumns  = []string{"usageoutputtokens", "outputtokens", "completiontokens", "ngeneratedtokenstotal", "generatedtokenstotal"}
	bucketMembers = []string{"results", "result", "data"} // lists within an object of JSON
)

// MaxExport bounds the size of an export.
const MaxExport = 256 << 20

// ReadExport reads a usage export: CSV with a header, or JSON.
func ReadExport(r io.Reader) (*Export, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxExport+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxExport {
		return nil, fmt.Errorf("the export is larger than %d bytes: export a shorter time", MaxExport)
	}
	sum := sha256.Sum256(b)
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	var rows []map[string]string
	if t := bytes.TrimSpace(b); len(t) > 0 && (t[0] == '{' || t[0] == '[') {
		rows, err = readJSON(t)
	} else {
		rows, err = readCSV(b)
	}
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("the export has no rows")
	}
	e, err := count(rows)
	if err == nil {
		e.SHA256 = hex.EncodeToString(sum[:])
	}
	return e, err
}

// plain is a column's name as it is looked for.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

func readCSV(b []byte) ([]map[string]string, error) {
	first, _, _ := bytes.Cut(b, []byte("\n"))
	r := csv.NewReader(bufio.NewReader(bytes.NewReader(b)))
	for _, c := range []rune{';', '\t'} {
		if bytes.Count(first, []byte(string(c))) > bytes.Count(first, []byte(",")) {
			r.Comma = c
		}
	}
	r.FieldsPerRecord = -1
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the export's header cannot be read: %w", err)
	}
	var out []map[string]string
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the export is not CSV: %w", err)
		}
		row := map[string]string{}
		for i, v := range rec {
			if i < len(head) {
				row[plain(head[i])] = strings.TrimSpace(v)
			}
		}
		out = append(out, row)
	}
}

// readJSON reads one JSON value, or several one after the other. Lists are gone
// through; an object that holds a list of results gives each of them its own members.
func readJSON(b []byte) ([]map[string]string, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	var out []map[string]string
	for {
		var v any
		err := json.UnmarshalDecode(dec, &v)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the export is not JSON: %w", err)
		}
		out = flatten(out, v, nil)
	}
}

func flatten(out []map[string]string, v any, above map[string]string) []map[string]string {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			out = flatten(out, e, above)
		}
	case map[string]any:
		row := maps.Clone(above)
		if row == nil {
			row = map[string]string{}
		}
		for name, m := range v {
			switch m := m.(type) {
			case string:
				row[plain(name)] = m
			case float64:
				row[plain(name)] = strconv.FormatFloat(m, 'f', -1, 64)
			}
		}
		inner := false
		for _, name := range bucketMembers {
			if list, ok := v[name].([]any); ok {
				inner = true
				out = flatten(out, list, row)
			}
		}
		if !inner {
			out = append(out, row)
		}
	}
	return out
}

// count sums the rows up.
func count(rows []map[string]string) (*Export, error) {
	has := func(names []string) string {
		for _, n := range names {
			if slices.ContainsFunc(rows, func(r map[string]string) bool { return r[n] != "" }) {
				return n
			}
		}
		return ""
	}
	when, model, calls, tokens := has(timeColumns), has(modelColumns), has(callColumns), has(tokenColumns)
	if when == "" {
		return nil, errors.New("the export has no column with a time: docs/coverage.md lists the names that are understood (date, start_time, starting_at, usage_date_utc, ...)")
	}
	e := &Export{Measure: Calls, Counts: map[Key]int64{}, Models: model != ""}
	number := calls
	switch {
	case calls != "":
	case tokens != "":
		e.Measure, number = OutputTokens, tokens
	case slices.ContainsFunc(slices.Collect(maps.Keys(rows[0])), func(n string) bool { return strings.Contains(n, "token") || strings.Contains(n, "cost") }):
		return nil, errors.New("the export counts neither calls nor output tokens: docs/coverage.md lists the names that are understood (num_model_requests, requests, output_tokens, ...)")
	}
	times := make([]time.Time, len(rows))
	for i, r := range rows {
		t, err := readTime(r[when])
		if err != nil {
			return nil, fmt.Errorf("row %d of the export: %w", i+1, err)
		}
		times[i] = t
		e.Hourly = e.Hourly || !t.Equal(bucketOf(t, false))
	}
	for i, r := range rows {
		n := int64(1)
		if number != "" {
			var err error
			if n, err = readNumber(r[number]); err != nil {
				return nil, fmt.Errorf("row %d of the export, %s: %w", i+1, number, err)
			}
		}
		k := Key{bucketOf(times[i], e.Hourly), NoModel}
		if e.Models {
			k.Model = r[model]
		}
		e.Counts[k] += n
		if e.First.IsZero() || k.Bucket.Before(e.First) {
			e.First = k.Bucket
		}
		if end := e.next(k.Bucket); end.After(e.End) {
			e.End = end
		}
	}
	return e, nil
}

func (e *Export) next(bucket time.Time) time.Time {
	if e.Hourly {
		return bucket.Add(time.Hour)
	}
	return bucket.AddDate(0, 0, 1)
}

// Narrow leaves out what is not in [from, to); a zero time is no bound.
func (e *Export) Narrow(from, to time.Time) {
	if !from.IsZero() && from.After(e.First) {
		e.First = bucketOf(from, e.Hourly)
	}
	if !to.IsZero() && to.Before(e.End) {
		e.End = to
	}
	maps.DeleteFunc(e.Counts, func(k Key, _ int64) bool { return !e.covers(k.Bucket) })
}

func (e *Export) covers(bucket time.Time) bool {
	return !bucket.Before(e.First) && bucket.Before(e.End)
}

func (e *Export) layout() string {
	if e.Hourly {
		return "2006-01-02T15:04Z"
	}
	return time.DateOnly
}

func (e *Export) format(bucket time.Time) string { return bucket.Format(e.layout()) }

func (e *Export) parse(bucket string) time.Time {
	t, _ := time.Parse(e.layout(), bucket) // format made it
	return t
}

// Provider guesses whose export it is from the names of the models; "" if it cannot.
func (e *Export) Provider() string {
	claude, others := 0, 0
	for k := range e.Counts {
		switch {
		case k.Model == NoModel:
		case strings.Contains(strings.ToLower(k.Model), "claude"):
			claude++
		default:
			others++
		}
	}
	switch {
	case claude > 0 && others == 0:
		return Anthropic
	case others > 0 && claude == 0:
		return OpenAI
	}
	return ""
}

// readTime reads a date, a time, or Unix seconds.
func readTime(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05 UTC"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 1e9 && n < 1e11 {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%.40q is no time: a date (2026-01-31), RFC 3339, or Unix seconds", s)
}

// readNumber reads a count; an empty one is 0.
func readNumber(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(strings.NewReplacer(",", "", "_", "", " ", "", "'", "").Replace(s), 64)
	if err != nil || f < 0 || f > 1e15 {
		return 0, fmt.Errorf("%.40q is no count", s)
	}
	return int64(f), nil
}
