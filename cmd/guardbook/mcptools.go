package main

import (
	"context"
	"encoding/json/jsontext"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// pinnedTool is a tool of an MCP server, as the API tells it.
type pinnedTool struct {
	pin.Tool
	Definition        jsontext.Value `json:"definition,omitzero"`
	OfferedDefinition jsontext.Value `json:"offered_definition,omitzero"`
}

// newMCPTools are the commands that look after pinned tools.
func newMCPTools(c *cli) []*cobra.Command {
	return []*cobra.Command{newToolList(c), newToolDiff(c), newToolJudge(c, "approve"), newToolJudge(c, "reject")}
}

func newToolList(c *cli) *cobra.Command {
	var server, state string
	cmd := &cobra.Command{
		Use:   "tools [--server NAME] [--state STATE]",
		Short: "List the tools of MCP servers: pinned, quarantined, rejected",
		Long: "List the tools of MCP servers: pinned, quarantined, rejected.\n\n" +
			"A server's first list of tools is trusted and pinned. A tool that changes or appears later is quarantined: agents neither see nor\n" +
			"call it until an operator approves it. Exit code 1 when one is.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if server != "" {
				q.Set("server", server)
			}
			if state != "" {
				q.Set("state", state)
			}
			list, err := c.pinnedTools(cmd.Context(), q)
			if err != nil {
				return err
			}
			var rows [][]string
			waiting := false
			for _, t := range list {
				waiting = waiting || t.State == pin.Quarantined
				if c.json {
					if err := c.printJSON(t); err != nil {
						return err
					}
					continue
				}
				rows = append(rows, []string{t.Server, t.Tool.Tool, string(t.State), why(t.Tool), t.Since, dash(t.By), dash(t.Agent), dash(t.Reason)})
			}
			if !c.json {
				if err := c.table([]string{"SERVER", "TOOL", "STATE", "WHY", "SINCE", "BY", "AGENT", "REASON"}, rows); err != nil {
					return err
				}
			}
			if waiting {
				return exitFinding
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "of this server only, by its configured name")
	cmd.Flags().StringVar(&state, "state", "", "in this state only: pinned, quarantined, rejected")
	return cmd
}

// why says what brought a tool into its state.
func why(t pin.Tool) string {
	switch {
	case t.Removed:
		return "removed"
	case t.State == pin.Quarantined && t.Hash == "":
		return "new"
	case t.State == pin.Quarantined:
		return "changed"
	}
	return "-"
}

func (c *cli) pinnedTools(ctx context.Context, q url.Values) ([]pinnedTool, error) {
	var answer struct {
		Tools []pinnedTool `json:"tools"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/mcp/tools?"+q.Encode(), nil, &answer)
	return answer.Tools, err
}

// pinnedTool finds one tool with its definitions.
func (c *cli) pinnedTool(ctx context.Context, server, name, identity string) (pinnedTool, error) {
	list, err := c.pinnedTools(ctx, url.Values{"server": {server}, "tool": {name}, "definitions": {"show"}})
	if err != nil {
		return pinnedTool{}, err
	}
	var found []pinnedTool
	var ids []string
	for _, t := range list {
		if identity == "" || t.Identity == identity {
			found, ids = append(found, t), append(ids, t.Identity)
		}
	}
	switch len(found) {
	case 0:
		return pinnedTool{}, refused{fmt.Errorf("server %q has no tool %q here: `guardbook mcp tools` lists what there is", server, name)}
	case 1:
		return found[0], nil
	}
	return pinnedTool{}, usageError("more than one server goes by the name %q: say which with --identity, one of %s", server, strings.Join(ids, ", "))
}

const identityUsage = "tells servers of one name apart; see mcp tools --json"

func newToolDiff(c *cli) *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "diff SERVER TOOL",
		Short: "Show what has changed in a tool's definition",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.pinnedTool(cmd.Context(), args[0], args[1], identity)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(t)
			}
			return c.showDiff(t)
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", identityUsage)
	return cmd
}

func newToolJudge(c *cli, verb string) *cobra.Command {
	var identity, reason string
	short := "Pin the definition that waits: agents may see and call the tool again"
	if verb == "reject" {
		short = "Refuse the definition that waits, or take the trust from the pinned one"
	}
	cmd := &cobra.Command{
		Use:     verb + " SERVER TOOL --reason TEXT",
		Short:   short,
		Long:    short + ".\n\nThe difference is shown first; the judgement holds for what was shown, and for nothing that comes after it.",
		Example: "  guardbook mcp " + verb + " crm query --reason \"release notes of 2.4 announce it\"",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.pinnedTool(cmd.Context(), args[0], args[1], identity)
			if err != nil {
				return err
			}
			if !c.json {
				if err := c.showDiff(t); err != nil {
					return err
				}
			}
			if strings.TrimSpace(reason) == "" {
				return usageError("say why: --reason TEXT is required, and goes into the book")
			}
			body := map[string]string{"server": t.Server, "tool": t.Tool.Tool, "identity": t.Identity, "hash": firstOf(t.Offered, t.Hash), "reason": reason}
			var done pin.Tool
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/mcp/tools/"+verb, body, &done); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(done)
			}
			_, err = fmt.Fprintln(c.out, printable(fmt.Sprintf("Tool %s of server %s is %s (entry %s).", done.Tool, done.Server, done.State, done.Entry)))
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; goes into the book (required)")
	cmd.Flags().StringVar(&identity, "identity", "", identityUsage)
	return cmd
}

// showDiff prints the difference between the pinned definition and the one that waits.
func (c *cli) showDiff(t pinnedTool) error {
	before, after := lines(t.Definition), lines(t.OfferedDefinition)
	head := fmt.Sprintf("Tool %s of server %s: %s.", t.Tool.Tool, t.Server, t.State)
	var out []string
	switch {
	case t.Offered == "" && before == nil, t.Offered != "" && after == nil:
		head += " The text of its definition was not kept."
	case t.Offered == "":
		out = before
	case t.Hash == "":
		head += " No definition is pinned; this one waits."
		out = after
	default:
		head += " Lines with - are pinned, those with + wait."
		out = diffLines(before, after)
	}
	if _, err := fmt.Fprintln(c.out, printable(head)); err != nil {
		return err
	}
	for _, l := range out {
		if _, err := fmt.Fprintln(c.out, printable(l)); err != nil {
			return err
		}
	}
	return nil
}

// lines writes a definition over several lines.
func lines(v jsontext.Value) []string {
	if len(v) == 0 {
		return nil
	}
	v = v.Clone()
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil
	}
	return strings.Split(string(v), "\n")
}

// maxDiff bounds the lines of which a difference is looked for line by line.
const maxDiff = 2000

// diffLines is the difference of two texts: common lines with two spaces before them,
// those of a with -, those of b with +.
func diffLines(a, b []string) []string {
	var head, tail []string
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head, a, b = append(head, "  "+a[0]), a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail, a, b = append([]string{"  " + a[len(a)-1]}, tail...), a[:len(a)-1], b[:len(b)-1]
	}
	out := head
	if len(a) > maxDiff || len(b) > maxDiff {
		for _, l := range a {
			out = append(out, "- "+l)
		}
		a = nil
		for _, l := range b {
			out = append(out, "+ "+l)
		}
		b = nil
	}
	common := make([][]int, len(a)+1) // length of the longest common rest
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out, i, j = append(out, "  "+a[i]), i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out, i = append(out, "- "+a[i]), i+1
		default:
			out, j = append(out, "+ "+b[j]), j+1
		}
	}
	return append(out, tail...)
}
