package gateway

import (
	"net/http"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/sse"
)

// patience is how long an event waits for those that came with it.
const patience = 200 * time.Microsecond

// Out writes a streamed answer to the client. Send belongs to one goroutine; the
// keep-alives come from a timer, under the lock.
type Out struct {
	w         http.ResponseWriter
	rc        *http.ResponseController
	timeout   time.Duration
	keepAlive []byte
	every     time.Duration

	released int64               // bytes of events that were written
	err      error               // the first failure to write; only Send and flush set it
	raised   *guardbook.Decision // the block that ended the stream as an error

	mu     sync.Mutex // guards w and what follows
	buf    []byte
	dirty  bool
	since  time.Time // when what is not yet sent was first written
	sent   bool      // the first event was sent
	closed bool
	last   time.Time
	timer  *time.Timer
}

// newOut begins to write. every is how long the stream may stay silent before a
// keep-alive; 0: for ever.
func newOut(w http.ResponseWriter, p Protocol, timeout, every time.Duration) *Out {
	o := &Out{w: w, rc: http.NewResponseController(w), timeout: timeout, keepAlive: p.KeepAlive(), every: every, last: time.Now()}
	if every > 0 {
		o.timer = time.AfterFunc(every, o.tick)
	}
	return o
}

// Send writes one event. A failure ends the stream after the event.
func (o *Out) Send(eventType, data string) {
	if o.raised != nil {
		return // the client has been told that there is no more
	}
	o.send(eventType, data)
}

func (o *Out) send(eventType, data string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = sse.Append(o.buf[:0], eventType, data)
	o.deadline()
	n, err := o.w.Write(o.buf)
	o.released += int64(n)
	now := time.Now()
	if !o.dirty {
		o.dirty, o.since = true, now
	}
	if err != nil && o.err == nil {
		o.err = err
	}
	// Events that came together are sent together, but the first does not wait until
	// all of them have been decided on.
	if first := !o.sent; first || now.Sub(o.since) > patience {
		o.sent = true
		o.flushNow()
	}
}

// flush sends what was written.
func (o *Out) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirty && o.released > 0 {
		return
	}
	o.flushNow()
}

// flushNow is flush, under the lock.
func (o *Out) flushNow() {
	o.deadline()
	if err := o.rc.Flush(); err != nil && o.err == nil {
		o.err = err
	}
	o.dirty, o.last = false, time.Now()
}

// deadline gives the client its time to take what is written next.
func (o *Out) deadline() {
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.timeout)) // a writer without deadlines has no slow clients: a test's recorder
}

// tick writes a keep-alive when nothing was sent for a while.
func (o *Out) tick() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if silent := time.Since(o.last); silent < o.every {
		o.timer.Reset(o.every - silent)
		return
	}
	o.deadline()
	if _, err := o.w.Write(o.keepAlive); err == nil {
		_ = o.rc.Flush() // a dead client shows at the next event
	}
	o.last = time.Now()
	o.timer.Reset(o.every)
}

// close ends the writing: no keep-alive is under way when it returns.
func (o *Out) close() {
	o.flush()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
	_ = o.rc.SetWriteDeadline(time.Time{})
}
