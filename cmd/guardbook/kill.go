package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/respond"
)

const scopes = "SCOPE is NAME (an agent), session:ID, tool:NAME or tenant:NAME."

func newKill(c *cli) *cobra.Command {
	var reason, during string
	cmd := &cobra.Command{
		Use:   "kill SCOPE --reason TEXT [--for DURATION]",
		Short: "Stop an agent, a session, a tool or a tenant, now: new calls and running streams",
		Long:  "Stop an agent, a session, a tool or a tenant, now: new calls and running streams.\n" + scopes,
		Example: "  guardbook kill billing-bot --reason \"sends data out\"\n" +
			"  guardbook kill tool:send_email --reason \"waits for a fix\" --for 2h",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]string{"scope": args[0], "reason": reason}
			if err := checkKill(args[0], reason, during); err != nil {
				return err
			}
			if during != "" {
				body["for"] = during
			}
			var done struct {
				Entry       string `json:"entry"`
				Scope       string `json:"scope"`
				EffectiveAt string `json:"effective_at"`
				Until       string `json:"until,omitzero"`
			}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/kill", body, &done); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(done)
			}
			until := "until it is lifted"
			if done.Until != "" {
				until = "until " + done.Until
			}
			_, err := fmt.Fprintln(c.out, printable(fmt.Sprintf("%s is contained since %s, %s (entry %s).", done.Scope, done.EffectiveAt, until, done.Entry)))
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; goes into the book (required)")
	cmd.Flags().StringVar(&during, "for", "", "how long (30m, 2h, 7d); default: until it is lifted")
	return cmd
}

func newLift(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "lift SCOPE --reason TEXT",
		Short:   "End what kill began",
		Long:    "End what kill began.\n" + scopes,
		Example: "  guardbook lift billing-bot --reason \"the prompt was mended\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkKill(args[0], reason, ""); err != nil {
				return err
			}
			var done struct {
				Entry   string `json:"entry"`
				Scope   string `json:"scope"`
				Refused int64  `json:"refused"`
				Cut     int64  `json:"cut"`
			}
			body := map[string]string{"scope": args[0], "reason": reason}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/lift", body, &done); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(done)
			}
			_, err := fmt.Fprintln(c.out, printable(fmt.Sprintf("%s is no longer contained; meanwhile %s and %s (entry %s).", done.Scope,
				howMany(done.Refused, "attempt was refused", "attempts were refused"), howMany(done.Cut, "stream was cut", "streams were cut"), done.Entry)))
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; goes into the book (required)")
	return cmd
}

// checkKill finds wrong usage before the server is asked.
func checkKill(scope, reason, during string) error {
	if _, err := respond.ParseScope(scope); err != nil {
		return usageError("%s", err)
	}
	if strings.TrimSpace(reason) == "" {
		return usageError("say why: --reason TEXT is required, and goes into the book")
	}
	if during == "" {
		return nil
	}
	if d, err := parseDuration(during); err != nil || d <= 0 {
		return usageError("--for %q is no duration: use 30m, 2h or 7d, or leave it out to contain until it is lifted", during)
	}
	return nil
}

// howMany writes a number with the right form of its noun.
func howMany(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
