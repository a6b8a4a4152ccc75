package main

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/gateway/mcp/stdio"
	"github.com/guardbook/guardbook/local"
)

func newMCP(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Guard MCP servers: wrap one that an agent starts, look after pinned tools",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMCPWrap(c))
	cmd.AddCommand(newMCPTools(c)...)
	return cmd
}

func newMCPWrap(c *cli) *cobra.Command {
	var o stdio.Options
	var agent, unavailable string
	cmd := &cobra.Command{
		Use:   "wrap --server NAME [--agent NAME] -- COMMAND [ARG...]",
		Short: "Start an MCP server and guard what goes in and out of it",
		Long: "Start an MCP server and guard what goes in and out of it: put this in the place of the server's own command.\n\n" +
			"Every message is decided on by the server at GUARDBOOK_URL, for the agent whose key is GUARDBOOK_KEY; without them, by this user's\n" +
			"own server, which is started when it does not run, for the agent of --agent (default mcp-NAME). While the server cannot be reached,\n" +
			"no tool is called and none is listed; --on-unavailable says what becomes of everything else. Standard output carries the protocol\n" +
			"and nothing else; the exit code is the MCP server's.",
		Example: "  guardbook mcp wrap --server files -- npx -y @modelcontextprotocol/server-filesystem /srv/files",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !stdio.ServerName(o.Server) {
				return usageError("name the MCP server: --server NAME, 1 to 64 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
			}
			switch o.Unavailable = stdio.Unavailable(unavailable); o.Unavailable {
			case stdio.Block, stdio.Allow:
			default:
				return usageError("--on-unavailable is block or allow, not %q", unavailable)
			}
			find, spool, err := c.mcpAddress(firstOf(agent, os.Getenv("GUARDBOOK_AGENT"), "mcp-"+plainName(o.Server)), agent != "")
			if err != nil {
				return err
			}
			o.Spool = spool
			o.Command, o.Find, o.In, o.Out, o.Err = args, find, c.in, c.out, newStderr(c.err)
			o.Session = firstOf(o.Session, os.Getenv("GUARDBOOK_SESSION"))
			// Not this command's context: the signals that end it are the MCP server's first.
			code, err := stdio.Wrap(context.WithoutCancel(cmd.Context()), o)
			if err != nil {
				return err
			}
			if code != 0 {
				return exit(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Server, "server", "", "name of the MCP server, as policies call it")
	cmd.Flags().StringVar(&agent, "agent", "", "name of the agent on this user's own server (GUARDBOOK_AGENT; default mcp-NAME)")
	cmd.Flags().StringVar(&o.Session, "session", "", "id of the agent's run or conversation (GUARDBOOK_SESSION; default: one for each start)")
	cmd.Flags().StringVar(&unavailable, "on-unavailable", string(stdio.Block), "what becomes of everything but tools while the server cannot be reached: block, allow")
	cmd.Flags().DurationVar(&o.Budget, "budget", 5*time.Second, "how long a decision may take before it counts as unavailable")
	return cmd
}

// plainName is a server's name as a part of an agent's.
func plainName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-")
}

// mcpAddress says where a wrapper's decisions are made: at the server that the
// environment names, else at this user's own one; and where on disk it keeps what that
// server could not be told.
func (c *cli) mcpAddress(agent string, named bool) (func(context.Context) (stdio.Address, error), client.SpoolOptions, error) {
	data := c.data
	if data == "" {
		dir, err := local.DefaultData()
		if err != nil {
			return nil, client.SpoolOptions{}, err
		}
		data = dir
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, client.SpoolOptions{}, err
	}
	spool := client.SpoolOptions{Dir: filepath.Join(data, "spool"), Agent: agent, Data: data}
	if at := firstOf(c.url, os.Getenv("GUARDBOOK_URL")); at != "" {
		key := os.Getenv("GUARDBOOK_KEY")
		if key == "" {
			return nil, spool, usageError("GUARDBOOK_KEY is not set: the server at %s takes an agent's key; `guardbook agents create NAME` makes one", at)
		}
		if named {
			return nil, spool, usageError("--agent names an agent of this user's own server; at %s, the key says which agent it is", at)
		}
		spool.Agent, spool.URL, spool.Key = "", at, key
		return func(context.Context) (stdio.Address, error) { return stdio.Address{URL: at, Key: key}, nil }, spool, nil
	}
	if err := access.CheckAgentName(agent); err != nil {
		return nil, spool, err
	}
	return func(ctx context.Context) (stdio.Address, error) {
		var out bytes.Buffer
		own := &cli{in: strings.NewReader(""), out: &out, err: io.Discard, json: true, data: data}
		if err := own.local(ctx, agent); err != nil {
			return stdio.Address{}, err
		}
		var s localServer
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			return stdio.Address{}, fmt.Errorf("find this user's own server: %w", err)
		}
		if s.Started { // not with the link that logs in: the agent may read what a server logs
			fmt.Fprintf(c.err, "guardbook: started for %s; `guardbook login-link --data %s --url %s` opens its dashboard\n", printable(s.Data), printable(s.Data), s.URL)
		}
		return stdio.Address{URL: s.URL, Key: s.Key}, nil
	}, spool, nil
}

// stderr is where the MCP server's own words go. A terminal gets them escaped, since
// they may hold anything; a file or a pipe gets them as they are.
type stderr struct {
	w        io.Writer
	terminal bool
}

func newStderr(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return w
	}
	info, err := f.Stat()
	return &stderr{w, err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// Write implements io.Writer.
func (s *stderr) Write(b []byte) (int, error) {
	if !s.terminal {
		return s.w.Write(b)
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		cells := strings.Split(strings.TrimSuffix(line, "\r"), "\t")
		for j, cell := range cells {
			cells[j] = printable(cell)
		}
		lines[i] = strings.Join(cells, "\t")
	}
	if _, err := io.WriteString(s.w, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(b), nil
}
