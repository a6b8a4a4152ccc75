// Package embedded is the guard as a library: a whole Guardbook within the program,
// with its book in a directory of yours, and no server, port or second process.
//
//	guard, err := embedded.Open(ctx, embedded.Options{Agent: "billing-bot", Data: "guardbook-data"})
//	defer guard.Close()
//	openaiClient := openai.NewClient(option.WithMiddleware(guard.Middleware()))
//
// One program at a time can hold a data directory. `guardbook book verify` and
// `guardbook evidence build` read it offline.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/guardbook/guardbook/client"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/instance"
	"github.com/guardbook/guardbook/local"
)

// Options are what a Guard is made of. Agent and Data are required.
type Options struct {
	Agent string
	Data  string // data directory
	// Policies is the directory of policies; default DATA/policies, which gets the
	// starter policy in monitor mode when it does not exist.
	Policies string
	// Durability is strict (the default) or balanced.
	Durability string
	// Listen, if not empty, opens the server's doors on this address, too: dashboard,
	// API, other agents. For example 127.0.0.1:8787.
	Listen string
	// Client holds further options of the client; Agent, URL, Key and Transport in it
	// are set here.
	Client client.Options
	Log    *slog.Logger // default slog.Default()
}

// Guard is a guard within the program.
type Guard struct {
	*client.Guard
	stop context.CancelFunc
	done chan error
	url  string
}

// Open starts the instance and returns its guard. ctx bounds the start only.
func Open(ctx context.Context, o Options) (*Guard, error) {
	if o.Agent == "" || o.Data == "" {
		return nil, errors.New("guardbook: embedded.Options needs Agent and Data")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	flags := map[string]string{"data": o.Data, "policies": o.Policies, "durability": o.Durability, "listen": o.Listen}
	none := func(string) string { return "" } // a library takes nothing from the environment behind its caller's back
	cfg, err := instance.Load(flags, none, "")
	if err != nil {
		return nil, fmt.Errorf("guardbook: %w", err)
	}
	cfg.ClientUpstreams = "any" // agent and guard are one program
	if o.Policies == "" {
		if err := local.StarterPolicy(filepath.Join(o.Data, "policies")); err != nil {
			return nil, fmt.Errorf("guardbook: %w", err)
		}
	}
	var pipes *listener
	if o.Listen == "" {
		pipes = newListener()
		cfg.Listener = pipes
	}
	inst, err := instance.Start(ctx, cfg, derive.Tool{Version: "embedded"}, o.Log)
	if err != nil {
		return nil, fmt.Errorf("guardbook: %w", err)
	}
	running, stop := context.WithCancel(context.Background())
	g := &Guard{stop: stop, done: make(chan error, 1), url: inst.URL()}
	go func() { g.done <- inst.Run(running) }()
	key, err := inst.AgentKey(ctx, o.Agent)
	if err == nil {
		c := o.Client
		c.Agent, c.URL, c.Key, c.Log = o.Agent, g.url, key, o.Log
		if c.Data == "" {
			c.Data = o.Data
		}
		if pipes != nil {
			c.Transport = &http.Transport{DialContext: pipes.dial, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second, DisableCompression: true}
		}
		g.Guard, err = client.New(c)
	}
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("guardbook: %w", err), <-g.done)
	}
	return g, nil
}

// URL is where the instance's doors are, when Options.Listen opened them.
func (g *Guard) URL() string { return g.url }

// Close tells what is still to be told, lets running answers end, and closes the book.
func (g *Guard) Close() error {
	err := g.Guard.Close()
	g.stop()
	if runErr := <-g.done; runErr != nil && !errors.Is(runErr, os.ErrClosed) {
		err = errors.Join(err, runErr)
	}
	return err
}
