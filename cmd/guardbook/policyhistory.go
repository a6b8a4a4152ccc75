package main

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook"
)

func newPolicyAt(c *cli) *cobra.Command {
	var at, agent string
	cmd := &cobra.Command{
		Use:   "at --time T [--agent A]",
		Short: "Print which policies were in force at a point in time",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at == "" {
				return usageError("--time is missing: a point in time (2026-01-31T15:04:05Z), a date, or a duration before now (24h)")
			}
			t, err := parseTime(at, time.Now())
			if err != nil {
				return err
			}
			q := url.Values{"time": {t.Format(time.RFC3339Nano)}}
			if agent != "" {
				q.Set("agent", agent)
			}
			var raw jsontext.Value
			if err := c.call(cmd.Context(), "GET", "/api/v1/policies/at?"+q.Encode(), nil, &raw); err != nil {
				return err
			}
			return c.printPoliciesAt(raw, agent)
		},
	}
	cmd.Flags().StringVar(&at, "time", "", "the point in time")
	cmd.Flags().StringVar(&agent, "agent", "", "print the text of this agent's policy")
	return cmd
}

// policiesAt is what the server tells of the policies at a point in time.
type policiesAt struct {
	Time     string         `json:"time"`
	Entry    string         `json:"entry"` // of the load that left them in force
	Bundle   string         `json:"bundle"`
	Policies []policyAtTime `json:"policies"`
	Policy   *policyAtTime  `json:"policy,omitzero"` // the agent's
}

type policyAtTime struct {
	Policy string         `json:"policy"`
	File   string         `json:"file"`
	Owner  string         `json:"owner,omitzero"`
	Mode   guardbook.Mode `json:"mode"`
	Agents []string       `json:"agents"`
	Text   string         `json:"text"`
}

func (c *cli) printPoliciesAt(raw jsontext.Value, agent string) error {
	if c.json {
		return c.printJSON(raw)
	}
	var at policiesAt
	if err := json.Unmarshal(raw, &at); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	fmt.Fprintf(c.out, "%s: bundle %s, in force by entry %s\n", printable(at.Time), printable(at.Bundle), printable(at.Entry))
	if agent != "" {
		if at.Policy == nil {
			return refused{fmt.Errorf("no policy was for agent %q: everything that it did was blocked", agent)}
		}
		fmt.Fprintf(c.out, "policy %s (%s, %s)\n\n", printable(at.Policy.Policy), printable(at.Policy.File), printable(string(at.Policy.Mode)))
		for line := range strings.Lines(at.Policy.Text) {
			fmt.Fprintln(c.out, printable(strings.TrimRight(line, "\r\n")))
		}
		return nil
	}
	rows := make([][]string, len(at.Policies))
	for i, p := range at.Policies {
		rows[i] = []string{p.Policy, p.File, string(p.Mode), p.Owner, strings.Join(p.Agents, ", ")}
	}
	return c.table([]string{"POLICY", "FILE", "MODE", "OWNER", "AGENTS"}, rows)
}

func newPolicyHistory(c *cli) *cobra.Command {
	var since, until string
	var limit int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the attempts to load policy, the newest first",
		Long:  "Lists the attempts to load policy as the book has them, also those that were rejected, the newest first.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"type": {string(guardbook.TypePolicy)}, "order": {"desc"}, "limit": {strconv.Itoa(limit)}}
			for name, s := range map[string]string{"since": since, "until": until} {
				if s == "" {
					continue
				}
				t, err := parseTime(s, time.Now())
				if err != nil {
					return fmt.Errorf("--%s: %w", name, err)
				}
				q.Set(name, t.Format(time.RFC3339Nano))
			}
			var answer struct {
				Events []jsontext.Value `json:"events"`
			}
			if err := c.call(cmd.Context(), "GET", "/api/v1/events?"+q.Encode(), nil, &answer); err != nil {
				return err
			}
			return c.printHistory(answer.Events)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "from this time on (RFC 3339, a date, or a duration before now)")
	cmd.Flags().StringVar(&until, "until", "", "before this time")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	return cmd
}

func (c *cli) printHistory(events []jsontext.Value) error {
	var rows [][]string
	for _, raw := range events {
		if c.json {
			if err := c.printJSON(raw); err != nil {
				return err
			}
			continue
		}
		e, err := guardbook.ParseEntry(raw)
		if err != nil {
			return err
		}
		p, err := guardbook.Body[guardbook.PolicyEntry](e)
		if err != nil {
			return err
		}
		why, _, _ := strings.Cut(p.Error, "\n")
		rows = append(rows, []string{e.Rec, p.Outcome, p.Trigger, short(p.Bundle), strconv.Itoa(len(p.Policies)), e.ID, why})
	}
	if c.json {
		return nil
	}
	return c.table([]string{"RECORDED", "OUTCOME", "TRIGGER", "BUNDLE IN FORCE", "POLICIES", "ENTRY", "ERROR"}, rows)
}

// short cuts a hash for a table.
func short(hash string) string {
	if len(hash) > 19 {
		return hash[:19]
	}
	return hash
}
