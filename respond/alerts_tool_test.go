package respond_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

func TestAQuarantinedToolOpensAnAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openBook(t, t.TempDir())
		defer r.Close()
		a, stop := follow(t, r, nil, respond.AlertOptions{})
		defer stop()
		step := func(op, tool, previous, to string) {
			t.Helper()
			if err := r.Append(context.Background(), guardbook.Draft{Type: guardbook.TypeTool, Body: guardbook.ToolEntry{
				Op: op, Tool: guardbook.ToolRef{Server: "crm", Name: tool}, Identity: "http:x", Hash: "sha256:y", Previous: previous, By: "guardbook", Agent: "bot", Alert: to,
			}}); err != nil {
				t.Fatal(err)
			}
		}
		step("pinned", "query", "", "")
		step("listed", "", "", "")
		step("quarantined", "query", "sha256:x", "oncall")
		step("restored", "query", "", "")
		step("quarantined", "query", "sha256:x", "oncall")
		step("quarantined", "new\x1b[31m", "", "")
		time.Sleep(time.Second)
		synctest.Wait()
		list := a.List(respond.Filter{})
		if len(list) != 2 {
			t.Fatalf("%d alerts: %+v", len(list), list)
		}
		for _, x := range list {
			title, to, count := "bot: tool query of MCP server crm has changed and is quarantined", "oncall", int64(2)
			if x.Rule != "mcp/crm/query" {
				title, to, count = "bot: tool new\uFFFD[31m of MCP server crm appeared and is quarantined", "default", 1
			}
			if x.Severity != guardbook.High || x.Class != guardbook.ClassToolPoisoning || x.Title != title || x.Receiver != to || x.Count != count || x.Facts.Tool.Server != "crm" {
				t.Errorf("%+v", x)
			}
		}
		// A server that makes up tools without end does not bury the others' alerts.
		for i := range 100 {
			step("quarantined", fmt.Sprint("t", i), "", "")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if list = a.List(respond.Filter{}); len(list) != 11 {
			t.Errorf("%d alerts", len(list))
		}
		for _, x := range list {
			if !strings.HasPrefix(x.Rule, "mcp/crm/") && x.Count != 92 {
				t.Errorf("%s counts %d", x.Rule, x.Count)
			}
		}
	})
}
