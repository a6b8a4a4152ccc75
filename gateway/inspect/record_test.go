package inspect_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/clients"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/inspect"
	"github.com/guardbook/guardbook/gateway/internal/testbed"
)

// recorder writes to the test bed's book.
type recorder struct{ b *testbed.Bed }

func (r recorder) Append(ctx context.Context, drafts ...guardbook.Draft) error {
	return r.b.Guard.Record(ctx, drafts...)
}

func tell(t *testing.T, h http.Handler, method, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, "/v1/record", strings.NewReader(body))
	r.Header.Set(gateway.HeaderKey, testbed.Key)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

func TestWhatIsToldAfterwardsIsAnEntry(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	h := inspect.RecordHandler(b.Gateway, clients.New(clients.Options{Recorder: recorder{b}}))
	if code, body := tell(t, h, "POST", `{"events":[]}`); code != 200 || body != `{"accepted":0,"duplicate":0}` {
		t.Errorf("nothing told: %d %s", code, body)
	}
	two := `{"client":"c-1","events":[
		{"id":"e-1","seq":13,"ts":"2026-11-25T10:00:00.5+01:00","event":"refused","via":"python/langchain","kind":"tool_call","session":"s-1","tool":{"server":"crm","name":"read","call_id":"t1"},"reason":"connection refused"},
		{"id":"e-2","event":"degraded","from":"2026-11-25T09:00:00Z","to":"2026-11-25T09:00:05Z","count":7}]}`
	for i, want := range []string{`{"accepted":2,"duplicate":0}`, `{"accepted":0,"duplicate":2}`} {
		if code, body := tell(t, h, "POST", two); code != 200 || body != want {
			t.Errorf("told for the time %d: %d %s", i+1, code, body)
		}
	}
	got := testbed.Entries[guardbook.ClientEntry](t, b, guardbook.TypeClient)
	if len(got) != 2 {
		t.Fatalf("%d entries", len(got))
	}
	e := got[0]
	if e.Agent != testbed.Agent || e.Client != "c-1" || e.ClientSeq != 13 || e.Event != "refused" || e.Path != "inspect/python/langchain" ||
		e.Kind != guardbook.KindToolCall || e.Tool == nil || e.Tool.Name != "read" || e.Tool.Server != "crm" || e.Session != "s-1" || e.Reason != "connection refused" {
		t.Errorf("entry %+v", e)
	}
	if d := got[1]; d.Event != "degraded" || d.Count != 7 || d.From != "2026-11-25T09:00:00.000000Z" || d.To != "2026-11-25T09:00:05.000000Z" {
		t.Errorf("entry %+v", d)
	}
}

func TestRecordRefusesWhatItDoesNotKnow(t *testing.T) {
	b := testbed.New(t, testbed.Options{})
	h := inspect.RecordHandler(b.Gateway, clients.New(clients.Options{Recorder: recorder{b}}))
	event := func(members string) string {
		return `{"client":"c-1","events":[{"id":"e","event":"refused"` + members + `}]}`
	}
	for name, c := range map[string]struct {
		body, message string
	}{
		"broken":         {`{"client":`, "offset"},
		"no object":      {`[]`, "JSON object"},
		"no events":      {`{"client":"c"}`, "events must be a list"},
		"no client":      {`{"events":[{"id":"e","event":"refused"}]}`, "client is required"},
		"unknown":        {`{"client":"c","event":[]}`, "unknown member event: use client, events"},
		"no id":          {`{"client":"c","events":[{"event":"refused"}]}`, "events[0].id is required"},
		"unknown event":  {`{"client":"c","events":[{"id":"e","event":"lost"}]}`, "events[0].event must be one of unguarded, refused, unanswered, degraded, dropped"},
		"unknown member": {event(`,"text":"x"`), "unknown member events[0].text"},
		"kind":           {event(`,"kind":"thought"`), "events[0].kind must be one of input"},
		"seq":            {event(`,"seq":-1`), "events[0].seq must be a whole number"},
		"time":           {event(`,"ts":"yesterday"`), "events[0].ts must be a time as in RFC 3339"},
		"from":           {event(`,"from":"now"`), "events[0].from must be a time"},
		"via":            {event(`,"via":"Python SDK"`), "events[0].via must be of a-z"},
		"tool":           {event(`,"tool":"x"`), "events[0].tool must be an object"},
		"too many":       {`{"client":"c","events":[` + strings.Repeat(`{"id":"e","event":"refused"},`, 256) + `{"id":"e","event":"refused"}]}`, "more than 256 events"},
		"client's name":  {`{"client":"a\u001b[31m","events":[{"id":"e","event":"refused"}]}`, "printable"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, body := tell(t, h, "POST", c.body); code != 400 || !strings.Contains(body, c.message) {
				t.Errorf("got %d %s", code, body)
			}
		})
	}
	if code, _ := tell(t, h, "GET", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
	if got := testbed.Entries[guardbook.ClientEntry](t, b, guardbook.TypeClient); len(got) != 0 {
		t.Errorf("something was written: %+v", got)
	}
}
