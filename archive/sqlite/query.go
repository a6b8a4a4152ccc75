package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
)

// where is a condition: text of ours, values of the caller only as parameters.
type where struct {
	from  string
	terms []string
	args  []any
}

func (w *where) and(term string, args ...any) {
	w.terms = append(w.terms, term)
	w.args = append(w.args, args...)
}

func (w *where) String() string {
	if len(w.terms) == 0 {
		return w.from
	}
	return w.from + " WHERE " + strings.Join(w.terms, " AND ")
}

// conditions turns a query into one. Terms that repeat the condition of a partial
// index let SQLite use it.
func conditions(ctx context.Context, tx *sql.Tx, q archive.Query) (*where, error) {
	w := &where{from: "events"}
	if q.Class != "" {
		w.from = "classes JOIN events USING (pos)"
		w.and("classes.class = ?", string(q.Class))
	}
	if len(q.Types) > 0 {
		marks := strings.TrimSuffix(strings.Repeat("?,", len(q.Types)), ",")
		var args []any
		for _, t := range q.Types {
			args = append(args, string(t))
		}
		w.and("type IN ("+marks+")", args...)
		if !slices.Contains(q.Types, guardbook.TypeDecision) {
			w.and("type <> 'decision'")
		}
	}
	for _, c := range []struct{ column, value string }{
		{"tenant", q.Tenant}, {"agent", q.Agent}, {"session", q.Session}, {"tool", q.Tool}, {"rule", q.Rule}, {"action", string(q.Action)},
	} {
		if c.value != "" {
			w.and(c.column+" = ?", c.value)
		}
	}
	if q.NoCanaries && q.Agent == "" {
		marks := strings.TrimSuffix(strings.Repeat("?,", len(guardbook.CanaryTypes)), ",")
		args := []any{guardbook.CanaryAgent}
		for _, t := range guardbook.CanaryTypes {
			args = append(args, string(t))
		}
		w.and("NOT (coalesce(agent, '') = ? AND type IN ("+marks+"))", args...)
	}
	if q.Action != "" && q.Action != guardbook.ActionAllow && q.Action != guardbook.ActionLog {
		w.and("action NOT IN ('allow', 'log')")
	}
	if q.MinSeverity != nil {
		w.and("severity >= ?", int64(*q.MinSeverity))
		if *q.MinSeverity >= guardbook.Medium {
			w.and("severity >= 2")
		}
	}
	if err := w.places(ctx, tx, q); err != nil {
		return nil, err
	}
	return w, nil
}

// places adds the conditions on time and on the place in the book.
func (w *where) places(ctx context.Context, tx *sql.Tx, q archive.Query) error {
	if !q.Since.IsZero() {
		w.and("ts >= ?", ceilMicros(q.Since))
		first, err := firstPlace(ctx, tx, q.Since)
		if err != nil {
			return err
		}
		w.and("pos >= ?", first)
	}
	if !q.Until.IsZero() {
		w.and("ts < ?", ceilMicros(q.Until))
		last, err := lastPlace(ctx, tx, q.Until)
		if err != nil {
			return err
		}
		w.and("pos <= ?", last)
	}
	if q.After == nil && q.Before == nil {
		return nil
	}
	place, err := placeOfLog(ctx, tx, q.Log)
	if err != nil {
		return err
	}
	if q.After != nil {
		w.and("pos > ?", place*logWidth+*q.After)
	}
	if q.Before != nil {
		w.and("pos < ?", place*logWidth+*q.Before)
	}
	return nil
}

// ceilMicros is the first whole microsecond at or after a moment.
func ceilMicros(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }

func placeOfLog(ctx context.Context, tx *sql.Tx, origin string) (place int64, err error) {
	if origin == "" {
		err = tx.QueryRowContext(ctx, "SELECT coalesce(max(place), 0) FROM logs").Scan(&place)
		return place, err
	}
	err = tx.QueryRowContext(ctx, "SELECT place FROM logs WHERE origin = ?", origin).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%w: the log %q is not in the archive", archive.ErrNotFound, origin)
	}
	return place, err
}

// Events returns the entries that match, in the order of the book.
func (a *Archive) Events(ctx context.Context, q archive.Query) ([]guardbook.Entry, error) {
	var out []guardbook.Entry
	err := a.query(ctx, q, func(tx *sql.Tx, w *where) error {
		limit := q.Limit
		if limit <= 0 || limit > archive.MaxLimit {
			limit = archive.MaxLimit
		}
		pos, order := "pos", "ASC"
		if q.Class != "" {
			pos = "classes.pos"
		}
		if q.Desc {
			order = "DESC"
		}
		// The places first, from the narrow tables; then the entries.
		text := fmt.Sprintf("SELECT raw FROM (SELECT %s AS at FROM %s ORDER BY %s %s LIMIT ?) CROSS JOIN raws ON raws.pos = at ORDER BY at %s", pos, w, pos, order, order)
		rows, err := tx.QueryContext(ctx, text, append(w.args, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var raw []byte
			if err := rows.Scan(&raw); err != nil {
				return err
			}
			e, err := guardbook.ParseEntry(raw)
			if err != nil {
				return fmt.Errorf("%w: %w", archive.ErrCorrupt, err)
			}
			out = append(out, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("archive events: %w", err)
	}
	return out, nil
}

// Event returns one entry by its id.
func (a *Archive) Event(ctx context.Context, id string) (guardbook.Entry, error) {
	_, read, done, err := a.pools()
	if err != nil {
		return guardbook.Entry{}, fmt.Errorf("archive event: %w", err)
	}
	defer done()
	var raw []byte
	err = read.QueryRowContext(ctx, "SELECT raw FROM events JOIN raws USING (pos) WHERE id = ?", id).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return guardbook.Entry{}, archive.ErrNotFound
	}
	if err != nil {
		return guardbook.Entry{}, fmt.Errorf("archive event: %w", a.met(err))
	}
	return guardbook.ParseEntry(raw)
}

// columnsBy are the expressions that Counts groups by.
var columnsBy = map[archive.By]string{
	archive.ByClass:    "classes.class",
	archive.ByAgent:    "agent",
	archive.ByAction:   "action",
	archive.BySeverity: "severity",
	archive.ByType:     "type",
	archive.ByTool:     "tool",
	archive.ByRule:     "rule",
	archive.ByKind:     "kind",
	archive.ByDay:      "ts / 86400000000",
}

// Counts counts the entries that match by a property.
func (a *Archive) Counts(ctx context.Context, q archive.Query, by archive.By) (map[string]int64, error) {
	column, ok := columnsBy[by]
	if !ok {
		return nil, fmt.Errorf("archive counts: %q is no property to count by", by)
	}
	out := map[string]int64{}
	err := a.query(ctx, q, func(tx *sql.Tx, w *where) error {
		if by == archive.ByClass && q.Class == "" {
			w.from = "events JOIN classes USING (pos)"
		} else if by == archive.ByClass {
			// An entry of the class that is asked for counts for its other classes, too.
			w.from = "classes AS asked JOIN events USING (pos) JOIN classes ON classes.pos = events.pos"
			w.terms[0] = "asked.class = ?"
		}
		for i, t := range w.terms {
			if strings.HasPrefix(t, "pos ") {
				w.terms[i] = "events." + t
			}
		}
		rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT %s AS key, count(*) FROM %s GROUP BY key HAVING key IS NOT NULL", column, w), w.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var key any
			var n int64
			if err := rows.Scan(&key, &n); err != nil {
				return err
			}
			out[keyText(by, key)] = n
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("archive counts: %w", err)
	}
	return out, nil
}

func keyText(by archive.By, key any) string {
	n, ok := key.(int64)
	switch {
	case ok && by == archive.BySeverity:
		return guardbook.Severity(n).String()
	case ok && by == archive.ByDay:
		return time.Unix(n*86400, 0).UTC().Format(time.DateOnly)
	}
	return fmt.Sprint(key)
}

// query runs f in one snapshot of the archive.
func (a *Archive) query(ctx context.Context, q archive.Query, f func(*sql.Tx, *where) error) error {
	_, read, done, err := a.pools()
	if err != nil {
		return err
	}
	defer done()
	tx, err := read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return a.met(err)
	}
	defer tx.Rollback()
	w, err := conditions(ctx, tx, q)
	if err != nil {
		return a.met(err)
	}
	return a.met(f(tx, w))
}
