package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// ipe writes the description of each population: how it was made, and what shows
// that it is complete and accurate.
func (b *builder) ipe(ctx context.Context, now time.Time, rerun derive.Hashes) error {
	var ranges []layout.IPERange
	var ids []string
	for _, l := range b.logs {
		ranges = append(ranges, layout.IPERange{Log: l.Origin, FirstSeq: 0, LastSeq: l.size - 1, Size: l.size, Root: rootText(l.root)})
		ids = append(ids, l.Origin)
	}
	counts, err := b.rawCounts(ctx)
	if err != nil {
		return err
	}
	for _, p := range b.facts.Populations {
		var rows int64
		files := map[string]string{}
		for _, name := range p.Files {
			n, err := b.countRows(name)
			if err != nil {
				return err
			}
			rows += n
			files[name] = b.f.files[name].SHA256
		}
		files[p.JSONL] = b.f.files[p.JSONL].SHA256
		raw := counts[p.ID]
		if rows != p.Rows || raw != p.Rows || p.Counted != p.Rows {
			return fmt.Errorf("population %s: %d rows written, %d in the CSV, %d by the first pass, %d in the raw log: the listing cannot be trusted", p.ID, p.Rows, rows, p.Counted, raw)
		}
		ties := []derive.TieOut{
			{Name: "rows", PathA: "records of the CSV files, read back", CountA: rows, PathB: "entries of the raw log that the query selects, counted by another program path", CountB: raw, Delta: rows - raw},
			{Name: "rows, first pass", PathA: "records of the CSV files, read back", CountA: rows, PathB: "counted while the log was folded, before a row was written", CountB: p.Counted, Delta: rows - p.Counted},
		}
		for _, t := range b.facts.TieOuts {
			if t.Population == p.ID || t.Population == "" {
				ties = append(ties, t)
			}
		}
		limits := p.Limits
		if b.o.Archive == nil {
			limits = append(limits, "The archive was not asked for a count of its own.")
		}
		again := map[string]string{}
		for name := range files {
			again[name] = rerun[name]
		}
		sum := sha256.Sum256([]byte(p.Query))
		d := layout.IPE{
			PopulationID: p.ID, Title: p.Title, ControlIDs: []string{p.ID},
			Source: layout.IPESource{System: "Guardbook", Instance: notNil(b.facts.Instances), DB: "book (append-only journal; RFC 6962 tree)", LogID: ids, Environment: b.o.Environment},
			Query: layout.IPEQuery{Text: p.Query, Language: "selection over the members of entries", SHA256: hex.EncodeToString(sum[:]), Version: b.o.Tool.Version, Builtin: true,
				Parameters: map[string]string{"from": b.o.From.Format(time.RFC3339Nano), "to": b.o.To.Format(time.RFC3339Nano)}},
			Window: layout.IPEWindow{Start: b.o.From.Format(time.RFC3339Nano), End: b.o.To.Format(time.RFC3339Nano), Basis: "occurred_at", HalfOpen: true, TZ: "UTC"},
			Extracted: layout.IPEExtracted{At: now.Format(time.RFC3339), By: b.o.By, Role: b.o.Role, AuthMethod: b.o.AuthMethod, Host: b.o.Host,
				ToolVersion: b.o.Tool.Version, Commit: b.o.Tool.Commit, Dirty: b.o.Tool.Dirty, CommandLine: b.o.CommandLine},
			RowCount: p.Rows, FileSHA256: files, CountByDay: p.Days, Exclusions: p.Excluded, Late: p.Late, TieOuts: ties, LogRange: ranges,
			Rerun:       layout.IPERerun{At: now.Format(time.RFC3339), RowCount: p.Rows, SHA256: again, Equal: same(files, again)},
			Limitations: limits, Screenshots: []string{},
		}
		if d.CountByDay == nil {
			d.CountByDay = []derive.DayCount{}
		}
		if p.Rows > 0 {
			d.MinRow, d.MaxRow = &p.First, &p.Last
		}
		if err := b.f.describe(p.ID+"/population.ipe.json", d); err != nil {
			return err
		}
	}
	return nil
}
