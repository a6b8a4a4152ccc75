package evidence_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook/archive/sqlite"
	"github.com/guardbook/guardbook/evidence"
	"github.com/guardbook/guardbook/evidence/verify"
)

func TestRowsAreTiedToTheArchivesOwnCount(t *testing.T) {
	s := newScenario(t)
	s.play()
	a, err := sqlite.Open(t.Context(), filepath.Join(s.data, "archive.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	entries, err := s.book.Read(t.Context(), 0, int(s.book.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	dir := s.build(func(o *evidence.Options) { o.Archive = evidence.FromArchive(a) })
	if r := check(t, s, dir); r.ExitCode != verify.ExitIncomplete {
		t.Errorf("exit %d: %v", r.ExitCode, r.Problems)
	}
	for _, r := range table(t, dir, "00-summary/exceptions.csv") {
		if r["check"] == "IPE-01" && strings.Contains(r["object"], "archive") {
			t.Errorf("a count differs: %v", r)
		}
	}
	b := tree(t, dir)["CC7.2/population.ipe.json"]
	if !strings.Contains(b, "archive, type decision") || !strings.Contains(b, "(SQL)") {
		t.Error("the description of CC7.2 does not tie the rows to the archive")
	}
}

// short counts one decision fewer than there are.
type short struct{ counts map[string]int64 }

func (c short) CountEntries(context.Context, time.Time, time.Time, string, int64) (map[string]int64, error) {
	return c.counts, nil
}

func TestAnArchiveThatLacksEntriesIsFound(t *testing.T) {
	s := newScenario(t)
	s.play()
	rows := int64(len(table(t, s.build(nil), "CC7.2/population.csv")))
	dir := s.build(func(o *evidence.Options) { o.Archive = short{map[string]int64{"decision": rows - 1}} })
	for _, r := range table(t, dir, "00-summary/exceptions.csv") {
		if r["check"] == "IPE-01" && r["object"] == "archive, type decision" && r["count"] == "1" {
			return
		}
	}
	t.Error("no exception says that the archive lacks a decision")
}
