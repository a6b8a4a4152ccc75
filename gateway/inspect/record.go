package inspect

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/clients"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// EventLimit is how many events one call of /v1/record may hold.
const EventLimit = 256

const recordLimit = 1 << 20 // bytes of a body of /v1/record

// Account keeps what clients tell afterwards; *clients.Clients is one.
type Account interface {
	Record(ctx context.Context, agent, tenant, client string, events []clients.Event) (accepted, duplicate int, err error)
}

// RecordHandler returns the handler of POST /v1/record: an SDK tells what it could
// not ask or tell in time.
func RecordHandler(gw *gateway.Gateway, account Account) http.Handler {
	return &recorder{handler{gw}, account}
}

type recorder struct {
	handler
	account Account
}

var (
	recordMembers = []string{"client", "events"}
	eventMembers  = []string{"id", "seq", "ts", "event", "via", "kind", "session", "tool", "reason", "from", "to", "count"}
	events        = []string{"unguarded", "refused", "unanswered", "degraded", "dropped"}
)

func (h *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, refusal := gateway.Identify(r, "", h.gw.Keys())
	if refusal != nil {
		h.gw.Refuse(r.Context(), w, errorShape{}, "record", refusal)
		return
	}
	refuse := func(f *gateway.Refusal) {
		f.Agent, f.Session, f.Tenant = caller.Agent, caller.Session, caller.Tenant
		h.gw.Refuse(r.Context(), w, errorShape{}, "record", f)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(&gateway.Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "Use POST."})
		return
	}
	body, refusal := gateway.ReadBody(w, r, recordLimit, bodyTime)
	if refusal != nil {
		refuse(refusal)
		return
	}
	doc, err := document.Parse(body)
	if err != nil {
		refuse(gateway.SyntaxRefusal(err))
		return
	}
	client, told, err := readEvents(doc.Root(), caller)
	if err != nil {
		refuse(&gateway.Refusal{Status: http.StatusBadRequest, Code: "malformed_request", Message: err.Error(), Bytes: int64(len(body))})
		return
	}
	var answer struct {
		Accepted  int `json:"accepted"`
		Duplicate int `json:"duplicate"`
	}
	if len(told) > 0 {
		answer.Accepted, answer.Duplicate, err = h.account.Record(r.Context(), caller.Agent, caller.Tenant, client, told)
		if err != nil {
			refuse(gateway.NotDurable())
			return
		}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		refuse(&gateway.Refusal{Status: http.StatusInternalServerError, Code: "internal", Message: "The answer could not be written: the events stand in the book."})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the events are in the book; whether the answer arrives is the client's affair
}

// readEvents reads what a client tells.
func readEvents(root document.Value, c gateway.Caller) (client string, out []clients.Event, err error) {
	if root.Kind() != '{' {
		return "", nil, fmt.Errorf("the body must be a JSON object")
	}
	if err := known(root, "", recordMembers); err != nil {
		return "", nil, err
	}
	client = c.Client
	if err := text(root, "", "client", &client, 64); err != nil {
		return "", nil, err
	}
	list := root.Get("events")
	if list.Kind() != '[' {
		return "", nil, fmt.Errorf("events must be a list of at most %d events", EventLimit)
	}
	for v := list.First(); v.Exists(); v = v.Next() {
		if len(out) == EventLimit {
			return "", nil, fmt.Errorf("events holds more than %d events", EventLimit)
		}
		e, err := readEvent(v, fmt.Sprintf("events[%d]", len(out)), client, c)
		if err != nil {
			return "", nil, err
		}
		out = append(out, e)
	}
	if client == "" && len(out) > 0 {
		return "", nil, fmt.Errorf("client is required: the id of the SDK's process")
	}
	if !printable(client) {
		return "", nil, fmt.Errorf("client must be of printable characters")
	}
	return client, out, nil
}

func readEvent(v document.Value, prefix, client string, c gateway.Caller) (clients.Event, error) {
	var out clients.Event
	if v.Kind() != '{' {
		return out, fmt.Errorf("%s must be an object", prefix)
	}
	if err := known(v, prefix, eventMembers); err != nil {
		return out, err
	}
	e := guardbook.ClientEntry{Agent: c.Agent, Client: client, Path: entryPath}
	var ts, via, kind string
	for _, f := range []struct {
		member string
		into   *string
		limit  int
	}{{"id", &e.Told, 64}, {"event", &e.Event, 16}, {"ts", &ts, 64}, {"via", &via, 40}, {"kind", &kind, 32}, {"session", &e.Session, 256}, {"reason", &e.Reason, 512}, {"from", &e.From, 64}, {"to", &e.To, 64}} {
		if err := text(v, prefix, f.member, f.into, f.limit); err != nil {
			return out, err
		}
	}
	if e.Told == "" || !printable(e.Told) {
		return out, fmt.Errorf("%s is required: a UUID that stays the same when the event is told again", at(prefix, "id"))
	}
	if !slices.Contains(events, e.Event) {
		return out, fmt.Errorf("%s must be one of %s", at(prefix, "event"), strings.Join(events, ", "))
	}
	if kind != "" && !slices.Contains(guardbook.Kinds, guardbook.Kind(kind)) {
		return out, fmt.Errorf("%s must be one of %s", at(prefix, "kind"), joinKinds())
	}
	if via != "" {
		if !Via(via) {
			return out, fmt.Errorf("%s must be of a-z, 0-9, '.', '_', '/' and '-'", at(prefix, "via"))
		}
		e.Path = entryPath + "/" + via
	}
	e.Kind = guardbook.Kind(kind)
	var err error
	if e.ClientSeq, err = number(v, prefix, "seq"); err != nil {
		return out, err
	}
	if e.Count, err = number(v, prefix, "count"); err != nil {
		return out, err
	}
	occurred, err := moment(ts, at(prefix, "ts"))
	if err != nil {
		return out, err
	}
	for member, s := range map[string]*string{"from": &e.From, "to": &e.To} {
		t, err := moment(*s, at(prefix, member))
		if err != nil {
			return out, err
		}
		if *s = ""; !t.IsZero() {
			*s = t.UTC().Format(guardbook.TimeLayout)
		}
	}
	if tool := v.Get("tool"); tool.Exists() {
		if tool.Kind() != '{' {
			return out, fmt.Errorf("%s must be an object", at(prefix, "tool"))
		}
		e.Tool = &guardbook.ToolRef{}
		for member, into := range map[string]*string{"server": &e.Tool.Server, "name": &e.Tool.Name, "call_id": &e.Tool.CallID} {
			if err := text(tool, at(prefix, "tool"), member, into, 256); err != nil {
				return out, err
			}
		}
	}
	out.ID = e.Told
	out.Draft = guardbook.Draft{Type: guardbook.TypeClient, Tenant: c.Tenant, Time: occurred, Body: e}
	return out, nil
}

func number(v document.Value, prefix, member string) (int64, error) {
	m := v.Get(member)
	if !m.Exists() {
		return 0, nil
	}
	n := m.Int(-1)
	if n < 0 {
		return 0, fmt.Errorf("%s must be a whole number of at least 0", at(prefix, member))
	}
	return int64(n), nil
}

func moment(s, where string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%s must be a time as in RFC 3339, for example 2026-01-31T15:04:05.123Z", where)
	}
	return t, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
