package stdio

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// outboxFull is how much may wait to be written before a producer waits: a side
	// that does not read holds back the other one.
	outboxFull = 1 << 20
	// outboxLimit is how much may wait of what nobody can be held back for.
	outboxLimit = 64 << 20
)

// outbox writes messages, one a line, in the order in which they are put.
type outbox struct {
	w      io.Writer
	failed func() // called when w takes nothing more
	mu     sync.Mutex
	change sync.Cond
	queue  [][]byte
	size   int
	err    error
	closed bool
	done   chan struct{}
}

func newOutbox(w io.Writer, failed func()) *outbox {
	o := &outbox{w: w, failed: failed, done: make(chan struct{})}
	o.change.L = &o.mu
	go o.run()
	return o
}

func (o *outbox) run() {
	defer close(o.done)
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.change.Wait()
		}
		batch := o.queue
		o.queue = nil
		o.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, m := range batch {
			_, err := o.w.Write(m)
			o.mu.Lock()
			o.size -= len(m)
			if err != nil && o.err == nil {
				o.err = err
			}
			err = o.err
			o.change.Broadcast()
			o.mu.Unlock()
			if err != nil {
				o.failed()
				return
			}
		}
	}
}

// put adds a message. With wait it returns once little is left to write, so that
// its producer is no faster than the reader; without, at once: for answers to the
// other side's messages, which must not wait for a side that itself waits.
func (o *outbox) put(message []byte, wait bool) error {
	line := append(append(make([]byte, 0, len(message)+1), message...), '\n')
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && o.closed {
		return io.ErrClosedPipe
	}
	if !wait && o.size > outboxLimit {
		o.err = fmt.Errorf("%d bytes wait for a reader that does not read", o.size)
	}
	if o.err != nil {
		return o.err
	}
	o.queue = append(o.queue, line)
	o.size += len(line)
	o.change.Broadcast()
	for wait && o.err == nil && o.size > outboxFull {
		o.change.Wait()
	}
	return o.err
}

// close waits until everything is written, but not for long.
func (o *outbox) close(within time.Duration) {
	o.mu.Lock()
	o.closed = true
	o.change.Broadcast()
	o.mu.Unlock()
	select {
	case <-o.done:
	case <-time.After(within):
	}
}
