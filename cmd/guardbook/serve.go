package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/pprof"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/instance"
)

func newServe(c *cli) *cobra.Command {
	given := map[string]*string{}
	var file, cpuProfile string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: gateway, guard, book, dashboard",
		Long: "Run the server: gateway, guard, book, dashboard.\n\n" +
			"Settings come from flags, then the environment (GUARDBOOK_ and the flag's name in capitals, - as _), then the config\n" +
			"file (YAML; - as _), then the defaults. Secrets are taken from the environment or the file only:\n" +
			"OPENAI_API_KEY, ANTHROPIC_API_KEY, GUARDBOOK_WEBHOOK_SECRET.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]string{"data": c.data}
			for name, v := range given {
				flags[name] = *v
			}
			cfg, err := instance.Load(flags, os.Getenv, firstOf(file, os.Getenv("GUARDBOOK_CONFIG")))
			if err != nil {
				return err
			}
			if printConfig {
				return c.showConfig(cfg)
			}
			stop, err := profileCPU(cpuProfile)
			if err != nil {
				return err
			}
			defer stop()
			return c.serve(cmd.Context(), cfg)
		},
	}
	for _, s := range instance.Settings() {
		if s.Name != "data" { // the root has it
			given[s.Name] = cmd.Flags().String(s.Name, "", describe(s))
		}
	}
	cmd.Flags().StringVar(&file, "config", "", "config file (GUARDBOOK_CONFIG)")
	cmd.Flags().StringVar(&cpuProfile, "cpu-profile", "", "write a CPU profile of the whole run to this file (pprof)")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "show every setting and where its value came from, and end")
	return cmd
}

// profileCPU profiles until stop is called; without a file it does nothing.
func profileCPU(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("write the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("write the CPU profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

func describe(s instance.Setting) string {
	if s.Default == "" {
		return s.Usage
	}
	return s.Usage + " (default " + s.Default + ")"
}

func (c *cli) showConfig(cfg *instance.Config) error {
	var rows [][]string
	for _, s := range cfg.Show() {
		if c.json {
			if err := c.printJSON(s); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{s.Name, s.Value, s.Origin})
	}
	if c.json {
		return nil
	}
	return c.table([]string{"SETTING", "VALUE", "FROM"}, rows)
}

// gcPercent lets the heap grow to five times what is live before it is collected:
// the live heap is small, and each collection is time taken from requests. GOGC in
// the environment goes before it.
const gcPercent = 400

func (c *cli) serve(ctx context.Context, cfg *instance.Config) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log := slog.New(slog.NewTextHandler(c.err, nil))
	inst, err := instance.Start(ctx, cfg, tool(), log)
	if err != nil {
		return err
	}
	if inst.First() {
		link, err := inst.LoginLink(ctx)
		if err != nil {
			log.Error("no login link", "error", err)
		}
		fmt.Fprintf(c.out, `Guardbook %s

  dashboard     %s   (this link logs in once, within an hour)
  data          %s
  signing key   %s   (give %s/signing-key.pub to your auditor)

Guard a first agent:
  guardbook agents create my-agent        # prints its key, once
  export OPENAI_BASE_URL=%s/k/KEY/openai/v1        # or
  export ANTHROPIC_BASE_URL=%s/k/KEY/anthropic
`, version, link, cfg.Data, inst.Fingerprint(), cfg.Data, inst.URL(), inst.URL())
	} else {
		fmt.Fprintf(c.out, "Guardbook %s, dashboard at %s/\n", version, inst.URL())
	}
	return inst.Run(ctx)
}
