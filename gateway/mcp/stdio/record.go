package stdio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/gateway"
)

const via = "mcp/stdio"

// record tells the server what happened without a decision, once it is back. Its
// numbers (1, 2, 3...) are of these events only: every decision is made by the server
// itself.
type record struct {
	server, session string
	spool           *client.Spool

	mu    sync.Mutex
	at    Address // of the last link
	seq   int64
	since time.Time // of the first event that no server was there for; zero: it is
	count int64
}

func newRecord(server, session string, keep client.SpoolOptions, log *slog.Logger) *record {
	r := &record{server: server, session: session}
	keep.Client, keep.Post, keep.Log = uuid.NewString(), r.post, log
	r.spool = client.NewSpool(keep)
	return r
}

// undecided keeps that an interaction passed, or was refused, without a decision.
func (r *record) undecided(in *guardbook.Interaction, passed bool, why error) {
	t := client.Told{Event: "refused", Kind: in.Kind, Reason: "Guardbook could not be reached"}
	if errors.Is(why, errUnanswered) {
		t.Event, t.Reason = "unanswered", "Guardbook did not answer in time"
	}
	if passed {
		t.Event = "unguarded"
	}
	if in.Tool != nil {
		t.Tool = &guardbook.ToolRef{Server: r.server, Name: in.Tool.Name}
	}
	r.add(t)
}

// refused keeps that a message was refused, and the server could not be told.
func (r *record) refused(code string) { r.add(client.Told{Event: "refused", Reason: code}) }

func (r *record) add(t client.Told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		r.since = time.Now()
	}
	r.count++
	r.keep(t)
}

// keep numbers an event. r.mu is held.
func (r *record) keep(t client.Told) {
	r.seq++
	t.Seq, t.Via, t.Session = r.seq, via, r.session
	r.spool.Add(t)
}

// back is called when a server is there again.
func (r *record) back(at Address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = at
	if !r.since.IsZero() {
		r.keep(client.Told{Event: "degraded", Reason: "Guardbook could not be reached", Count: r.count,
			From: r.since.UTC().Format(guardbook.TimeLayout), To: time.Now().UTC().Format(guardbook.TimeLayout)})
		r.since, r.count = time.Time{}, 0
	}
}

func (r *record) post(ctx context.Context, path string, body []byte) (status int, answer []byte, err error) {
	r.mu.Lock()
	at := r.at
	r.mu.Unlock()
	if at.URL == "" {
		return 0, nil, errUnreachable
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(at.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set(gateway.HeaderKey, at.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := linkTransport().RoundTrip(req)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, answer, err
}

// close gives what was not told a last moment. What is left then, a later process
// tells.
func (r *record) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.mu.Lock()
	at := r.at
	r.mu.Unlock()
	var err error
	if at.URL != "" {
		err = r.spool.Flush(ctx)
	}
	return errors.Join(err, r.spool.Close())
}
