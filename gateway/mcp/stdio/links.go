package stdio

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// How the way to the server is found again.
const (
	patience = 250 * time.Millisecond // that a message waits for a link that is lost
	retryMin = 100 * time.Millisecond
	retryMax = 3 * time.Second
)

// links keeps one link to the server, and opens another one when it is lost.
type links struct {
	find   func(context.Context) (Address, error)
	server string
	header http.Header
	// linked is told of every new link, stopped that the server ended everything.
	linked  func(Address)
	stopped func(text string)

	mu    sync.Mutex
	now   *link
	ready chan struct{} // closed while now is set
	given bool          // a message has waited in vain: the next ones need not
	first sync.Once
	why   error // the last try's
}

func newLinks() *links { return &links{ready: make(chan struct{})} }

// run opens links until ctx ends. tried is called after the first try.
func (ls *links) run(ctx context.Context, tried func(error)) {
	wait := retryMin
	for ctx.Err() == nil {
		l, err := ls.open(ctx)
		if err == nil {
			ls.set(l)
		}
		ls.first.Do(func() { tried(err) })
		if err != nil {
			ls.mu.Lock()
			ls.why = err
			ls.mu.Unlock()
			wait = pause(ctx, wait)
			continue
		}
		opened := time.Now()
		select {
		case <-ctx.Done():
			l.close()
			return
		case <-l.down:
		}
		ls.set(nil)
		if text := l.end.Load(); text != nil {
			ls.stopped(*text)
			return
		}
		if time.Since(opened) > retryMax {
			wait = retryMin
		} else {
			wait = pause(ctx, wait)
		}
	}
}

// pause waits, and returns for how long the next time.
func pause(ctx context.Context, wait time.Duration) time.Duration {
	select {
	case <-ctx.Done():
	case <-time.After(wait/2 + rand.N(wait/2)):
	}
	return min(2*wait, retryMax)
}

func (ls *links) open(ctx context.Context) (*link, error) {
	at, err := ls.find(ctx)
	if err != nil {
		return nil, err
	}
	l, err := dial(ctx, at, ls.server, ls.header)
	if err != nil {
		return nil, err
	}
	ls.linked(at)
	return l, nil
}

func (ls *links) set(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.now = l
	if l != nil {
		ls.given = false
		close(ls.ready)
	} else {
		ls.ready = make(chan struct{})
	}
}

// up reports whether there is a link, after waiting a little for one.
func (ls *links) up(ctx context.Context) bool {
	_, err := ls.get(ctx)
	return err == nil
}

// get returns the link. When there is none, it waits a little for the next one, once.
func (ls *links) get(ctx context.Context) (*link, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		ls.mu.Lock()
		l, ready, given, why := ls.now, ls.ready, ls.given, ls.why
		ls.mu.Unlock()
		if l != nil {
			select {
			case <-l.down: // and not taken away yet
				time.Sleep(time.Millisecond)
				continue
			default:
				return l, nil
			}
		}
		if given {
			if errors.Is(why, errUnreachable) {
				return nil, why
			}
			return nil, errUnreachable
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			ls.mu.Lock()
			ls.given = ls.now == nil
			ls.mu.Unlock()
		}
	}
}
