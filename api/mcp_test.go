package api_test

import (
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/api"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// lateRecorder is the recorder of a world that is not made yet.
type lateRecorder struct{ w *world }

func (l *lateRecorder) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	return l.w.rec.AppendDurable(ctx, d...)
}

func TestTheToolsOfMCPServers(t *testing.T) {
	texts, err := pin.OpenTexts(filepath.Join(t.TempDir(), "definitions"), nil)
	if err != nil {
		t.Fatal(err)
	}
	late := &lateRecorder{}
	pins := pin.NewStore(pin.Options{Recorder: late, Texts: texts})
	w := newWorld(t, func(o *api.Options) { o.Tools = pins })
	late.w = w
	crm := pin.Server{Name: "crm", Identity: pin.URLIdentity("https://crm.example/mcp")}
	offer := func(json string) pin.Definition {
		t.Helper()
		d, err := pin.Parse([]byte(json))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pins.Page(t.Context(), "billing-bot", "", crm, pin.Page{Tools: []pin.Definition{d}, Complete: true, All: []string{d.Name}}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	offer(`{"name":"query","description":"asks"}`)
	changed := offer(`{"name":"query","description":"asks, and tells others"}`)

	type tool struct {
		Tool       string            `json:"tool"`
		State      string            `json:"state"`
		Offered    string            `json:"offered"`
		By         string            `json:"by"`
		Definition map[string]string `json:"definition"`
		Waits      map[string]string `json:"offered_definition"`
	}
	var list struct {
		Tools []tool `json:"tools"`
	}
	w.call(t, "GET", "/api/v1/mcp/tools?server=crm&state=quarantined&definitions=show", nil).want(t, http.StatusOK).into(t, &list)
	if len(list.Tools) != 1 || list.Tools[0].Offered != changed.Hash || list.Tools[0].Definition["description"] != "asks" || list.Tools[0].Waits["description"] != "asks, and tells others" {
		t.Fatalf("%+v", list)
	}
	if b := w.call(t, "GET", "/metrics", nil).want(t, http.StatusOK).body; !bytes.Contains(b, []byte("\nguardbook_mcp_tools_quarantined 1\n")) {
		t.Errorf("%s", b)
	}
	for path, want := range map[string]int{
		"/api/v1/mcp/tools?server=other": http.StatusOK, "/api/v1/mcp/tools?state=lost": http.StatusBadRequest, "/api/v1/mcp/tools?tol=x": http.StatusBadRequest,
	} {
		w.call(t, "GET", path, nil).want(t, want)
	}
	ask := map[string]string{"server": "crm", "tool": "query", "hash": changed.Hash}
	w.call(t, "POST", "/api/v1/mcp/tools/approve", ask).want(t, http.StatusBadRequest) // says no reason
	ask["reason"] = "announced"
	ask["hash"] = "sha256:00"
	w.call(t, "POST", "/api/v1/mcp/tools/approve", ask).want(t, http.StatusConflict)
	ask["hash"] = changed.Hash
	w.rec.fail(context.DeadlineExceeded)
	w.call(t, "POST", "/api/v1/mcp/tools/approve", ask).want(t, http.StatusServiceUnavailable)
	w.rec.fail(nil)
	var done tool
	w.call(t, "POST", "/api/v1/mcp/tools/approve", ask).want(t, http.StatusOK).into(t, &done)
	if done.State != "pinned" || done.By == "" {
		t.Errorf("%+v", done)
	}
	w.call(t, "POST", "/api/v1/mcp/tools/reject", map[string]string{"server": "crm", "tool": "none", "reason": "x"}).want(t, http.StatusNotFound)
	w.call(t, "POST", "/api/v1/mcp/tools/reject", map[string]string{"server": "crm", "tool": "query", "reason": "it leaks"}).want(t, http.StatusOK).into(t, &done)
	if done.State != "rejected" {
		t.Errorf("%+v", done)
	}
	w.callAs(t, as{}, "POST", "/api/v1/mcp/tools/approve", ask).want(t, http.StatusUnauthorized)
}

func TestAServerThatPinsNoTools(t *testing.T) {
	w := newWorld(t)
	w.call(t, "GET", "/api/v1/mcp/tools", nil).want(t, http.StatusOK)
	w.call(t, "POST", "/api/v1/mcp/tools/approve", map[string]string{"server": "crm", "tool": "x", "reason": "y"}).want(t, http.StatusNotFound)
}
