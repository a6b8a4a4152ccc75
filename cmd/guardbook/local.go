package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/local"
)

// localServer is what `guardbook local` prints; SDKs read it.
type localServer struct {
	URL     string `json:"url"`
	Key     string `json:"key"`
	Agent   string `json:"agent"`
	Data    string `json:"data"`
	PID     int    `json:"pid"`
	Started bool   `json:"started"`
	// Dashboard is a link that logs in once, when the server was started just now.
	Dashboard string `json:"dashboard,omitzero"`
}

func newLocal(c *cli) *cobra.Command {
	var agent string
	var stop bool
	cmd := &cobra.Command{
		Use:   "local --agent NAME",
		Short: "Find this user's own server, or start it, and print how an agent reaches it",
		Long: "Find this user's own server, or start it, and print how an agent reaches it. SDKs use this when GUARDBOOK_URL is not set.\n\n" +
			"One server runs for a data directory, in the background, on a free port of 127.0.0.1, until `guardbook local --stop`. The agent is\n" +
			"registered when it is new. A new data directory gets the starter policy in monitor mode: nothing is stopped, everything is in the\n" +
			"book. The data directory is GUARDBOOK_DATA, or \"guardbook\" in the user's folder for data (~/.local/share on Linux).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data := c.data
			if data == "" {
				dir, err := local.DefaultData()
				if err != nil {
					return err
				}
				data = dir
			}
			data, err := filepath.Abs(data)
			if err != nil {
				return err
			}
			c.data = data
			if stop {
				return c.stopLocal(cmd.Context())
			}
			return c.local(cmd.Context(), agent)
		},
	}
	cmd.Flags().StringVar(&agent, "agent", "", "name of the agent")
	cmd.Flags().BoolVar(&stop, "stop", false, "end the server")
	return cmd
}

func (c *cli) stopLocal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ran, err := local.Stop(ctx, c.data)
	if err != nil {
		return err
	}
	if !ran {
		return refused{fmt.Errorf("no server runs for %s", c.data)}
	}
	_, err = fmt.Fprintf(c.out, "The server for %s has ended.\n", printable(c.data))
	return err
}

func (c *cli) local(ctx context.Context, agent string) error {
	if agent == "" {
		return usageError("give the agent's name: guardbook local --agent NAME")
	}
	if err := access.CheckAgentName(agent); err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program to start the server: %w", err)
	}
	s, started, err := local.Ensure(ctx, local.Options{Data: c.data, Binary: binary, Env: serverEnv()})
	if err != nil {
		return err
	}
	c.url = s.URL
	out := localServer{URL: s.URL, Agent: agent, Data: c.data, PID: s.PID, Started: started}
	if out.Key, err = c.localKey(ctx, agent); err != nil {
		return err
	}
	if started {
		var made struct {
			Token   string `json:"token"`
			Expires string `json:"expires"`
		}
		if err := c.call(ctx, http.MethodPost, "/api/v1/login/link", nil, &made); err != nil {
			return err
		}
		out.Dashboard = s.URL + "/login?once=" + made.Token
	}
	if c.json {
		return c.printJSON(out)
	}
	_, err = fmt.Fprintf(c.out, "export GUARDBOOK_URL=%s\nexport GUARDBOOK_KEY=%s\n", out.URL, out.Key)
	if err == nil && out.Dashboard != "" {
		_, err = fmt.Fprintf(c.err, "Guardbook was started for %s; its dashboard (this link logs in once): %s\n", printable(c.data), out.Dashboard)
	}
	return err
}

// serverEnv is the environment of a server that is started for a user's agents:
// settings meant for a client say nothing to it, and it forwards to whatever
// provider a client names, since agent and server are the same user's.
func serverEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "GUARDBOOK_URL", "GUARDBOOK_KEY", "GUARDBOOK_AGENT", "GUARDBOOK_LISTEN", "GUARDBOOK_DATA", "GUARDBOOK_TOKEN":
			continue
		}
		env = append(env, kv)
	}
	if os.Getenv("GUARDBOOK_CLIENT_UPSTREAMS") == "" {
		env = append(env, "GUARDBOOK_CLIENT_UPSTREAMS=any")
	}
	return env
}

// localKey returns an agent's key on this user's own server.
func (c *cli) localKey(ctx context.Context, agent string) (string, error) {
	return local.Key(ctx, c.data, agent, func(key string) (bool, error) { return c.keyWorks(ctx, key) }, func() (string, error) {
		var made agentKey
		err := c.call(ctx, http.MethodPost, "/api/v1/agents", map[string]string{"name": agent, "purpose": "made by an SDK on this machine"}, &made)
		var api *apiError
		if errors.As(err, &api) && api.Status == http.StatusConflict {
			err = c.call(ctx, http.MethodPost, "/api/v1/agents/"+url.PathEscape(agent)+"/rotate", map[string]string{"overlap": "1h"}, &made)
		}
		return made.Key, err
	})
}

// keyWorks asks the server whether it knows an agent's key.
func (c *cli) keyWorks(ctx context.Context, key string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/record", bytes.NewReader([]byte(`{"events":[]}`)))
	if err != nil {
		return false, err
	}
	req.Header.Set(gateway.HeaderKey, key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, fmt.Errorf("ask the server whether the agent's key works: %w", err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}
