// Package canary gives evidence that the detectors worked all the time: the running
// instance plays marked test interactions through its own entry paths, over HTTP to
// its own listener, and writes into the book what should have been found and what was.
//
// The test agent's key exists in memory only, nobody can register an agent of its
// name (guardbook.CanaryAgent), and the gateway answers it from within the process:
// nothing of a test reaches a provider. Its decisions are in the book like all
// others. Its policy is its own and redacts the marker, so that a test sees both
// that the marker was found and that it went no further.
package canary

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
)

// The marker that every test carries, and the rule that finds it (rules/canary.yaml).
const (
	Marker = "GUARDBOOK-CANARY-5E1F7C93A2B84D06"
	Rule   = "canary/marker"
)

const (
	firstAfter  = 5 * time.Second
	testTimeout = 30 * time.Second
	// settleFor is how long a test waits for its decisions to be in the book after
	// it has the answer: a book that is not strict writes a little later.
	settleFor = 200 * time.Millisecond
)

// Book is the part of the book that is read.
type Book interface {
	Size() int64
	Read(ctx context.Context, from int64, limit int) ([]guardbook.Entry, error)
}

// Recorder writes the results.
type Recorder interface {
	Record(ctx context.Context, drafts ...guardbook.Draft) error
}

// Options are what a Player is made of. All but Every and Log are required.
type Options struct {
	URL      string // where the instance listens, seen from itself
	Keys     *Keys
	Book     Book
	Recorder Recorder
	Every    time.Duration // between two rounds; 0: no tests are played
	// MCP lists the tests of MCP servers that the instance guards; nil: none.
	MCP func() []Test
	Log *slog.Logger
}

// Player plays the tests.
type Player struct {
	o      Options
	client *http.Client
	round  int
}

// New returns a player.
func New(o Options) *Player {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// To the own listener, without a proxy and without following anything.
	return &Player{o: o, client: &http.Client{Timeout: testTimeout, Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Run plays rounds until ctx ends. The first one has every test; in the later ones
// each entry path plays one of its tests, in turn, so that the book does not fill
// with tests and each test comes again within about an hour.
func (p *Player) Run(ctx context.Context) error {
	if p.o.Every <= 0 {
		return nil
	}
	defer p.client.CloseIdleConnections()
	timer := time.NewTimer(min(firstAfter, p.o.Every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		started := time.Now()
		p.Play(ctx, p.next())
		p.client.CloseIdleConnections()
		timer.Reset(max(p.o.Every-time.Since(started), time.Second))
	}
}

// next chooses the tests of a round.
func (p *Player) next() []Test {
	all := Tests()
	if p.o.MCP != nil {
		all = append(all, p.o.MCP()...)
	}
	round := p.round
	p.round++
	if round == 0 {
		return all
	}
	var out []Test
	var done []string
	for _, t := range all {
		if slices.Contains(done, t.Path) {
			continue
		}
		done = append(done, t.Path)
		var of []Test
		for _, o := range all {
			if o.Path == t.Path {
				of = append(of, o)
			}
		}
		out = append(out, of[(round-1)%len(of)])
	}
	return out
}

// Play plays tests, one after the other, and records each. It ends early with ctx:
// a test that was cut off says nothing, and is not recorded.
func (p *Player) Play(ctx context.Context, tests []Test) []guardbook.CanaryEntry {
	var out []guardbook.CanaryEntry
	for _, t := range tests {
		e := p.play(ctx, t)
		if ctx.Err() != nil {
			return out
		}
		out = append(out, e)
		if !e.OK {
			p.o.Log.Error("a test interaction was not caught", "path", e.Path, "cell", e.Cell, "expected", e.Expected, "got", e.Got)
		}
		if err := p.o.Recorder.Record(ctx, guardbook.Draft{Type: guardbook.TypeCanary, Body: e}); err != nil {
			p.o.Log.Error("a test interaction's result could not be recorded", "path", e.Path, "cell", e.Cell, "error", err)
		}
	}
	return out
}

// play plays one test.
func (p *Player) play(ctx context.Context, t Test) guardbook.CanaryEntry {
	e := guardbook.CanaryEntry{Agent: guardbook.CanaryAgent, Path: t.Path, Cell: t.Cell, Decisions: []string{},
		Expected: fmt.Sprintf("%s found in %s by %s, and redacted", Rule, t.Kind, t.Path)}
	session := "canary-" + uuid.Must(uuid.NewV7()).String()
	from := p.o.Book.Size()
	start := time.Now()
	got := t.send(ctx, p, session)
	e.Micros = time.Since(start).Microseconds()
	seen, err := p.look(ctx, from, session, t)
	e.Decisions = append(e.Decisions, seen.decisions...)
	switch {
	case err != nil:
		e.Got = "the book could not be read"
	case seen.containment != "":
		e.OK, e.Containment, e.Got = true, seen.containment, "stopped by a containment: nothing is known"
	case !seen.found && seen.failed != "":
		e.Got = "no finding: " + seen.failed + "; " + got.said
	case !seen.found:
		e.Got = fmt.Sprintf("no finding in %d decisions; %s", len(seen.decisions), got.said)
	case got.problem != "":
		e.Got = "found; but " + got.problem
	default:
		e.OK, e.Got = true, "found, and redacted"
	}
	return e
}
