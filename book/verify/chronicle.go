package verify

import (
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook"
)

const (
	// defaultBeat is the interval between heartbeats until one says another.
	defaultBeat = 30 * time.Second
	// beatSlack is added to twice the interval: a busy machine may be late.
	beatSlack = 5 * time.Second
)

// chronicle follows an instance's life through its log: when it came up and went
// down, and whether it gave a sign of life in between.
type chronicle struct {
	v       *verifier
	running bool      // between a start and a stop
	sign    time.Time // of the last sign of life: start, heartbeat
	beat    time.Duration
	rec     time.Time
	last    guardbook.EntryType
	maxGap  time.Duration
}

func (k *chronicle) record(c checked) {
	out := k.v.out
	if c.rec.Before(k.rec) {
		out.Regressions++
		k.v.problem("time", c.Seq, c.File, c.Offset, "not before "+out.Last, c.header.Rec, "the time of recording went back")
	}
	switch c.header.Type {
	case guardbook.TypeStart:
		out.Starts++
		if c.Seq > 0 && k.last != guardbook.TypeStop {
			out.Unclean++
		}
		k.start(c)
		k.running, k.sign = true, c.rec
	case guardbook.TypeHeartbeat:
		out.Heartbeats++
		if k.beat == 0 {
			k.beat = c.beat
		}
		k.alive(c.rec)
		k.beat = c.beat
	case guardbook.TypeStop:
		k.alive(c.rec)
		k.running = false
	}
	k.rec, k.last = c.rec, c.header.Type
}

// alive notes a sign of life and how long it was awaited.
func (k *chronicle) alive(at time.Time) {
	if k.running {
		k.silence(at)
	}
	k.running, k.sign = true, at
}

func (k *chronicle) silence(until time.Time) {
	beat := k.beat
	if beat <= 0 {
		beat = defaultBeat
	}
	gap := until.Sub(k.sign)
	if gap > k.maxGap {
		k.maxGap = gap
		k.v.out.MaxGap = span(k.sign, until)
	}
	if gap > 2*beat+beatSlack {
		k.v.report.gap(Gap{
			Kind: "heartbeat", Log: k.v.out.Origin,
			From: k.sign.Format(guardbook.TimeLayout), To: until.Format(guardbook.TimeLayout),
			Message: "no heartbeat for " + span(k.sign, until) + ", with one due every " + beat.String(),
		})
	}
}

// start compares what a start entry says with where it stands.
func (k *chronicle) start(c checked) {
	v, s := k.v, c.start
	if s.Previous != c.Seq-1 {
		v.problem("start", c.Seq, c.File, c.Offset, c.Seq-1, s.Previous, "the start entry names another entry as the one before it")
	}
	if v.log.Epoch != 0 && s.Epoch != v.log.Epoch {
		v.problem("epoch", c.Seq, c.File, c.Offset, v.log.Epoch, s.Epoch, "the start entry is of another epoch")
	}
	if s.Lost != "" {
		v.report.gap(Gap{Kind: "lost", Log: v.out.Origin, From: c.header.Rec, Message: "the log began anew because of losses: " + s.Lost})
	} else if s.Epoch > 1 && c.Seq == 0 {
		v.problem("epoch", c.Seq, c.File, c.Offset, nil, nil, "the log began anew and its start entry doesn't say what was lost")
	}
	if s.Key == "" || v.out.Fingerprint == "" {
		return
	}
	if _, err := note.NewVerifier(s.Key); err != nil {
		v.problem("start", c.Seq, c.File, c.Offset, nil, nil, "the start entry's key: %v", err)
		return
	}
	if public, err := publicKey(s.Key); err != nil || fingerprint(public) != v.out.Fingerprint {
		v.problem("start", c.Seq, c.File, c.Offset, v.out.Key, s.Key, "the start entry names another signing key")
	}
}

// finish closes the account: a log that ends without a stop entry belongs to an
// instance that runs, or was cut off.
func (k *chronicle) finish() {
	if k.running && !k.rec.IsZero() && k.rec.After(k.sign) {
		k.silence(k.rec)
	}
}
