package verify

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
)

// checked is a record with everything about it that can be computed without its
// neighbours, so that many are worked on at once.
type checked struct {
	Record
	err    error // the source could not give this record
	leaf   tlog.Hash
	header guardbook.Header
	rec    time.Time
	bad    error // why the bytes are no well-formed entry
	start  *guardbook.StartEntry
	beat   time.Duration // a heartbeat's interval
}

// entry is what is read of an entry in one go.
type entry struct {
	guardbook.Header
	Interval jsontext.Value `json:"interval_ms"`
}

func check(r Record, err error) checked {
	c := checked{Record: r, err: err}
	if err != nil {
		return c
	}
	c.leaf = tlog.RecordHash(r.Raw)
	canonical := jsontext.Value(bytes.Clone(r.Raw))
	if err := canonical.Canonicalize(); err != nil {
		c.bad = fmt.Errorf("it is no strict JSON: %w", err)
		return c
	}
	if !bytes.Equal(canonical, r.Raw) {
		c.bad = errors.New("it is not in canonical form (RFC 8785)")
		return c
	}
	var e entry
	if c.bad = json.Unmarshal(r.Raw, &e); c.bad != nil {
		return c
	}
	c.header = e.Header
	if e.V != guardbook.EntryVersion {
		c.bad = fmt.Errorf("version %d is not known", e.V)
		return c
	}
	if c.rec, c.bad = time.Parse(guardbook.TimeLayout, e.Rec); c.bad != nil {
		return c
	}
	if _, c.bad = time.Parse(guardbook.TimeLayout, e.TS); c.bad != nil {
		return c
	}
	switch e.Type {
	case guardbook.TypeStart:
		c.start = new(guardbook.StartEntry)
		c.bad = json.Unmarshal(r.Raw, c.start)
	case guardbook.TypeHeartbeat:
		var ms int64
		if c.bad = json.Unmarshal(e.Interval, &ms); c.bad == nil {
			c.beat = time.Duration(ms) * time.Millisecond
		}
	}
	return c
}

const (
	batchRecords = 256
	batchBytes   = 1 << 20
	maxWorkers   = 4
)

type batch struct {
	in   []Record
	errs []error
	out  []checked
	done chan struct{}
}

// checkAll checks records on all processors and gives them in their order. No
// more than a few batches are in memory at a time.
func checkAll(ctx context.Context, records iter.Seq2[Record, error]) iter.Seq[checked] {
	return func(yield func(checked) bool) {
		ctx, cancel := context.WithCancel(ctx)
		workers := min(runtime.GOMAXPROCS(0), maxWorkers)
		work, ordered := make(chan *batch, workers), make(chan *batch, 2*workers)
		finished := make(chan struct{})
		defer func() {
			cancel()
			for range ordered { // until the reader has closed it
			}
			for range workers {
				<-finished
			}
		}()
		for range workers {
			go func() {
				defer func() { finished <- struct{}{} }()
				for b := range work {
					b.out = make([]checked, len(b.in))
					for i, r := range b.in {
						b.out[i] = check(r, b.errs[i])
					}
					close(b.done)
				}
			}()
		}
		go func() {
			defer close(ordered)
			defer close(work)
			b, size := &batch{done: make(chan struct{})}, 0
			send := func() bool {
				if len(b.in) == 0 {
					return true
				}
				select {
				case ordered <- b:
				case <-ctx.Done():
					return false
				}
				work <- b
				b, size = &batch{done: make(chan struct{})}, 0
				return true
			}
			for r, err := range records {
				b.in, b.errs = append(b.in, r), append(b.errs, err)
				if size += len(r.Raw); len(b.in) == batchRecords || size > batchBytes {
					if !send() {
						return
					}
				}
			}
			send()
		}()
		for b := range ordered {
			<-b.done
			for _, c := range b.out {
				if !yield(c) {
					return
				}
			}
		}
	}
}
