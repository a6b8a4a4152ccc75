package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
)

const (
	heartbeatEvery = 15 * time.Second
	// writeWithin is how long a client may take to accept what is written to it.
	writeWithin = 15 * time.Second
	// maxStreams bounds how many timelines are followed at once.
	maxStreams = 256
)

// errStreamEnded ends a stream that cannot go on; the client connects again.
var errStreamEnded = errors.New("the stream ended")

// streamEvents sends the timeline as server-sent events. Each client reads the
// book at its own pace, from the entry behind the last one that it has, so that
// none is lost or sent twice and a slow client holds up nobody: when it does not
// take what is written within writeWithin, its connection is closed, and it can
// go on from where it was.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request, by string) error {
	p := query(r, append(slices.Clone(filterNames), "after")...)
	q := p.filter()
	after := p.number("after", -1, math.MaxInt64)
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n < 0 {
			return invalid("Last-Event-ID: %.80q is no sequence number", id)
		}
		after = &n
	}
	if p.err != nil {
		return p.err
	}
	if n := a.streams.Add(1); n > maxStreams {
		a.streams.Add(-1)
		return &problem{http.StatusTooManyRequests, codeLimited, fmt.Sprintf("%d timelines are open already: close one", maxStreams)}
	}
	defer a.streams.Add(-1)
	// Where the stream begins is fixed before the read is written down, so that a
	// client sees everything that happens from its request on.
	size := a.o.Book.Size()
	from := size
	if after != nil {
		from = *after + 1
		if from > size {
			from = 0 // a place that this log has not reached: the client saw an earlier epoch, and all of this one is new to it
		}
	}
	detail := filterText(q)
	if err := a.read(r.Context(), "timeline_watched", by, fmt.Sprint(detail), detail); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	s := &stream{w: w, rc: http.NewResponseController(w), last: from - 1}
	if err := s.send([]byte(": the timeline\nretry: 1000\n\n")); err != nil {
		return err
	}
	return a.follow(r.Context(), s, q, from)
}

// follow reads the book in a goroutine of its own, since the reader waits inside
// Follow and heartbeats must go out meanwhile. The goroutine has ended when
// follow returns.
func (a *api) follow(ctx context.Context, s *stream, q archive.Query, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan []guardbook.Entry)
	ended := make(chan error, 1)
	go func() {
		ended <- a.o.Book.Follow(ctx, from, func(entries []guardbook.Entry) error {
			select {
			case batches <- entries:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	err := a.pump(ctx, s, q, batches, ended)
	cancel()
	if !errors.Is(err, errFollowEnded) {
		a.log.DebugContext(ctx, "the reader of a timeline ended", "error", <-ended)
	}
	return err
}

var errFollowEnded = fmt.Errorf("%w: the book ended it", errStreamEnded)

func (a *api) pump(ctx context.Context, s *stream, q archive.Query, batches <-chan []guardbook.Entry, ended <-chan error) error {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case entries := <-batches:
			if err := s.sendEntries(q, entries); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.heartbeat(); err != nil {
				return err
			}
		case err := <-ended:
			if ctx.Err() == nil {
				a.log.Warn("the timeline of a client ended", "error", err)
			}
			return errFollowEnded
		case <-ctx.Done():
			return errStreamEnded
		case <-a.o.Stopping:
			return nil // a whole answer: the client knows that the server chose to end it
		}
	}
}

// stream is one client's connection.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	last int64 // the last entry that was sent or passed over
	buf  bytes.Buffer
}

func (s *stream) sendEntries(q archive.Query, entries []guardbook.Entry) error {
	s.buf.Reset()
	for _, e := range entries {
		s.last = e.Seq
		if !matches(q, e) {
			continue
		}
		// An entry is one line of JSON: no line end is in it.
		fmt.Fprintf(&s.buf, "id: %d\ndata: %s\n\n", e.Seq, e.Raw)
	}
	if s.buf.Len() == 0 {
		return nil
	}
	return s.send(s.buf.Bytes())
}

// heartbeat keeps the connection open. It also tells the client how far the book
// was read, so that a filter that matches little does not make it begin far back.
func (s *stream) heartbeat() error {
	s.buf.Reset()
	s.buf.WriteString(": heartbeat\n")
	if s.last >= 0 {
		fmt.Fprintf(&s.buf, "id: %d\n", s.last)
	}
	s.buf.WriteByte('\n')
	return s.send(s.buf.Bytes())
}

func (s *stream) send(b []byte) error {
	// Not every writer has deadlines (a test's recorder): then there is none.
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", errStreamEnded, err)
	}
	_, err := s.w.Write(b)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStreamEnded, err)
	}
	return nil
}
