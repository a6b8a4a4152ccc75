package client

import (
	"sync"
	"time"
)

const (
	breakerFailures = 5
	breakerWindow   = 10 * time.Second
	breakerOpen     = 5 * time.Second
)

// breaker stops asking a server that does not answer: five failures within ten
// seconds open it for five, then one question probes.
type breaker struct {
	now func() time.Time

	mu       sync.Mutex
	failures []time.Time
	until    time.Time // open until then; zero: closed
	probing  bool
}

// allow reports whether the server may be asked.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return true
	case b.now().Before(b.until) || b.probing:
		return false
	}
	b.probing = true
	return true
}

// succeeded closes the breaker.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.until, b.probing = b.failures[:0], time.Time{}, false
}

// failed counts a failure.
func (b *breaker) failed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.probing {
		b.until, b.probing = now.Add(breakerOpen), false
		return
	}
	kept := b.failures[:0]
	for _, t := range b.failures {
		if now.Sub(t) < breakerWindow {
			kept = append(kept, t)
		}
	}
	b.failures = append(kept, now)
	if len(b.failures) >= breakerFailures {
		b.until = now.Add(breakerOpen)
	}
}
