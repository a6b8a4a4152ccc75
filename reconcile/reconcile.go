// Package reconcile compares the model calls that are in the book with a provider's
// own usage export. What the provider counted and the book did not went past the
// guard.
package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The providers that an export can be of.
const (
	OpenAI    = "openai"
	Anthropic = "anthropic"
)

// Measure is what is compared.
type Measure string

// The measures.
const (
	Calls        Measure = "calls"
	OutputTokens Measure = "output_tokens" // for exports that do not count calls
)

// NoModel is the model's name when an export does not tell models apart.
const NoModel = "(all models)"

// Key is one cell of the comparison.
type Key struct {
	Bucket time.Time // the beginning of a day or an hour, UTC
	Model  string
}

// Row is one line of the result.
type Row struct {
	Bucket   string  `json:"bucket"` // a date, or a date and hour, UTC
	Model    string  `json:"model"`
	Measure  Measure `json:"measure"`
	Book     int64   `json:"book"`
	Provider int64   `json:"provider"`
	Delta    int64   `json:"delta"` // provider less book: what is above 0 went past the guard
	// Status is equal, tolerated, explained or unexplained.
	Status string `json:"status"`
	Note   string `json:"note,omitzero"`
}

// The states of a row.
const (
	Equal       = "equal"
	Tolerated   = "tolerated"
	Explained   = "explained"
	Unexplained = "unexplained"
)

// Tolerance is how large a difference may be.
type Tolerance struct {
	Absolute int64
	Share    float64 // of the larger of both counts
}

func (t Tolerance) allows(book, provider int64) bool {
	d := max(provider-book, book-provider)
	return d <= t.Absolute || float64(d) <= t.Share*float64(max(book, provider))
}

// Compare compares an export with what is in the book for the same time.
func Compare(e *Export, b *Counted, t Tolerance) []Row {
	book := map[Key]int64{}
	for k, n := range b.counts(e.Measure) {
		if !e.covers(k.Bucket) {
			continue
		}
		if !e.Models {
			k.Model = NoModel
		}
		book[k] += n
	}
	keys := map[Key]bool{}
	for k := range book {
		keys[k] = true
	}
	for k := range e.Counts {
		keys[k] = true
	}
	rows := make([]Row, 0, len(keys))
	for _, k := range slices.SortedFunc(maps.Keys(keys), func(x, y Key) int {
		return cmp.Or(x.Bucket.Compare(y.Bucket), strings.Compare(x.Model, y.Model))
	}) {
		rows = append(rows, Row{Bucket: e.format(k.Bucket), Model: k.Model, Measure: e.Measure, Book: book[k], Provider: e.Counts[k], Delta: e.Counts[k] - book[k]})
	}
	x := explaining{e: e, b: b, t: t}
	for i := range rows {
		x.settle(&rows[i])
	}
	x.otherNames(rows)
	x.unread(rows)
	x.notes(rows)
	return rows
}

// Left counts the rows that nothing explains.
func Left(rows []Row) int {
	n := 0
	for _, r := range rows {
		if r.Status == Unexplained {
			n++
		}
	}
	return n
}

// explaining finds harmless causes of differences.
type explaining struct {
	e *Export
	b *Counted
	t Tolerance
}

func (x explaining) settle(r *Row) {
	switch {
	case r.Delta == 0:
		r.Status = Equal
	case x.t.allows(r.Book, r.Provider):
		r.Status = Tolerated
	default:
		r.Status = Unexplained
		if n := x.b.edges(x.e.Measure)[Key{x.e.parse(r.Bucket), x.model(r)}]; n > 0 && max(r.Delta, -r.Delta) <= n {
			r.Status, r.Note = Explained, fmt.Sprintf("%d were counted between two heartbeats on either side of its beginning or end", n)
		}
	}
}

func (x explaining) model(r *Row) string {
	if r.Model == NoModel {
		return ""
	}
	return r.Model
}

// otherNames explains differences of models that are one under two names: a dated
// name and the one without a date.
func (x explaining) otherNames(rows []Row) {
	groups := map[string][]*Row{}
	for i := range rows {
		key := rows[i].Bucket + " " + family(rows[i].Model)
		groups[key] = append(groups[key], &rows[i])
	}
	for _, g := range groups {
		var book, provider int64
		open := false
		for _, r := range g {
			book, provider = book+r.Book, provider+r.Provider
			open = open || r.Status == Unexplained
		}
		if len(g) < 2 || !open || book != provider && !x.t.allows(book, provider) {
			continue
		}
		for _, r := range g {
			if r.Status == Unexplained {
				r.Status, r.Note = Explained, fmt.Sprintf("the names of %s together: %d in the book, %d at the provider", family(r.Model), book, provider)
			}
		}
	}
}

// unread explains what the provider counted more by requests that policy let pass
// unread: their models are not known.
func (x explaining) unread(rows []Row) {
	if x.e.Measure != Calls {
		return
	}
	left := map[string]int64{}
	for bucket, n := range x.b.unread {
		left[x.e.format(bucket)] = n
	}
	for i := range rows {
		r := &rows[i]
		if r.Status != Unexplained || r.Delta <= 0 || left[r.Bucket] < r.Delta {
			continue
		}
		left[r.Bucket] -= r.Delta
		r.Status, r.Note = Explained, fmt.Sprintf("policy let %d requests of this time pass unread", x.b.unread[x.e.parse(r.Bucket)])
	}
}

// notes adds what is to know about a difference that nothing explains.
func (x explaining) notes(rows []Row) {
	for i := range rows {
		r := &rows[i]
		if r.Status != Unexplained {
			continue
		}
		at := x.e.parse(r.Bucket)
		switch {
		case x.b.crashes[at] > 0:
			r.Note = "an instance ended without its last counters in this time: what it counted in the 30 seconds before is not in the book"
		case r.Delta > 0 && r.Book == 0:
			r.Note = "not in the book at all: it went past the guard, or belongs to another account"
		case r.Delta > 0:
			r.Note = "more than the book has: some of it went past the guard"
		case r.Provider == 0:
			r.Note = "not in the export: is it of one project or key only, or of another time?"
		default:
			r.Note = "less than the book has: is the export of one project or key only, or not complete yet?"
		}
	}
}

// family is a model's name without the date of its version.
func family(model string) string {
	model = strings.TrimSuffix(strings.ToLower(model), "-latest")
	for _, shape := range []string{"-0000-00-00", "-00000000", "@00000000"} {
		at := len(model) - len(shape)
		if at <= 0 {
			continue
		}
		tail := strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return '0'
			}
			return r
		}, model[at:])
		if tail == shape {
			return model[:at]
		}
	}
	return model
}
