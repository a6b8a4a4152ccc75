package api

import (
	"context"
	"sync"
	"time"
)

// readWindow is how long further reads of the same thing by the same operator
// belong to the entry of the first. A dashboard asks every few seconds: without
// it the record of reads would be most of what there is to read.
const readWindow = 5 * time.Minute

// maxReads bounds the memory of who read what; when it is full it begins anew,
// which can only make more entries, never fewer.
const maxReads = 10_000

// reads knows which reads are in the book already.
type reads struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// first reports whether this is the first read of its window.
func (x *reads) first(key string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if at, ok := x.last[key]; ok && now.Sub(at) < readWindow {
		return false
	}
	if x.last == nil || len(x.last) >= maxReads {
		x.last = map[string]time.Time{}
	}
	x.last[key] = now
	return true
}

// forget makes the next read the first again.
func (x *reads) forget(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.last, key)
}

// read writes down that an operator reads evidence, before anything is shown:
// what cannot be recorded is not read. The same operator's reads of the same
// thing within readWindow are one entry.
func (a *api) read(ctx context.Context, op, by, what string, detail map[string]string) error {
	key := op + "\x00" + by + "\x00" + what
	if !a.reads.first(key, a.now()) {
		return nil
	}
	if err := a.record(ctx, op, by, detail); err != nil {
		a.reads.forget(key)
		return err
	}
	return nil
}
