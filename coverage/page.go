package coverage

import (
	_ "embed"
	"fmt"
	"strings"
)

// around is the page without its tables; TABLES stands where they go.
//
//go:embed page.md
var around string

// Page is docs/coverage.md.
func (m *Matrix) Page() string {
	var b strings.Builder
	counts := map[string]int{}
	played, passes := 0, 0
	api := ""
	for _, r := range m.Rows() {
		counts[r.Cell.State]++
		if r.Canary() != "" {
			played++
		}
		if r.Cell.Policy != "" {
			passes++
		}
		if r.Group.API != api {
			api = r.Group.API
			fmt.Fprintf(&b, "\n### %s\n\n| endpoint | what passes | tools | streamed | state | in the book as | tested by the running instance |\n|---|---|---|---|---|---|---|\n", api)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", r.Group.Endpoint, cellText(r.Cell.Channel), dash(r.Cell.Tools), yesNo(r.Streamed), r.state(), r.recorded(), yes(r.Canary() != ""))
	}
	sum := fmt.Sprintf("%d cells: %d guarded, %d refused (%d of them can be let pass, unread, by a line of policy), %d that pass unread within something guarded. The running instance plays %d of them to itself.",
		len(m.Rows()), counts[Guarded], counts[Refused], passes, counts[Unread], played)
	return strings.NewReplacer("TABLES\n", strings.TrimPrefix(b.String(), "\n"), "SUMMARY", sum).Replace(around)
}

// state is a row's state with what is to know about it.
func (r Row) state() string {
	s := "**" + r.Cell.State + "**"
	if r.Cell.Why != "" {
		s += ": " + cellText(r.Cell.Why)
	}
	if r.Cell.Policy != "" {
		s += fmt.Sprintf(". By policy, unread: `endpoints: [%q]`", r.Cell.Policy)
	}
	return s
}

// recorded is what a row leaves in the book.
func (r Row) recorded() string {
	if r.Cell.State == Refused {
		s := "refusal"
		if r.Cell.Policy != "" {
			s += ", or passthrough"
		}
		return s
	}
	s := "`" + r.Cell.Kind + "`"
	if r.Cell.Role != "" {
		s += " of " + r.Cell.Role
	}
	s += " by `" + r.Group.Path + "`"
	if r.Cell.MCP != "" {
		s += " or `" + r.StdioPath() + "`"
	}
	return s
}

// cellText is a text that may stand in a cell of a table.
func cellText(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return ""
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}
