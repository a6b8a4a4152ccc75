package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release; the build stamps it (see the Makefile).
var version = "0.1.0-dev"

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the toolchain",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			commit, dirty := "unknown", false
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						commit = s.Value
					case "vcs.modified":
						dirty = s.Value == "true"
					}
				}
			}
			if c.json {
				return c.printJSON(struct {
					Version string `json:"version"`
					Commit  string `json:"commit"`
					Dirty   bool   `json:"dirty"`
					Go      string `json:"go"`
				}{version, commit, dirty, runtime.Version()})
			}
			_, err := fmt.Fprintf(c.out, "guardbook %s (commit %s, %s %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
