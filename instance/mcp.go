package instance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/canary"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
	"github.com/guardbook/guardbook/gateway/mcp/stdio"
	"github.com/guardbook/guardbook/gateway/mcp/streamable"
)

// MCPServer is an MCP server that is reached through /mcp/NAME.
type MCPServer struct {
	URL     string            `yaml:"url"`
	Headers map[string]string `yaml:"headers"` // secret: a server's credentials are here
}

// mcpParts are what guards MCP servers.
type mcpParts struct {
	pins *pin.Store
	http *streamable.Handler
	link *stdio.Door
}

// openPins folds the pins of tools out of the book.
func (i *Instance) openPins(ctx context.Context) error {
	texts, err := pin.OpenTexts(filepath.Join(i.cfg.Data, "mcp", "definitions"), i.log)
	if err != nil {
		return err
	}
	i.mcp.pins = pin.NewStore(pin.Options{
		Recorder: recorder{i.book}, Texts: texts, Log: i.log,
		Mode: func(agent string) guardbook.Mode {
			if p := i.guard.Policy(agent); p != nil {
				return p.Mode
			}
			return guardbook.ModeEnforce
		},
		Receiver: func(agent string, s guardbook.Severity) string {
			if p := i.guard.Policy(agent); p != nil {
				if to, ok := p.Alert(s); ok {
					return to
				}
			}
			return "default"
		},
	})
	return i.history(ctx, []guardbook.EntryType{guardbook.TypeTool}, time.Time{}, i.mcp.pins.Apply)
}

// serveMCP opens the doors to MCP servers. doors are those that a key in the path may
// lead to.
func (i *Instance) serveMCP(mux *http.ServeMux, doors map[string]http.Handler) error {
	servers := map[string]streamable.Upstream{}
	for name, s := range i.cfg.MCPServers {
		servers[name] = streamable.Upstream{URL: s.URL, Headers: s.Headers}
	}
	h, err := streamable.New(streamable.Options{
		Gateway: i.gateway, Servers: servers, Log: i.log, Stopping: i.stopping, Canary: canary.Upstream(),
		Keeper: func(tenant string) mcp.Keeper {
			return &mcp.Local{Guard: i.gateway.Guard(), Pins: i.mcp.pins, Tenant: tenant, Log: i.log}
		},
	})
	if err != nil {
		return err
	}
	i.mcp.http, i.mcp.link = h, stdio.NewDoor(i.gateway, i.mcp.pins, i.log)
	doors["/mcp/"] = h
	mux.Handle(streamable.MetadataPath, h)
	// Where MCP clients look for a login there is none, and not the dashboard's page.
	mux.Handle("/.well-known/", http.NotFoundHandler())
	mux.Handle("/mcp-stdio/", i.mcp.link)
	return nil
}

// closeMCP ends the links of wrapped servers, of which the HTTP server does not know.
func (i *Instance) closeMCP() {
	if i.mcp.link != nil {
		i.mcp.link.Close()
	}
	if i.mcp.http != nil {
		i.mcp.http.Close()
	}
}

func checkMCPServers(servers map[string]MCPServer) error {
	for name, s := range servers {
		if _, err := streamable.CheckServer(name, streamable.Upstream{URL: s.URL, Headers: s.Headers}); err != nil {
			return fmt.Errorf("mcp_servers: %w", err)
		}
	}
	return nil
}

// shownMCPServers lists the servers for --print-config: the hosts, and the names of
// the headers.
func shownMCPServers(servers map[string]MCPServer) []Shown {
	var out []Shown
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		s := servers[name]
		out = append(out, Shown{"mcp_servers." + name, withoutPath(s.URL), "file"})
		if len(s.Headers) > 0 {
			out = append(out, Shown{"mcp_servers." + name + ".headers", strings.Join(slices.Sorted(maps.Keys(s.Headers)), ", ") + ": <hidden>", "file"})
		}
	}
	return out
}
