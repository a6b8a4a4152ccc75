package sqlite

import (
	"context"
	"database/sql"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
)

// logWidth is how far apart two logs are in the order of places.
const logWidth = int64(1) << 40

// row is an entry as the table has it.
type row struct {
	pos, ts, rec int64
	e            guardbook.Entry
	body         columns
}

// columns are the members of an entry that are asked for. They are missing in
// most types of entry, and then the column is null.
type columns struct {
	Agent    *string             `json:"agent"`
	Session  *string             `json:"session"`
	Kind     *string             `json:"kind"`
	Tool     *guardbook.ToolRef  `json:"tool"`
	Rule     *string             `json:"rule"`
	Decision *string             `json:"decision"`
	Severity *guardbook.Severity `json:"severity"`
	Findings []struct {
		Class guardbook.Class `json:"class"`
	} `json:"findings"`
}

// Cursor says which log was written last and what comes next in it.
func (a *Archive) Cursor(ctx context.Context) (string, int64, error) {
	_, read, done, err := a.pools()
	if err != nil {
		return "", 0, fmt.Errorf("archive cursor: %w", err)
	}
	defer done()
	var origin string
	var next int64
	err = read.QueryRowContext(ctx, "SELECT origin, next FROM cursor JOIN logs USING (place)").Scan(&origin, &next)
	if errors.Is(err, sql.ErrNoRows) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("archive cursor: %w", classify(err))
	}
	return origin, next, nil
}

// Write stores entries of one log and moves the cursor, in one transaction.
func (a *Archive) Write(ctx context.Context, entries []guardbook.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	write, _, done, err := a.pools()
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer done()
	if a.damaged.Load() {
		return fmt.Errorf("write archive: %w", archive.ErrCorrupt)
	}
	rows, err := rowsOf(entries)
	if err == nil {
		err = a.writeRows(ctx, write, entries[0].Log, rows)
	}
	if err != nil {
		return fmt.Errorf("write archive: entries %d to %d: %w", entries[0].Seq, entries[len(entries)-1].Seq, classify(err))
	}
	return nil
}

// rowsOf reads the columns of entries; their places still lack the log's.
func rowsOf(entries []guardbook.Entry) ([]row, error) {
	rows := make([]row, len(entries))
	for i, e := range entries {
		if e.Log != entries[0].Log || e.Seq != entries[0].Seq+int64(i) {
			return nil, fmt.Errorf("entry %d of %q does not follow in its log", e.Seq, e.Log)
		}
		r := row{pos: e.Seq, e: e}
		var err error
		if r.ts, err = micros(e.TS); err != nil {
			return nil, err
		}
		if r.rec, err = micros(e.Rec); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(e.Raw, &r.body); err != nil {
			// A body that this version cannot read is kept and found by its header.
			r.body = columns{}
		}
		rows[i] = r
	}
	return rows, nil
}

func micros(s string) (int64, error) {
	t, err := time.Parse(guardbook.TimeLayout, s)
	if err != nil {
		return 0, err
	}
	return t.UnixMicro(), nil
}

func (a *Archive) writeRows(ctx context.Context, write *sql.DB, origin string, rows []row) error {
	tx, err := write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	place, err := a.placeOf(ctx, tx, origin)
	if err != nil {
		return err
	}
	if err := insert(ctx, tx, place*logWidth, rows); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE logs SET next = max(next, ?) WHERE place = ?", rows[len(rows)-1].pos+1, place); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO cursor (one, place) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET place = excluded.place", place); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	a.cursorMu.Lock()
	a.logs[origin] = place
	a.cursorMu.Unlock()
	return nil
}

// placeOf is the place of a log; a new one comes behind all others.
func (a *Archive) placeOf(ctx context.Context, tx *sql.Tx, origin string) (int64, error) {
	a.cursorMu.Lock()
	place, ok := a.logs[origin]
	a.cursorMu.Unlock()
	if ok {
		return place, nil
	}
	err := tx.QueryRowContext(ctx, "INSERT INTO logs (place, origin, next) SELECT coalesce(max(place), 0) + 1, ?, 0 FROM logs RETURNING place", origin).Scan(&place)
	return place, err
}

// insert adds the rows that are not there yet.
func insert(ctx context.Context, tx *sql.Tx, base int64, rows []row) error {
	event, err := tx.PrepareContext(ctx, "INSERT INTO events (pos, id, ts, rec, type, tenant, agent, session, kind, tool, rule, action, severity) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (pos) DO NOTHING")
	if err != nil {
		return err
	}
	defer event.Close()
	raw, err := tx.PrepareContext(ctx, "INSERT INTO raws (pos, raw) VALUES (?,?) ON CONFLICT (pos) DO NOTHING")
	if err != nil {
		return err
	}
	defer raw.Close()
	class, err := tx.PrepareContext(ctx, "INSERT INTO classes (class, pos) VALUES (?,?) ON CONFLICT DO NOTHING")
	if err != nil {
		return err
	}
	defer class.Close()
	for i := range rows {
		r := &rows[i]
		pos := base + r.pos
		var tool *string
		if r.body.Tool != nil {
			tool = &r.body.Tool.Name
		}
		var severity *int64
		if r.body.Severity != nil {
			n := int64(*r.body.Severity)
			severity = &n
		}
		b := &r.body
		if _, err := event.ExecContext(ctx, pos, r.e.ID, r.ts, r.rec, string(r.e.Type), r.e.Tenant,
			null(b.Agent), null(b.Session), null(b.Kind), null(tool), null(b.Rule), null(b.Decision), severity); err != nil {
			return err
		}
		if _, err := raw.ExecContext(ctx, pos, r.e.Raw); err != nil {
			return err
		}
		var seen []guardbook.Class
		for _, f := range b.Findings {
			if slices.Contains(seen, f.Class) {
				continue
			}
			seen = append(seen, f.Class)
			if _, err := class.ExecContext(ctx, string(f.Class), pos); err != nil {
				return err
			}
		}
	}
	return nil
}

// null makes an empty text null.
func null(s *string) *string {
	if s == nil || *s == "" {
		return nil
	}
	return s
}
