package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policies"
)

const (
	// pollEvery is how often a store looks at its directory.
	pollEvery = 500 * time.Millisecond
	// maxFiles bounds the number of policy files in a directory.
	maxFiles = 1000
)

// The triggers of an attempt to load policy, as a PolicyEntry names them.
const (
	TriggerStart = "start"
	TriggerFile  = "file_change"
	TriggerAPI   = "api"
)

// Recorder writes entries that are on disk when it returns.
type Recorder interface {
	AppendDurable(ctx context.Context, d ...guardbook.Draft) error
}

// Store holds the bundle in force and keeps it in step with a directory of
// policy files. Each attempt to load policy is an entry that is durable before
// the bundle is in force, and a bundle that was ever in force can be read back by
// its hash. A state of the directory that cannot be used (a bad file, a half
// written one, no file at all) never replaces a bundle in force.
type Store struct {
	dir  string
	kept kept
	rec  Recorder
	log  *slog.Logger

	current atomic.Pointer[Bundle]
	warmed  atomic.Bool // what arguments are parsed with was started, or could not be

	mu   sync.Mutex // held during an attempt
	seen string     // fingerprint of the directory's state at the last attempt
}

// OpenStore loads the policies in dir, and keeps in bundles every bundle that
// comes into force. A directory that does not exist is created and filled with
// the starter policies. If the policies cannot be used, the bundle that was in force last
// stays in force and the attempt is recorded as rejected; without one OpenStore
// fails, for nothing may run without policy.
func OpenStore(ctx context.Context, dir, bundles string, rec Recorder, log *slog.Logger) (*Store, error) {
	s := &Store{dir: dir, kept: kept{bundles}, rec: rec, log: log}
	if err := s.kept.create(); err != nil {
		return nil, err
	}
	if err := fill(dir); err != nil {
		return nil, err
	}
	last, lastErr := s.kept.last()
	if last != nil {
		s.current.Store(last)
	} else if lastErr != nil {
		log.Error("the bundle that was in force last cannot be read", "error", lastErr.Error())
	}
	err := s.load(ctx, TriggerStart)
	var rejected *RejectedError
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &rejected) && last != nil:
		log.Warn("the policies in the directory cannot be used; the bundle that was in force last stays in force", "dir", dir, "bundle", last.Hash)
		return s, nil
	case lastErr != nil:
		return nil, fmt.Errorf("load policy: %w", errors.Join(err, fmt.Errorf("read the bundle that was in force last: %w", lastErr)))
	default:
		return nil, fmt.Errorf("load policy: %w", err)
	}
}

// Current returns the bundle in force; it is never nil.
func (s *Store) Current() *Bundle { return s.current.Load() }

// Bundle returns a bundle that was in force at some time, by its hash. The hash
// of the bundle and of each file is checked.
func (s *Store) Bundle(hash string) (*Bundle, error) {
	if b := s.Current(); b != nil && b.Hash == hash {
		return b, nil
	}
	return s.kept.read(hash)
}

// Run looks at the directory every half second and loads what changed, until ctx
// is done. It returns ctx's error.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	s.warm(ctx)
	s.warmed.Store(true)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		s.warm(ctx)
		s.mu.Lock()
		if snapshot(s.dir).fingerprint != s.seen {
			if err := s.attempt(ctx, TriggerFile); err != nil && ctx.Err() == nil {
				s.log.Warn("policy was not loaded; the bundle in force stays in force", "error", err.Error())
			}
		}
		s.mu.Unlock()
	}
}

func (s *Store) warm(ctx context.Context) {
	if err := s.Current().warm(ctx); err != nil {
		s.log.Error("arguments of type sql are refused", "error", err.Error())
	}
}

// Warming reports whether Run still starts what the policies' arguments are parsed
// with: a decision on SQL would wait for it, longer than a caller does.
func (s *Store) Warming() bool { return !s.warmed.Load() && s.Current().usesSQL() }

// Reload loads the directory now, whether it changed or not. Trigger is recorded.
// A *RejectedError says that the policies cannot be used.
func (s *Store) Reload(ctx context.Context, trigger string) error { return s.load(ctx, trigger) }

// RejectedError says why the policies of a directory were not loaded; the attempt
// is in the book.
type RejectedError struct{ Err error }

func (e *RejectedError) Error() string { return e.Err.Error() }
func (e *RejectedError) Unwrap() error { return e.Err }

func (s *Store) load(ctx context.Context, trigger string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempt(ctx, trigger)
}

// attempt reads, checks, keeps, records and only then swaps. The caller holds s.mu.
func (s *Store) attempt(ctx context.Context, trigger string) error {
	state := snapshot(s.dir)
	entry := guardbook.PolicyEntry{Trigger: trigger, Files: state.refs(), Policies: []guardbook.PolicyRef{}}
	current := s.Current()
	if current != nil {
		entry.Bundle = current.Hash
	}
	bundle, err := (*Bundle)(nil), state.err
	if err == nil {
		bundle, err = NewBundle(state.files)
	}
	if err != nil {
		entry.Outcome, entry.Error = "rejected", clip(err.Error())
		if len(state.files) > 0 {
			entry.Rejected = hashOf(state.files)
		}
		if current != nil {
			entry.Policies = current.Refs()
		}
		if err := s.record(ctx, entry); err != nil {
			return err // not seen: recorded at the next look
		}
		s.seen = state.fingerprint
		return &RejectedError{err}
	}
	if err := s.kept.write(bundle, state.files); err != nil {
		return fmt.Errorf("keep bundle %s: %w", bundle.Hash, err)
	}
	entry.Outcome, entry.Previous, entry.Bundle, entry.Policies = "applied", entry.Bundle, bundle.Hash, bundle.Refs()
	if err := s.record(ctx, entry); err != nil {
		return err
	}
	s.current.Store(bundle)
	s.seen = state.fingerprint
	if err := s.kept.setLast(bundle.Hash); err != nil {
		// The bundle is in force and recorded; only a start with broken policies
		// would fall back to an older one.
		s.log.Error("the bundle in force could not be noted for the next start", "bundle", bundle.Hash, "error", err.Error())
	}
	return nil
}

func (s *Store) record(ctx context.Context, e guardbook.PolicyEntry) error {
	if err := s.rec.AppendDurable(ctx, guardbook.Draft{Type: guardbook.TypePolicy, Body: e}); err != nil {
		return fmt.Errorf("record the attempt to load policy: %w", err)
	}
	return nil
}

// clip bounds an error's text for an entry.
func clip(s string) string {
	const most = 8 << 10
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "\n... (cut)"
}

// state is a directory of policies at one moment.
type state struct {
	files       []File
	err         error // why it cannot be read as a whole
	fingerprint string
}

// snapshot reads every policy file of dir. What other files lie there does not matter.
func snapshot(dir string) state {
	files, err := ReadDir(dir)
	if err != nil {
		return state{err: err, fingerprint: "error: " + err.Error()}
	}
	return state{files: files, fingerprint: hashOf(files)}
}

func (s state) refs() []guardbook.PolicyFile {
	refs := make([]guardbook.PolicyFile, len(s.files))
	for i, f := range s.files {
		refs[i] = guardbook.PolicyFile{Name: f.Name, SHA256: sum(f.Source)}
	}
	return refs
}

// ReadDir reads the policy files (*.yaml, *.yml) of a directory, sorted by name;
// symbolic links are followed. Hidden files and every other file are ignored,
// and so are folders. A file above the size limit is cut one byte behind it, so
// that Parse refuses it.
func ReadDir(dir string) ([]File, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read policy directory: %w", err)
	}
	var files []File
	for _, e := range list {
		name := e.Name()
		if ext := filepath.Ext(name); strings.HasPrefix(name, ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read policy file: %w", err)
		}
		if info.IsDir() {
			continue
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("read policy file: %s is not a regular file", path)
		}
		src, err := readLimited(path)
		if err != nil {
			return nil, fmt.Errorf("read policy file: %w", err)
		}
		if files = append(files, File{Name: name, Source: src}); len(files) > maxFiles {
			return nil, fmt.Errorf("read policy directory: %s holds more than %d policy files", dir, maxFiles)
		}
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return files, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFileSize+1))
}

// fill creates dir with the starter policies if it does not exist.
func fill(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or its own error says more when it is read
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("create policy directory: %w", err)
	}
	names, err := fs.Glob(policies.FS, "*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		src, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			return fmt.Errorf("starter policy: %w", err)
		}
		if err := writeFile(filepath.Join(dir, name), src, 0o640); err != nil {
			return fmt.Errorf("write starter policy: %w", err)
		}
	}
	return nil
}
