package sqlite

import (
	"context"
	"database/sql"
	"time"
)

// slack is how far apart the two times of an ordinary entry are at most; those of
// others are in the index events_odd.
const slack = int64(time.Second / time.Microsecond)

// firstPlace is a place such that nothing before it occurred at or after a time.
// An index on time would not help: its order is not that of the book. But entries
// are recorded in the order of the book within a log, shortly after they occurred,
// so the place is found by halving; the odd ones are looked up.
func firstPlace(ctx context.Context, tx *sql.Tx, since time.Time) (int64, error) {
	t := ceilMicros(since)
	first := int64(1) << 62
	err := eachLog(ctx, tx, func(begin, end int64) error {
		p, err := halve(ctx, tx, begin, end, t-slack-1)
		if p < end {
			first = min(first, p)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var odd sql.NullInt64
	err = tx.QueryRowContext(ctx, "SELECT min(pos) FROM events INDEXED BY events_odd WHERE abs(rec - ts) > 1000000 AND ts >= ?", t).Scan(&odd)
	if odd.Valid {
		first = min(first, odd.Int64)
	}
	return first, err
}

// lastPlace is a place such that nothing behind it occurred before a time.
func lastPlace(ctx context.Context, tx *sql.Tx, until time.Time) (int64, error) {
	t := ceilMicros(until)
	last := int64(-1)
	err := eachLog(ctx, tx, func(begin, end int64) error {
		p, err := halve(ctx, tx, begin, end, t+slack)
		if p > begin {
			last = max(last, p-1)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var odd sql.NullInt64
	err = tx.QueryRowContext(ctx, "SELECT max(pos) FROM events INDEXED BY events_odd WHERE abs(rec - ts) > 1000000 AND ts < ?", t).Scan(&odd)
	if odd.Valid {
		last = max(last, odd.Int64)
	}
	return last, err
}

// eachLog calls f with the range of places of every log.
func eachLog(ctx context.Context, tx *sql.Tx, f func(begin, end int64) error) error {
	ranges, err := logRanges(ctx, tx)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		if err := f(r[0], r[1]); err != nil {
			return err
		}
	}
	return nil
}

// logRanges reads the range of places of every log, in order.
func logRanges(ctx context.Context, tx *sql.Tx) ([][2]int64, error) {
	rows, err := tx.QueryContext(ctx, "SELECT place, next FROM logs ORDER BY place")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ranges [][2]int64
	for rows.Next() {
		var place, next int64
		if err := rows.Scan(&place, &next); err != nil {
			return nil, err
		}
		ranges = append(ranges, [2]int64{place * logWidth, place*logWidth + next})
	}
	return ranges, rows.Err()
}

// halve is the first place in [begin, end) that was recorded after t; end if none
// was.
func halve(ctx context.Context, tx *sql.Tx, begin, end, t int64) (int64, error) {
	at, err := tx.PrepareContext(ctx, "SELECT rec FROM events WHERE pos = ?")
	if err != nil {
		return begin, err
	}
	defer at.Close()
	for begin < end {
		mid := begin + (end-begin)/2
		var rec int64
		if err := at.QueryRowContext(ctx, mid).Scan(&rec); err != nil {
			return begin, err
		}
		if rec > t {
			end = mid
		} else {
			begin = mid + 1
		}
	}
	return begin, nil
}
