package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/evidence/derive"
)

// version is the release; the build stamps it (see the Makefile).
var version = "0.1.0-dev"

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the toolchain",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			t := tool()
			if c.json {
				return c.printJSON(struct {
					Version string `json:"version"`
					Commit  string `json:"commit"`
					Dirty   bool   `json:"dirty"`
					Go      string `json:"go"`
				}{t.Version, t.Commit, t.Dirty, runtime.Version()})
			}
			_, err := fmt.Fprintf(c.out, "guardbook %s (commit %s, %s %s/%s)\n", t.Version, t.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// tool names this build for the statements in a package.
func tool() derive.Tool {
	t := derive.Tool{Version: version, Commit: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				t.Commit = s.Value
			case "vcs.modified":
				t.Dirty = s.Value == "true"
			}
		}
	}
	return t
}
