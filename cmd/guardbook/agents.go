package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newAgents(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "Register agents and manage their keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAgentsCreate(c), newAgentsList(c), newAgentsRotate(c), newAgentsRemove(c))
	return cmd
}

// agentKey is the server's answer that holds a key.
type agentKey struct {
	Agent string `json:"agent"`
	Key   string `json:"key"`
}

func newAgentsCreate(c *cli) *cobra.Command {
	var owner, purpose string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Register an agent and print its key, once",
		Example: "  guardbook agents create billing-bot --owner payments@example.com --purpose \"answers questions about bills\"\n" +
			"  export GUARDBOOK_KEY=$(guardbook agents create billing-bot --json | jq -r .key)",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var made agentKey
			body := map[string]string{"name": args[0], "owner": owner, "purpose": purpose}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/agents", body, &made); err != nil {
				return err
			}
			return c.printKey(made, "Agent "+made.Agent+" is registered.", true)
		},
	}
	cmd.Flags().StringVar(&owner, "owner", "", "who answers for the agent; often an e-mail address")
	cmd.Flags().StringVar(&purpose, "purpose", "", "what the agent is for")
	return cmd
}

func newAgentsRotate(c *cli) *cobra.Command {
	var overlap string
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give an agent a new key; the old one stops",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]string{}
			if overlap != "" {
				body["overlap"] = overlap
			}
			var made agentKey
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/agents/"+url.PathEscape(args[0])+"/rotate", body, &made); err != nil {
				return err
			}
			said := "Agent " + made.Agent + " has a new key. The old one has stopped."
			if overlap != "" {
				said = "Agent " + made.Agent + " has a new key. The old one stops in " + overlap + "."
			}
			return c.printKey(made, said, false)
		},
	}
	cmd.Flags().StringVar(&overlap, "overlap", "", "let the old key work for so long (30m, 2h, 7d)")
	return cmd
}

// printKey shows a key the one time that it can be shown.
func (c *cli) printKey(k agentKey, said string, first bool) error {
	if c.json {
		return c.printJSON(k)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nIts key, which is not kept anywhere and cannot be shown again:\n\n  %s\n", printable(said), printable(k.Key))
	if first {
		base := c.serverURL() + "/k/" + k.Key
		fmt.Fprintf(&b, "\nTo guard it, set these where it runs:\n\n"+
			"  export GUARDBOOK_KEY=%s\n"+
			"  export OPENAI_BASE_URL=%s/openai/v1\n"+
			"  export ANTHROPIC_BASE_URL=%s/anthropic\n", printable(k.Key), printable(base), printable(base))
	}
	_, err := fmt.Fprint(c.out, b.String())
	return err
}

func newAgentsList(c *cli) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the register of agents",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/api/v1/agents"
			if at != "" {
				t, err := parseTime(at, time.Now())
				if err != nil {
					return usageError("--at: %s", err)
				}
				path += "?at=" + url.QueryEscape(t.Format("2006-01-02T15:04:05.999999999Z07:00"))
			}
			var answer struct {
				Agents []listedAgent `json:"agents"`
			}
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, &answer); err != nil {
				return err
			}
			if c.json {
				for _, a := range answer.Agents {
					if err := c.printJSON(a); err != nil {
						return err
					}
				}
				return nil
			}
			var rows [][]string
			for _, a := range answer.Agents {
				key := a.Key
				if a.Keyless {
					key = "none works: rotate it"
				}
				rows = append(rows, []string{a.Agent, a.Owner, a.Policy, a.Mode, key, a.LastSeen, a.Purpose})
			}
			return c.table([]string{"AGENT", "OWNER", "POLICY", "MODE", "KEY", "LAST SEEN", "PURPOSE"}, rows)
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "as the register was at a time (RFC 3339, a date, or a duration before now)")
	return cmd
}

// listedAgent is an agent as the server lists it.
type listedAgent struct {
	Agent         string           `json:"agent"`
	Tenant        string           `json:"tenant"`
	Owner         string           `json:"owner,omitzero"`
	Purpose       string           `json:"purpose,omitzero"`
	Key           string           `json:"key,omitzero"`
	Keyless       bool             `json:"keyless,omitzero"`
	Created       string           `json:"created"`
	Rotated       string           `json:"rotated,omitzero"`
	PreviousUntil string           `json:"previous_until,omitzero"`
	Policy        string           `json:"policy,omitzero"`
	Mode          string           `json:"mode,omitzero"`
	LastSeen      string           `json:"last_seen,omitzero"`
	Decisions     map[string]int64 `json:"decisions,omitzero"`
}

func newAgentsRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take an agent out of the register; its key stops at once",
		Long:  "Take an agent out of the register. Its key stops at once. What it did stays in the book.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.call(cmd.Context(), http.MethodDelete, "/api/v1/agents/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(struct {
					Agent   string `json:"agent"`
					Removed bool   `json:"removed"`
				}{args[0], true})
			}
			_, err := fmt.Fprintf(c.out, "Agent %s is removed. Its key has stopped.\n", printable(args[0]))
			return err
		},
	}
}
