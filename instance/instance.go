// Package instance wires one running Guardbook: the book, the guard in front of
// it, the readers behind it, and the doors through which agents and operators
// come in.
package instance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/archive/sqlite"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/canary"
	"github.com/guardbook/guardbook/clients"
	"github.com/guardbook/guardbook/detect/pattern"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/guard"
	"github.com/guardbook/guardbook/local"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/respond"
	"github.com/guardbook/guardbook/respond/webhook"
	"github.com/guardbook/guardbook/rules"
)

// shutdownGrace is how long running answers may go on after the order to stop.
const shutdownGrace = 5 * time.Second

// Instance is one running Guardbook.
type Instance struct {
	cfg     *Config
	build   derive.Tool
	log     *slog.Logger
	boot    string
	started time.Time

	key          *book.Key
	first        bool // this is the first start on this data directory
	book         *book.Book
	archive      archive.Archive
	access       *access.Store
	policies     *policy.Store
	containments *respond.Containments
	alerts       *respond.Alerts
	clients      *clients.Clients
	engine       *pattern.Engine
	guard        *guard.Guard
	keys         *canary.Keys
	gateway      *gateway.Gateway
	mcp          mcpParts
	listener     net.Listener
	server       *http.Server
	stopping     chan struct{}
}

// Start opens everything and listens; Run serves. On an error nothing is left open.
func Start(ctx context.Context, cfg *Config, build derive.Tool, log *slog.Logger) (_ *Instance, err error) {
	i := &Instance{cfg: cfg, build: build, log: log, boot: uuid.Must(uuid.NewV7()).String(), started: time.Now(), stopping: make(chan struct{})}
	defer func() {
		if err != nil {
			i.close()
		}
	}()
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	// The port first: a second server on the same port must not touch the book.
	if i.listener = cfg.Listener; i.listener == nil {
		i.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w (guardbook doctor tells who has the port)", cfg.Listen, err)
		}
	}
	for _, step := range []func(context.Context) error{i.openBook, i.openReaders, i.openAccess, i.openGuard, i.openPins, i.openDoors} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// openBook opens the book and writes the start entry.
func (i *Instance) openBook(ctx context.Context) (err error) {
	if i.key, i.first, err = book.LoadKey(filepath.Join(i.cfg.Data, "signing-key")); err != nil {
		return err
	}
	pub := filepath.Join(i.cfg.Data, "signing-key.pub")
	if err := os.WriteFile(pub, []byte(i.key.Verifier()+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the verifier key: %w", err)
	}
	// The archive's cursor is a second witness of how far the book had come.
	if i.archive, err = sqlite.Open(ctx, filepath.Join(i.cfg.Data, "archive.db"), i.log); err != nil {
		return err
	}
	seenLog, seen, err := i.archive.Cursor(ctx)
	if err != nil {
		return fmt.Errorf("read the archive's cursor: %w", err)
	}
	i.book, err = book.Open(filepath.Join(i.cfg.Data, "book"), book.Options{
		Key: i.key, Durability: book.Durability(i.cfg.Durability), Log: i.log,
		HighWater: func(log string) int64 {
			if log == seenLog {
				return seen
			}
			return 0
		},
	})
	if err != nil {
		return err
	}
	if err := local.Withdraw(i.cfg.Data); err != nil { // of a run that was killed
		return fmt.Errorf("take back the address of the run before: %w", err)
	}
	if i.engine, err = loadRules(); err != nil {
		return err
	}
	opened := i.book.Opened()
	if opened.Lost != "" {
		i.log.Error("the book has lost entries and goes on in a new epoch", "epoch", opened.Epoch, "lost", opened.Lost)
	}
	_, err = i.book.AppendDurable(ctx, guardbook.Draft{Type: guardbook.TypeStart, Body: guardbook.StartEntry{
		Version: i.build.Version, Boot: i.boot, Clean: opened.Clean, Previous: opened.Previous, Epoch: opened.Epoch, Lost: opened.Lost,
		Durable: i.cfg.Durability, Detectors: i.engine.Layer() + " " + i.engine.Version(), Key: i.key.EpochVerifier(opened.Epoch),
		Config: i.cfg.Fingerprint(), Canaries: i.cfg.canariesSetting(),
	}})
	if err != nil {
		return fmt.Errorf("write the start entry: %w", err)
	}
	return nil
}

func loadRules() (*pattern.Engine, error) {
	pack, err := pattern.Load(rules.FS)
	if err != nil {
		return nil, fmt.Errorf("load the rule packs: %w", err)
	}
	return pattern.New(pack, pattern.Options{}), nil
}

// openReaders folds containments out of the book; alerts fold it themselves as
// they follow it.
func (i *Instance) openReaders(ctx context.Context) error {
	receivers, err := i.receivers()
	if err != nil {
		return err
	}
	if err := i.rebuild(ctx); err != nil {
		return err
	}
	rec := recorder{i.book}
	i.containments = respond.NewContainments(rec, i.log)
	i.clients = clients.New(clients.Options{Recorder: rec, Log: i.log})
	i.alerts = respond.NewAlerts(rec, receivers, respond.AlertOptions{
		Log: i.log, Link: func(alert string) string { return i.URL() + "/alerts/" + alert },
	})
	if err := i.history(ctx, []guardbook.EntryType{guardbook.TypeContainment}, time.Time{}, i.containments.Apply); err != nil {
		return err
	}
	if held := i.containments.List(); len(held) > 0 { // what they have stopped so far
		oldest := slices.MinFunc(held, func(a, b respond.Containment) int { return a.EffectiveAt.Compare(b.EffectiveAt) }).EffectiveAt
		counted := []guardbook.EntryType{guardbook.TypeDecision, guardbook.TypeStream}
		if err := i.history(ctx, counted, oldest, i.containments.Apply); err != nil {
			return err
		}
	}
	if i.book.Opened().Epoch == 1 {
		return nil
	}
	alerting := []guardbook.EntryType{guardbook.TypeDecision, guardbook.TypeCanary, guardbook.TypeTool, guardbook.TypeAlert, guardbook.TypeNotification}
	return i.history(ctx, alerting, time.Time{}, func(e guardbook.Entry) error {
		if e.Log == i.book.Origin() {
			return nil // Run reads this log by itself
		}
		return i.alerts.Apply(e)
	})
}

func (i *Instance) receivers() (map[string]respond.Receiver, error) {
	out := map[string]respond.Receiver{}
	all := map[string]Receiver{}
	for name, r := range i.cfg.Receivers {
		all[name] = r
	}
	if i.cfg.Webhook != "" {
		all["default"] = Receiver{Webhook: i.cfg.Webhook, Secret: i.cfg.WebhookSecret}
	}
	for name, r := range all {
		hook, err := webhook.New(r.Webhook, r.Secret)
		if err != nil {
			return nil, fmt.Errorf("receiver %q: %w", name, err)
		}
		out[name] = hook
	}
	return out, nil
}

func (i *Instance) openAccess(ctx context.Context) (err error) {
	i.access, err = access.Open(ctx, access.Options{
		Dir: i.cfg.Data, Recorder: recorder{i.book}, Log: i.log,
		History: func(ctx context.Context, fn func(guardbook.Entry) error) error {
			return i.history(ctx, []guardbook.EntryType{guardbook.TypeAgent}, time.Time{}, fn)
		},
		Find: func(ctx context.Context, id string) (bool, error) {
			_, err := i.book.Find(ctx, id)
			if errors.Is(err, book.ErrNotFound) {
				return false, nil
			}
			return err == nil, err
		},
	})
	return err
}

func (i *Instance) openGuard(ctx context.Context) error {
	commitment, err := secretFile(filepath.Join(i.cfg.Data, "commitment-key"))
	if err != nil {
		return err
	}
	i.policies, err = policy.OpenStore(ctx, i.cfg.Policies, filepath.Join(i.cfg.Data, "bundles"), recorder{i.book}, i.log)
	if err != nil {
		return err
	}
	i.guard = guard.New(guard.Options{
		Book: recorder{i.book}, Bundle: i.policies.Current, Containments: i.containments,
		Detectors: []guardbook.Detector{i.engine}, CommitmentKey: commitment, Log: i.log,
	})
	return nil
}

// secretFile reads a 32-byte secret, or makes one.
func secretFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == 32:
		return b, nil
	case err == nil:
		return nil, fmt.Errorf("read %s: %d bytes are in it, not 32; restore it from a backup, or move it away for a new key (older commitments can then no longer be opened)", path, len(b))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the commitment key: %w", err)
	}
	b = make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("write the commitment key: %w", err)
	}
	return b, nil
}

// URL is where the instance can be reached from this machine.
func (i *Instance) URL() string {
	host, port, err := net.SplitHostPort(i.listener.Addr().String())
	if err != nil {
		return "http://" + i.cfg.Listen
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// First reports whether this is the first start on this data directory.
func (i *Instance) First() bool { return i.first }

// Fingerprint is the signing key's fingerprint.
func (i *Instance) Fingerprint() string { return i.key.Fingerprint() }

// LoginLink makes a link that logs one operator in, once, within an hour.
func (i *Instance) LoginLink(ctx context.Context) (string, error) {
	token, _, err := i.access.NewOnce(ctx, "first start")
	if err != nil {
		return "", err
	}
	return i.URL() + "/login?once=" + token, nil
}

// Run serves until ctx ends, then lets running answers end, writes the stop entry
// and closes everything.
func (i *Instance) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	for name, fn := range map[string]func(context.Context) error{
		"archive":      func(ctx context.Context) error { return archive.Run(ctx, i.book, i.archive, i.log) },
		"alerts":       func(ctx context.Context) error { return i.alerts.Run(ctx, i.book, 0) },
		"containments": i.containments.Run,
		"clients":      func(ctx context.Context) error { return i.clients.Run(ctx, i.book) },
		"kills":        i.followKills,
		"policy":       i.policies.Run,
		"heartbeat":    func(ctx context.Context) error { i.beat(ctx); return nil },
		// With ctx: a test that the end of the run cuts off is no miss.
		"canaries": func(context.Context) error { return i.playCanaries(ctx) },
	} {
		wg.Go(func() {
			if err := fn(work); err != nil && work.Err() == nil {
				i.log.Error("a part of the server has stopped", "part", name, "error", err)
			}
		})
	}
	served := make(chan error, 1)
	go func() { served <- i.server.Serve(i.listener) }()
	if err := local.Announce(i.cfg.Data, local.Server{URL: i.URL(), PID: os.Getpid(), Version: i.build.Version}); err != nil {
		i.log.Warn("SDKs on this machine will not find the server by themselves", "error", err)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	close(i.stopping)
	if withdrawErr := local.Withdraw(i.cfg.Data); withdrawErr != nil {
		i.log.Warn("the server's address was not taken back", "error", withdrawErr)
	}
	grace, done := context.WithTimeout(context.Background(), shutdownGrace)
	defer done()
	if i.server.Shutdown(grace) != nil {
		_ = i.server.Close() // what is still running is cut: its stream entry says so
	}
	i.closeMCP()
	if appendErr := i.guard.Record(context.Background(), i.heartbeat(), guardbook.Draft{
		Type: guardbook.TypeStop, Body: guardbook.StopEntry{Boot: i.boot, Reason: "told to stop"},
	}); appendErr != nil {
		i.log.Error("the stop entry was not written", "error", appendErr)
	}
	cancel()
	wg.Wait()
	i.close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// followKills reads kills and lifts back from the book: one whose entry was written
// although the disk did not confirm it is not written again.
func (i *Instance) followKills(ctx context.Context) error {
	return i.book.Follow(ctx, i.book.Size(), func(entries []guardbook.Entry) error {
		for _, e := range entries {
			if e.Type == guardbook.TypeContainment {
				if err := i.containments.Apply(e); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// close closes whatever is open.
func (i *Instance) close() {
	if i.listener != nil {
		_ = i.listener.Close()
	}
	i.closeMCP()
	if i.gateway != nil {
		i.gateway.Close()
	}
	if i.access != nil {
		_ = i.access.Close()
	}
	if i.book != nil {
		if err := i.book.Close(); err != nil {
			i.log.Error("close the book", "error", err)
		}
	}
	if i.archive != nil {
		_ = i.archive.Close()
	}
}
