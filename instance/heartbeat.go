package instance

import (
	"context"
	"time"

	"github.com/guardbook/guardbook"
)

// heartbeatEvery is the time between two heartbeats. Silence for longer is a gap
// in coverage, and the evidence says so.
const heartbeatEvery = 30 * time.Second

// beat writes heartbeats until ctx ends. A beat that the book does not take is
// not made up for: the gap is the truth.
func (i *Instance) beat(ctx context.Context) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		if err := i.guard.Record(ctx, i.heartbeat()); err != nil {
			i.log.Warn("heartbeat not written", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (i *Instance) heartbeat() guardbook.Draft {
	return guardbook.Draft{Type: guardbook.TypeHeartbeat, Body: guardbook.HeartbeatEntry{
		Boot: i.boot, Uptime: time.Since(i.started).Milliseconds(), Interval: heartbeatEvery.Milliseconds(),
		Bundle: i.guard.Bundle(), Counters: i.guard.Counters(), Calls: i.guard.Calls(),
	}}
}
