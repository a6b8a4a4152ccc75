package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func newLoginLink(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "login-link",
		Short: "Make a link that logs one operator in to the dashboard, once, within an hour",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var made struct {
				Token   string `json:"token"`
				Expires string `json:"expires"`
			}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/login/link", nil, &made); err != nil {
				return err
			}
			link := c.serverURL() + "/login?once=" + made.Token
			if c.json {
				return c.printJSON(struct {
					Link    string `json:"link"`
					Expires string `json:"expires"`
				}{link, made.Expires})
			}
			_, err := fmt.Fprintf(c.out, "%s\n", link)
			return err
		},
	}
}
