package stdio

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
)

const (
	recordLimit = 10_000 // events kept for a server that is away; the oldest are counted only
	recordBatch = 256    // events of one call of POST /v1/record
	via         = "mcp/stdio"
)

// event is one element of POST /v1/record.
type event struct {
	ID      string   `json:"id"`
	Seq     int64    `json:"seq,omitzero"`
	TS      string   `json:"ts"`
	Event   string   `json:"event"`
	Via     string   `json:"via"`
	Kind    string   `json:"kind,omitzero"`
	Session string   `json:"session,omitzero"`
	Tool    *toolRef `json:"tool,omitzero"`
	Reason  string   `json:"reason,omitzero"`
	From    string   `json:"from,omitzero"`
	To      string   `json:"to,omitzero"`
	Count   int64    `json:"count,omitzero"`
}

type toolRef struct {
	Server string `json:"server"`
	Name   string `json:"name"`
}

// record keeps what happened without a decision, until a server can be told. Its
// numbers (1, 2, 3...) are of these events only: every decision is made by the
// server itself.
type record struct {
	client, server, session string

	mu      sync.Mutex
	seq     int64
	events  []event
	dropped int64
	since   time.Time // of the first event that was not told
}

func newRecord(server, session string) *record {
	return &record{client: uuid.NewString(), server: server, session: session}
}

// undecided keeps that an interaction passed, or was refused, without a decision.
func (r *record) undecided(in *guardbook.Interaction, passed bool, why error) {
	e := event{Event: "refused", Kind: string(in.Kind), Reason: "Guardbook could not be reached"}
	if errors.Is(why, errUnanswered) {
		e.Event, e.Reason = "unanswered", "Guardbook did not answer in time"
	}
	if passed {
		e.Event = "unguarded"
	}
	if in.Tool != nil {
		e.Tool = &toolRef{r.server, in.Tool.Name}
	}
	r.add(e)
}

// refused keeps that a message was refused, and the server could not be told.
func (r *record) refused(code string) { r.add(event{Event: "refused", Reason: code}) }

func (r *record) add(e event) {
	now := time.Now().UTC()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		r.since = now
	}
	r.seq++
	e.ID, e.Seq, e.TS, e.Via, e.Session = uuid.Must(uuid.NewV7()).String(), r.seq, now.Format(time.RFC3339Nano), via, r.session
	if len(r.events) >= recordLimit {
		r.events = r.events[1:]
		r.dropped++
	}
	r.events = append(r.events, e)
}

// tell sends what was kept. What cannot be sent is kept on.
func (r *record) tell(ctx context.Context, at Address) error {
	r.mu.Lock()
	defer r.mu.Unlock() // what happens meanwhile waits: the server is back, so nothing does
	if len(r.events) == 0 {
		return nil
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	extra := []event{{ID: uuid.Must(uuid.NewV7()).String(), TS: now, Event: "degraded", Via: via, Session: r.session,
		From: r.since.Format(time.RFC3339Nano), To: now, Count: int64(len(r.events)) + r.dropped, Reason: "Guardbook could not be reached"}}
	if r.dropped > 0 {
		extra = append(extra, event{ID: uuid.Must(uuid.NewV7()).String(), TS: now, Event: "dropped", Via: via, Session: r.session, Count: r.dropped})
	}
	for _, e := range extra {
		r.seq++
		e.Seq = r.seq
		r.events = append(r.events, e)
	}
	for len(r.events) > 0 {
		n := min(len(r.events), recordBatch)
		if err := r.post(ctx, at, r.events[:n]); err != nil {
			return err
		}
		r.events = r.events[n:]
	}
	r.dropped, r.since = 0, time.Time{}
	return nil
}

func (r *record) post(ctx context.Context, at Address, events []event) error {
	body, err := json.Marshal(struct {
		Client string  `json:"client"`
		Events []event `json:"events"`
	}{r.client, events})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(at.URL, "/")+"/v1/record", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(gateway.HeaderKey, at.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := linkTransport().RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST /v1/record answered %s", resp.Status)
	}
	return nil
}
