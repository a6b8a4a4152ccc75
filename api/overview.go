package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
)

type minuteJSON struct {
	Time    string           `json:"time"`
	Actions map[string]int64 `json:"actions"`
}

type sealedJSON struct {
	Size int64  `json:"size"`
	Time string `json:"time,omitzero"`
}

type overviewJSON struct {
	Agents       int              `json:"agents"`
	OpenAlerts   int              `json:"open_alerts"`
	Containments int              `json:"containments"`
	Decisions    map[string]int64 `json:"decisions"` // of the last 24 hours, by action
	Minutes      []minuteJSON     `json:"minutes"`   // of the last hour, oldest first
	Heartbeat    string           `json:"heartbeat,omitzero"`
	Checkpoint   sealedJSON       `json:"checkpoint"`
	Size         int64            `json:"size"`
}

// overview is what the head of the dashboard shows.
func (a *api) overview(w http.ResponseWriter, r *http.Request, _ string) error {
	agents, err := a.o.Access.Agents(r.Context())
	if err != nil {
		return err
	}
	now := a.now()
	decisions := archive.Query{Types: []guardbook.EntryType{guardbook.TypeDecision}, NoCanaries: true, Since: now.Add(-24 * time.Hour)}
	day, err := a.o.Archive.Counts(r.Context(), decisions, archive.ByAction)
	if err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	minutes, err := a.minutes.lastHour(r.Context(), a.o.Archive, now)
	if err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	out := overviewJSON{Agents: len(agents), OpenAlerts: a.o.Alerts.Open(), Containments: len(a.o.Containments.List()), Decisions: day, Minutes: minutes, Size: a.o.Book.Size()}
	beat, err := a.o.Archive.Events(r.Context(), archive.Query{Types: []guardbook.EntryType{guardbook.TypeHeartbeat}, Desc: true, Limit: 1})
	if err != nil {
		return fmt.Errorf("overview: %w", err)
	}
	if len(beat) > 0 {
		out.Heartbeat = beat[0].TS
	}
	if out.Decisions == nil {
		out.Decisions = map[string]int64{}
	}
	c := a.o.Book.Checkpoint()
	out.Checkpoint = sealedJSON{Size: c.Size, Time: stamp(c.Time)}
	return writeJSON(w, http.StatusOK, out)
}

// minutes counts decisions minute by minute. A minute that is over for a while
// does not change any more and is counted once.
type minutes struct {
	mu   sync.Mutex
	done map[int64]map[string]int64 // by Unix minute
}

// settledAfter is how long after its end a minute may still get entries: the
// archive follows the book, and a time is taken before its entry is written.
const settledAfter = time.Minute

func (x *minutes) lastHour(ctx context.Context, arch Archive, now time.Time) ([]minuteJSON, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done == nil {
		x.done = map[int64]map[string]int64{}
	}
	this := now.Truncate(time.Minute)
	out := make([]minuteJSON, 0, 60)
	for i := 59; i >= 0; i-- {
		from := this.Add(-time.Duration(i) * time.Minute)
		to := from.Add(time.Minute)
		n, ok := x.done[from.Unix()]
		if !ok {
			var err error
			n, err = arch.Counts(ctx, archive.Query{Types: []guardbook.EntryType{guardbook.TypeDecision}, NoCanaries: true, Since: from, Until: to}, archive.ByAction)
			if err != nil {
				return nil, err
			}
			if n == nil {
				n = map[string]int64{}
			}
			if now.Sub(to) >= settledAfter {
				x.done[from.Unix()] = n
			}
		}
		out = append(out, minuteJSON{from.UTC().Format(time.RFC3339), n})
	}
	for unix := range x.done {
		if unix < this.Add(-2*time.Hour).Unix() {
			delete(x.done, unix)
		}
	}
	return out, nil
}
