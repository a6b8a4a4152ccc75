package guard

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook"
)

// degraded remembers what was done while the book could not be written.
type degraded struct {
	on   atomic.Bool // fast path: nothing to tell
	mu   sync.Mutex
	body guardbook.DegradedEntry
}

func (d *degraded) add(now time.Time, cause error, kind guardbook.Kind, refused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on.Load() {
		d.body = guardbook.DegradedEntry{
			From:    now.UTC().Format(guardbook.TimeLayout),
			Error:   cause.Error(),
			Refused: map[string]int64{},
			Allowed: map[string]int64{},
		}
		d.on.Store(true)
	}
	if refused {
		d.body.Refused[string(kind)]++
	} else {
		d.body.Allowed[string(kind)]++
	}
}

// take returns the interval and forgets it.
func (d *degraded) take(now time.Time) (guardbook.DegradedEntry, bool) {
	if !d.on.Load() {
		return guardbook.DegradedEntry{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on.Swap(false) {
		return guardbook.DegradedEntry{}, false
	}
	d.body.To = now.UTC().Format(guardbook.TimeLayout)
	return d.body, true
}

// restore puts back an interval that could not be written after all.
func (d *degraded) restore(body guardbook.DegradedEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.on.Swap(true) { // more happened meanwhile: keep the earlier beginning
		for k, n := range d.body.Refused {
			body.Refused[k] += n
		}
		for k, n := range d.body.Allowed {
			body.Allowed[k] += n
		}
	}
	d.body = body
}
