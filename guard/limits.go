package guard

import (
	"sync"
	"time"
)

// limits counts what an agent did in the last minute. A window is exact: of any
// minute's span, no more than n are let through.
type limits struct {
	mu      sync.Mutex
	windows map[limitKey]*window
}

type limitKey struct{ tenant, agent, limit string }

// window holds the times of the last n that were let through, oldest at next.
type window struct {
	times []time.Time
	next  int
}

// allow reports whether one more fits under n a minute, and counts it if so.
func (l *limits) allow(key limitKey, n int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[key]
	if w == nil || len(w.times) != n {
		if l.windows == nil {
			l.windows = map[limitKey]*window{}
		}
		w = resize(w, n)
		l.windows[key] = w
	}
	if n == 0 {
		return false
	}
	if oldest := w.times[w.next]; !oldest.IsZero() && now.Sub(oldest) < time.Minute {
		return false
	}
	w.times[w.next] = now
	w.next = (w.next + 1) % n
	return true
}

// resize keeps the newest times when a policy changes its limit: a reload gives
// nobody a fresh allowance.
func resize(old *window, n int) *window {
	w := &window{times: make([]time.Time, n)}
	if old == nil || n == 0 {
		return w
	}
	var kept []time.Time
	for i := range old.times { // oldest first
		if t := old.times[(old.next+i)%len(old.times)]; !t.IsZero() {
			kept = append(kept, t)
		}
	}
	if len(kept) > n {
		kept = kept[len(kept)-n:]
	}
	copy(w.times, kept)
	w.next = len(kept) % n
	return w
}
