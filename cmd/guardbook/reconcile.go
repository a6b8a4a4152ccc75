package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/reconcile"
)

func newReconcile(c *cli) *cobra.Command {
	var file, provider, since, until, tolerance string
	var record bool
	cmd := &cobra.Command{
		Use:   "reconcile --csv FILE",
		Short: "Compare the book's model calls with a provider's own usage export",
		Long: "Compares the model calls that are in the book with a provider's own usage export (CSV or JSON), by model and\n" +
			"day or hour. What the provider counted and the book did not went past the guard. docs/coverage.md says how to\n" +
			"read the differences, and which columns are understood.",
		Example: "  guardbook reconcile --csv usage.csv --provider openai\n" +
			"  guardbook reconcile --csv usage.csv --since 2026-11-01 --until 2026-12-01 --tolerance 1%",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			allowed, err := parseTolerance(tolerance)
			if err != nil {
				return err
			}
			export, err := c.readExport(file)
			if err != nil {
				return err
			}
			now := time.Now()
			var from, to time.Time
			if since != "" {
				if from, err = parseTime(since, now); err != nil {
					return usageError("--since: %s", err)
				}
			}
			if until != "" {
				if to, err = parseTime(until, now); err != nil {
					return usageError("--until: %s", err)
				}
			}
			export.Narrow(from, to)
			if provider == "" {
				provider = export.Provider()
			}
			if provider != reconcile.OpenAI && provider != reconcile.Anthropic {
				return usageError("--provider: say whose export it is: openai or anthropic")
			}
			counted, err := c.countCalls(cmd.Context(), provider, export)
			if err != nil {
				return err
			}
			rows := reconcile.Compare(export, counted, allowed)
			if record {
				if err := c.recordComparison(cmd.Context(), provider, tolerance, export, rows); err != nil {
					return err
				}
			}
			return c.showDifferences(rows)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "csv", "", "the provider's usage export, CSV or JSON; -: standard input")
	flags.StringVar(&provider, "provider", "", "openai (and Azure) or anthropic; known from the names of models if there are any")
	flags.StringVar(&since, "since", "", "from this time on: RFC 3339, a date, or a duration before now (24h, 7d); default: the export's first")
	flags.StringVar(&until, "until", "", "before this time, likewise; default: the export's last")
	flags.StringVar(&tolerance, "tolerance", "0", "how large a difference may be: a number, or a percentage of the larger count (1%)")
	flags.BoolVar(&record, "record", false, "write the comparison into the book, for the evidence (COV-07, COV-08)")
	return cmd
}

// recordComparison tells the server what the comparison came to.
func (c *cli) recordComparison(ctx context.Context, provider, tolerance string, e *reconcile.Export, rows []reconcile.Row) error {
	type comparison struct {
		Provider    string            `json:"provider"`
		Measure     reconcile.Measure `json:"measure"`
		Book        int64             `json:"book"`
		Counted     int64             `json:"counted"`
		Lines       int               `json:"lines"`
		Unexplained int               `json:"unexplained"`
		Tolerance   string            `json:"tolerance"`
	}
	sum := comparison{Provider: provider, Measure: e.Measure, Lines: len(rows), Unexplained: reconcile.Left(rows), Tolerance: tolerance}
	for _, r := range rows {
		sum.Book, sum.Counted = sum.Book+r.Book, sum.Counted+r.Provider
	}
	told := map[string]any{"op": "reconciled", "from": e.First.Format(time.RFC3339), "to": e.End.Format(time.RFC3339), "sha256": e.SHA256, "comparison": sum}
	return c.call(ctx, http.MethodPost, "/api/v1/evidence/record", told, nil)
}

func (c *cli) readExport(file string) (*reconcile.Export, error) {
	switch file {
	case "":
		return nil, usageError("give the provider's usage export: --csv FILE")
	case "-":
		return reconcile.ReadExport(c.in)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return reconcile.ReadExport(io.Reader(f))
}

// countCalls reads what the book knows of the export's time.
func (c *cli) countCalls(ctx context.Context, provider string, e *reconcile.Export) (*reconcile.Counted, error) {
	counted := reconcile.NewCounted(provider, e.Hourly, e.First, e.End)
	q := url.Values{"type": {strings.Join(texts(reconcile.Types), ",")},
		"since": {e.First.Add(-reconcile.Before).Format(time.RFC3339Nano)}, "until": {e.End.Add(reconcile.After).Format(time.RFC3339Nano)}}
	if err := c.everyEvent(ctx, q, counted.Add); err != nil {
		return nil, err
	}
	if counted.Heartbeats() == 0 {
		return nil, fmt.Errorf("the book has no heartbeat between %s and %s, so there is nothing to compare with", e.First.Format(time.RFC3339), e.End.Format(time.RFC3339))
	}
	return counted, nil
}

// showDifferences prints the rows; exit code 1 when one is not explained.
func (c *cli) showDifferences(rows []reconcile.Row) error {
	left := reconcile.Left(rows)
	if c.json {
		for _, r := range rows {
			if err := c.printJSON(r); err != nil {
				return err
			}
		}
	} else {
		cells := make([][]string, len(rows))
		var book, provider int64
		for i, r := range rows {
			book, provider = book+r.Book, provider+r.Provider
			cells[i] = []string{r.Bucket, r.Model, string(r.Measure), fmt.Sprint(r.Book), fmt.Sprint(r.Provider), fmt.Sprintf("%+d", r.Delta), r.Status, r.Note}
		}
		if err := c.table([]string{"TIME", "MODEL", "MEASURE", "BOOK", "PROVIDER", "DELTA", "STATUS", "NOTE"}, cells); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%d in the book, %d at the provider; %d of %d lines differ without an explanation.\n", book, provider, left, len(rows))
	}
	if left > 0 {
		return exitFinding
	}
	return nil
}

// parseTolerance reads "5" or "1%".
func parseTolerance(s string) (reconcile.Tolerance, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(p, 64)
		if err == nil && f >= 0 && f <= 100 {
			return reconcile.Tolerance{Share: f / 100}, nil
		}
	} else if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return reconcile.Tolerance{Absolute: n}, nil
	}
	return reconcile.Tolerance{}, errors.New("--tolerance: give a number (5) or a percentage (1%)")
}
