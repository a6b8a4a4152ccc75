package access

import (
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// LimitedError says that too many logins failed and when to try again.
type LimitedError struct {
	After time.Duration
}

func (e *LimitedError) Error() string {
	return fmt.Sprintf("too many failed logins: try again in %s", e.After.Round(time.Second))
}

// Failed logins that are let through before the wait begins, and how fast they
// come back: by the caller's address, and by the account that is tried.
const (
	addressBurst, addressEvery = 10, 6 * time.Second
	accountBurst, accountEvery = 5, 30 * time.Second
	limitsKept                 = 4096 // the least recently used are forgotten: bounded memory
)

// limits counts failed logins. Only failures use up tokens, so that an operator
// who knows the password is never counted out by own logins.
type limits struct {
	address, account *lru.Cache[string, *rate.Limiter]
}

func newLimits() limits {
	address, err1 := lru.New[string, *rate.Limiter](limitsKept)
	account, err2 := lru.New[string, *rate.Limiter](limitsKept)
	if err1 != nil || err2 != nil {
		panic("limitsKept is positive") // the only error of lru.New
	}
	return limits{address, account}
}

// allow takes one try of both; give it back with the returned function when the
// login succeeds.
func (l limits) allow(now time.Time, address, account string) (giveBack func(), err error) {
	a := limiter(l.address, address, addressBurst, addressEvery).ReserveN(now, 1)
	b := limiter(l.account, account, accountBurst, accountEvery).ReserveN(now, 1)
	undo := func() { a.CancelAt(now); b.CancelAt(now) }
	if wait := max(a.DelayFrom(now), b.DelayFrom(now)); wait > 0 {
		undo()
		return nil, &LimitedError{After: wait}
	}
	return undo, nil
}

func limiter(c *lru.Cache[string, *rate.Limiter], key string, burst int, every time.Duration) *rate.Limiter {
	fresh := rate.NewLimiter(rate.Every(every), burst)
	if old, ok, _ := c.PeekOrAdd(key, fresh); ok {
		c.Get(key) // marks it as used
		return old
	}
	return fresh
}
