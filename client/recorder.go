package client

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
)

// event is one line of the spool, as POST /v1/record takes it.
type event struct {
	ID string `json:"id"`
	TS string `json:"ts"`
	Told
}

func newEvent(t Told) event {
	t.Reason = clip(t.Reason, 400)
	return event{uuid.Must(uuid.NewV7()).String(), stamp(time.Now()), t}
}

func stamp(t time.Time) string { return t.UTC().Format(guardbook.TimeLayout) }

// recorder keeps what could not be told in the spool and sends it, at least once, as
// soon as the server can be reached.
type recorder struct {
	dir  string
	of   origin
	post func(ctx context.Context, path string, body []byte) (status int, answer []byte, err error)
	log  *slog.Logger

	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	spool   *spool
	dropped int64
	since   time.Time
}

func (r *recorder) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.wake, r.done = cancel, make(chan struct{}, 1), make(chan struct{})
	go r.run(ctx)
}

// add keeps an event: on disk before it returns, or counted as dropped.
func (r *recorder) add(t Told) {
	full := false
	s, err := r.open()
	if err == nil {
		full, err = s.append(newEvent(t))
	}
	if full || err != nil {
		r.mu.Lock()
		if r.dropped == 0 {
			r.since = time.Now()
			r.log.Error("guardbook: an event could not be kept; from now on they are counted", "full", err == nil, "error", err)
		}
		r.dropped++
		r.mu.Unlock()
	}
	r.nudge()
}

func (r *recorder) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *recorder) open() (*spool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spool != nil {
		return r.spool, nil
	}
	var err error
	r.spool, err = newSpool(r.dir, r.of, spoolLimit)
	return r.spool, err
}

// run sends what is kept until it is told to stop.
func (r *recorder) run(ctx context.Context) {
	defer close(r.done)
	pause, looked := 100*time.Millisecond, false
	for {
		err := r.send(ctx, &looked)
		wait := (<-chan time.Time)(nil)
		if err != nil {
			pause = min(2*pause, 5*time.Second)
			wait = time.After(pause)
		} else {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			if err != nil { // a server that is away is not asked more often because more happens
				select {
				case <-ctx.Done():
					return
				case <-wait:
				}
			}
		case <-wait:
		}
	}
}

// send empties the spools of processes that have died, then the own one.
func (r *recorder) send(ctx context.Context, looked *bool) error {
	if !*looked {
		for _, dead := range orphans(r.dir, r.of) {
			err := r.empty(ctx, dead.client, dead.spool)
			if err := errors.Join(err, dead.close()); err != nil {
				return err
			}
		}
		*looked = true
	}
	r.mu.Lock()
	s, dropped, since := r.spool, r.dropped, r.since
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	if err := r.empty(ctx, r.of.Client, s); err != nil {
		return err
	}
	if dropped == 0 {
		return nil
	}
	full, err := s.append(newEvent(Told{Event: "dropped", Reason: "the spool was full or could not be written", From: stamp(since), To: stamp(time.Now()), Count: dropped}))
	if full || err != nil {
		return errors.Join(err, errors.New("the spool is full"))
	}
	r.mu.Lock()
	r.dropped -= dropped
	r.mu.Unlock()
	return r.empty(ctx, r.of.Client, s)
}

// empty sends everything in a spool.
func (r *recorder) empty(ctx context.Context, client string, s *spool) error {
	for s.pending() {
		events, end, err := s.batch()
		if err != nil {
			return err
		}
		if len(events) > 0 {
			if err := r.tell(ctx, client, events); err != nil {
				return err
			}
		}
		if err := s.confirm(end); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) tell(ctx context.Context, client string, events []jsontext.Value) error {
	body, err := json.Marshal(struct {
		Client string           `json:"client"`
		Events []jsontext.Value `json:"events"`
	}{client, events})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, answer, err := r.post(ctx, "/v1/record", body)
	switch {
	case err != nil:
		return err
	case status == http.StatusOK:
		return nil
	case status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge:
		return fmt.Errorf("the server answered %d", status)
	case len(events) > 1: // one of them is refused: find it
		for _, e := range events {
			if err := r.tell(ctx, client, []jsontext.Value{e}); err != nil {
				return err
			}
		}
		return nil
	}
	// It would be refused for ever, and everything behind it would wait.
	r.log.Error("guardbook: the server refuses an event", "event", string(events[0]), "answer", clip(string(answer), 500))
	return nil
}

// flush tries to send everything before ctx ends.
func (r *recorder) flush(ctx context.Context) error {
	for {
		r.mu.Lock()
		idle := r.dropped == 0 && (r.spool == nil || !r.spool.pending())
		r.mu.Unlock()
		if idle {
			return nil
		}
		r.nudge()
		select {
		case <-ctx.Done():
			return fmt.Errorf("not everything could be told to the server; it is kept on disk: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *recorder) close() error {
	r.stop()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spool == nil {
		return nil
	}
	return r.spool.close()
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}
