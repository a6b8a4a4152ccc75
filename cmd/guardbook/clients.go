package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/clients"
)

func newClients(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "clients",
		Short: "List the processes of SDKs and which of their numbers never arrived",
		Long: "List the processes of SDKs and which of their numbers never arrived.\n\n" +
			"Every process numbers what it asks. A number that turned up neither as a decision nor in a later report is a gap: something the\n" +
			"agent did that the book does not know. Exit code 1 when there is one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct {
				Clients []clients.Client `json:"clients"`
			}
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/clients", nil, &answer); err != nil {
				return err
			}
			var rows [][]string
			gaps := false
			for _, x := range answer.Clients {
				gaps = gaps || len(x.Missing) > 0
				if c.json {
					if err := c.printJSON(x); err != nil {
						return err
					}
					continue
				}
				rows = append(rows, []string{x.Agent, x.Client, fmt.Sprint(x.Highest), fmt.Sprint(x.Seen), missing(x.Missing), told(x.Events), x.Last})
			}
			if !c.json {
				if err := c.table([]string{"AGENT", "CLIENT", "HIGHEST", "SEEN", "MISSING", "TOLD LATER", "LAST SEEN"}, rows); err != nil {
					return err
				}
			}
			if gaps {
				return exitFinding
			}
			return nil
		},
	}
}

// missing shows the first runs of numbers that are missing.
func missing(runs []clients.Missing) string {
	if len(runs) == 0 {
		return "none"
	}
	var parts []string
	for i, r := range runs {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more", len(runs)-i))
			break
		}
		if r.First == r.Last {
			parts = append(parts, fmt.Sprint(r.First))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
	}
	return strings.Join(parts, ", ")
}

func told(events map[string]int64) string {
	var parts []string
	for _, name := range []string{"unguarded", "refused", "unanswered", "degraded", "dropped", "gap"} {
		if n := events[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	return strings.Join(parts, ", ")
}
