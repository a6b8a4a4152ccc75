package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/doctor"
	"github.com/guardbook/guardbook/instance"
)

func newDoctor(c *cli) *cobra.Command {
	flags := map[string]*string{}
	var file string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at a set-up and say what is wrong with it and how to mend it",
		Long: "Look at a set-up and say what is wrong with it and how to mend it. It changes nothing and needs no running server.\n" +
			"Exit code: 0 all is well, perhaps with warnings; 1 something failed; 2 the checks could not run.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := map[string]string{"data": c.data}
			for name, v := range flags {
				given[name] = *v
			}
			conf, err := instance.Load(given, os.Getenv, firstOf(file, os.Getenv("GUARDBOOK_CONFIG")))
			if err != nil {
				return err
			}
			return c.examine(cmd, conf, timeout)
		},
	}
	for _, s := range instance.Settings() {
		if s.Name != "data" { // the root has it
			flags[s.Name] = cmd.Flags().String(s.Name, "", describe(s))
		}
	}
	cmd.Flags().StringVar(&file, "config", "", "config file of the server (GUARDBOOK_CONFIG)")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for each thing that is reached over the network")
	return cmd
}

func (c *cli) examine(cmd *cobra.Command, conf *instance.Config, timeout time.Duration) error {
	setup := doctor.Setup{
		Data: conf.Data, Policies: conf.Policies, Listen: conf.Listen, URL: firstOf(c.url, os.Getenv("GUARDBOOK_URL")),
		Token: os.Getenv("GUARDBOOK_TOKEN"), Version: version, Timeout: timeout,
		Upstreams: []doctor.Target{{Name: "openai", URL: conf.OpenAIUpstream}, {Name: "anthropic", URL: conf.AnthropicUpstream}},
	}
	if setup.URL != "" && conf.Origins["listen"] == "default" {
		setup.Listen = "" // only the server's address was given: it may be on another machine
	}
	if conf.Webhook != "" {
		setup.Webhooks = append(setup.Webhooks, doctor.Target{Name: "default", URL: conf.Webhook})
	}
	for name, r := range conf.Receivers {
		setup.Webhooks = append(setup.Webhooks, doctor.Target{Name: name, URL: r.Webhook})
	}
	slices.SortFunc(setup.Webhooks, func(a, b doctor.Target) int { return strings.Compare(a.Name, b.Name) })
	results := doctor.Examine(cmd.Context(), setup)
	if err := cmd.Context().Err(); err != nil {
		return fmt.Errorf("the checks were broken off: %w", err)
	}
	if err := c.printResults(results); err != nil {
		return err
	}
	if doctor.Worst(results) == doctor.Fail {
		return exitFinding
	}
	return nil
}

func (c *cli) printResults(results []doctor.Result) error {
	if c.json {
		for _, r := range results {
			if err := c.printJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	width := 0
	for _, r := range results {
		width = max(width, len(r.Check))
	}
	var b strings.Builder
	indent := strings.Repeat(" ", width+8)
	for _, r := range results {
		// A policy's error has lines of its own, with a caret under the place.
		for i, line := range strings.Split(strings.TrimRight(r.Detail, "\n"), "\n") {
			if i == 0 {
				fmt.Fprintf(&b, "%-4s  %-*s  %s\n", r.Status, width, r.Check, printable(line))
			} else {
				fmt.Fprintf(&b, "%s%s\n", indent, printable(line))
			}
		}
		if r.Mend != "" {
			fmt.Fprintf(&b, "%s-> %s\n", indent, printable(r.Mend))
		}
	}
	switch doctor.Worst(results) {
	case doctor.OK:
		b.WriteString("\nAll is well.\n")
	case doctor.Warn:
		b.WriteString("\nNothing failed; see the warnings.\n")
	default:
		b.WriteString("\nSomething failed: see above for what to do.\n")
	}
	_, err := fmt.Fprint(c.out, b.String())
	return err
}
