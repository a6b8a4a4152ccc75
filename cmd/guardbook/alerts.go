package main

import (
	"cmp"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

func newAlerts(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "See, claim and close alerts",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAlertsList(c), newAlertsShow(c), newAlertsAck(c), newAlertsAssign(c), newAlertsClose(c))
	return cmd
}

func newAlertsList(c *cli) *cobra.Command {
	var state, agent, class, severity string
	states := append(texts(respond.States), "all")
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List alerts, the newest first; without --state those that are not closed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for _, p := range []struct {
				name, value string
				allowed     []string
			}{{"state", state, states}, {"agent", agent, nil}, {"class", class, texts(guardbook.Classes)}, {"severity", severity, guardbook.SeverityNames()}} {
				if p.value == "" {
					continue
				}
				if p.allowed != nil && !slices.Contains(p.allowed, p.value) {
					return usageError("--%s %q is not known: use %s", p.name, p.value, strings.Join(p.allowed, ", "))
				}
				if p.value != "all" || p.name != "state" {
					q.Set(p.name, p.value)
				}
			}
			return c.listAlerts(cmd.Context(), q, state == "")
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "in this state: "+strings.Join(states, ", "))
	cmd.Flags().StringVar(&agent, "agent", "", "of this agent")
	cmd.Flags().StringVar(&class, "class", "", "of this class: "+strings.Join(texts(guardbook.Classes), ", "))
	cmd.Flags().StringVar(&severity, "severity", "", "of this severity or above: "+strings.Join(guardbook.SeverityNames(), ", "))
	return cmd
}

func (c *cli) listAlerts(ctx context.Context, q url.Values, notClosed bool) error {
	var got struct {
		Alerts []jsontext.Value `json:"alerts"`
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/alerts?"+q.Encode(), nil, &got); err != nil {
		return err
	}
	var rows [][]string
	for _, raw := range got.Alerts {
		var a respond.Alert
		if err := json.Unmarshal(raw, &a); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if notClosed && a.State == respond.StateClosed {
			continue
		}
		if c.json {
			if _, err := fmt.Fprintf(c.out, "%s\n", raw); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{a.ID, clock(a.Opened), a.Severity.String(), string(a.State), dash(a.Owner), fmt.Sprint(a.Count), a.Delivery, a.Title})
	}
	if c.json {
		return nil
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(c.out, "No alerts.")
		return err
	}
	return c.table([]string{"ALERT", "OPENED", "SEVERITY", "STATE", "OWNER", "COUNT", "DELIVERY", "TITLE"}, rows)
}

func newAlertsShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show ALERT",
		Short: "Show an alert with every step and every attempt to deliver it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var raw jsontext.Value
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/alerts/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			if c.json {
				_, err := fmt.Fprintf(c.out, "%s\n", raw)
				return err
			}
			var a respond.Alert
			if err := json.Unmarshal(raw, &a); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			return c.showAlert(&a)
		},
	}
}

func (c *cli) showAlert(a *respond.Alert) error {
	facts := [][2]string{
		{"alert", a.ID}, {"title", a.Title}, {"state", string(a.State)}, {"severity", a.Severity.String()}, {"owner", a.Owner},
		{"agent", a.Agent}, {"session", a.Session}, {"class", string(a.Class)}, {"rule", a.Rule}, {"count", fmt.Sprint(a.Count)},
		{"opened", clock(a.Opened)}, {"newest event", a.Event}, {"receiver", a.Receiver + " (" + a.Delivery + ")"},
		{"policy", a.Facts.Policy}, {"decision", string(a.Facts.Decision)}, {"closed as", a.Disposition}, {"comment", a.Comment}, {"reopens", a.Reopens},
	}
	for _, r := range facts {
		if r[1] != "" {
			fmt.Fprintf(c.out, "%-13s %s\n", r[0], printable(r[1]))
		}
	}
	for _, f := range a.Facts.Findings {
		fmt.Fprintf(c.out, "%-13s %s\n", "finding", printable(fmt.Sprintf("%s, %s, %.2f, %s %s %q", f.Class, f.Severity, f.Confidence, f.Layer, f.Rule, f.Excerpt)))
	}
	fmt.Fprintln(c.out)
	type step struct {
		seq int64
		row []string
	}
	var steps []step
	for _, s := range a.Steps {
		steps = append(steps, step{s.Seq, []string{clock(s.Time), fmt.Sprint(s.Seq), s.Op, dash(s.By), stepText(s)}})
	}
	for _, n := range a.Notifications {
		text := fmt.Sprintf("attempt %d to %s, %d µs", n.Attempt, n.Receiver, n.Micros)
		if n.Status != 0 {
			text += fmt.Sprintf(", status %d", n.Status)
		}
		if n.Error != "" {
			text += ": " + n.Error
		}
		steps = append(steps, step{n.Seq, []string{clock(n.Time), fmt.Sprint(n.Seq), n.Outcome, "-", text}})
	}
	slices.SortFunc(steps, func(x, y step) int { return cmp.Compare(x.seq, y.seq) })
	rows := make([][]string, len(steps))
	for i, s := range steps {
		rows[i] = s.row
	}
	return c.table([]string{"TIME", "SEQ", "STEP", "BY", "WHAT"}, rows)
}

func stepText(s respond.Step) string {
	var parts []string
	if s.Count > 0 {
		parts = append(parts, howMany(s.Count, "event", "events"))
	}
	if s.Owner != "" {
		parts = append(parts, "owner "+s.Owner)
	}
	if s.Disposition != "" {
		parts = append(parts, s.Disposition)
	}
	if s.Comment != "" {
		parts = append(parts, s.Comment)
	}
	return dash(strings.Join(parts, ", "))
}

func newAlertsAck(c *cli) *cobra.Command {
	var comment string
	cmd := &cobra.Command{
		Use:   "ack ALERT",
		Short: "Claim an alert: it is yours from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.alertStep(cmd.Context(), args[0], "ack", map[string]string{"comment": comment})
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "goes into the book")
	return cmd
}

func newAlertsAssign(c *cli) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "assign ALERT --to OWNER",
		Short: "Give an alert to somebody",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError("say to whom: --to OWNER is required")
			}
			return c.alertStep(cmd.Context(), args[0], "assign", map[string]string{"owner": to})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "who owns it from now on (required)")
	return cmd
}

func newAlertsClose(c *cli) *cobra.Command {
	var as, comment string
	cmd := &cobra.Command{
		Use:     "close ALERT --as DISPOSITION --comment TEXT",
		Short:   "Say what an alert was, and close it",
		Example: "  guardbook alerts close 0198f0c0-0000-7000-8000-000000000001 --as true_positive --comment \"key rotated, agent patched\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(respond.Dispositions, as) {
				return usageError("--as %q is no disposition: use %s", as, strings.Join(respond.Dispositions, ", "))
			}
			if strings.TrimSpace(comment) == "" {
				return usageError("say what was found and done: --comment TEXT is required, and goes into the book")
			}
			return c.alertStep(cmd.Context(), args[0], "close", map[string]string{"disposition": as, "comment": comment})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "what it was: "+strings.Join(respond.Dispositions, ", ")+" (required)")
	cmd.Flags().StringVar(&comment, "comment", "", "what was found and done (required)")
	return cmd
}

// alertStep does one step and prints how the alert stands then.
func (c *cli) alertStep(ctx context.Context, id, step string, body map[string]string) error {
	var raw jsontext.Value
	if err := c.call(ctx, http.MethodPost, "/api/v1/alerts/"+url.PathEscape(id)+"/"+step, body, &raw); err != nil {
		return err
	}
	if c.json {
		_, err := fmt.Fprintf(c.out, "%s\n", raw)
		return err
	}
	var a respond.Alert
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	_, err := fmt.Fprintln(c.out, printable(fmt.Sprintf("Alert %s is %s, owner %s.", a.ID, a.State, dash(a.Owner))))
	return err
}
