package client

import (
	"bufio"
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
)

const (
	spoolLimit  = 64 << 20
	batchEvents = 256
	batchBytes  = 900 << 10 // the server takes 1 MiB a call
)

// origin says whose events a spool holds, and for which server; it is the file's
// first line. Who has another key cannot send them.
type origin struct {
	Client string `json:"client"`
	Server string `json:"server"`
	Agent  string `json:"agent"`
	Key    string `json:"key"` // a fingerprint of the agent's key
}

// sameAs reports whether two clients are processes of one agent at one server.
func (o origin) sameAs(other origin) bool {
	return o.Server == other.Server && o.Agent == other.Agent && o.Key == other.Key
}

// spool is what could not be told yet, on disk: one append-only file for each client,
// locked for as long as its process lives.
type spool struct {
	mu    sync.Mutex
	file  *os.File
	lock  *flock.Flock
	start int64 // of the first event
	size  int64
	sent  int64 // everything before it is sent
	limit int64
}

func newSpool(dir string, o origin, limit int64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's directory: %w", err)
	}
	path := filepath.Join(dir, o.Client+".jsonl")
	lock := flock.New(path + ".lock")
	if ok, err := lock.TryLock(); !ok || err != nil {
		return nil, fmt.Errorf("lock the spool %s: %w", path, errors.Join(err, errInUse(ok)))
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		_ = lock.Unlock()
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	head, err := json.Marshal(o)
	if err == nil {
		_, err = f.Write(append(head, '\n'))
	}
	if err != nil {
		_ = f.Close()
		_ = lock.Unlock()
		return nil, fmt.Errorf("begin the spool: %w", err)
	}
	n := int64(len(head) + 1)
	return &spool{file: f, lock: lock, start: n, size: n, sent: n, limit: limit}, nil
}

func errInUse(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("another process has it")
}

// append writes an event and syncs it. full means that there is no room.
func (s *spool) append(event any) (full bool, err error) {
	line, err := json.Marshal(event, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return false, err
	}
	line = append(line, '\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+int64(len(line)) > s.limit {
		return true, nil
	}
	if _, err := s.file.Write(line); err != nil {
		return false, err
	}
	s.size += int64(len(line))
	return false, s.file.Sync()
}

func (s *spool) pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent < s.size
}

// batch reads the next events, and the place behind them for confirm.
func (s *spool) batch() (events []jsontext.Value, end int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end = s.sent
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, s.sent, s.size-s.sent), 64<<10)
	for total := 0; len(events) < batchEvents && total < batchBytes; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(events) == 0 {
				end = s.size // the torn last line of a process that died
			}
			return events, end, nil
		}
		if err != nil {
			return nil, end, fmt.Errorf("read the spool: %w", err)
		}
		end += int64(len(line))
		if v := jsontext.Value(bytes.TrimSpace(line)); v.IsValid() {
			events, total = append(events, v), total+len(line)
		}
	}
	return events, end, nil
}

// confirm marks everything before end as sent; an empty file shrinks.
func (s *spool) confirm(end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = end
	if s.sent < s.size {
		return nil
	}
	if err := s.file.Truncate(s.start); err != nil {
		return fmt.Errorf("empty the spool: %w", err)
	}
	s.size, s.sent = s.start, s.start
	return nil
}

// close lets the file go, and removes it when nothing is left in it.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.sent == s.size {
		err = errors.Join(os.Remove(s.file.Name()), os.Remove(s.lock.Path()))
	}
	return errors.Join(err, s.file.Close(), s.lock.Unlock())
}

// orphans returns the spools of processes that have died, of the same server, agent
// and key; each is locked, and the caller's to close.
func orphans(dir string, like origin) []orphan {
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil // the pattern is sound
	}
	var out []orphan
	for _, path := range paths {
		lock := flock.New(path + ".lock")
		if ok, err := lock.TryLock(); !ok || err != nil {
			continue // its owner lives
		}
		s, o, err := openSpool(path, lock)
		if err != nil || !o.sameAs(like) {
			if s != nil {
				_ = s.file.Close()
			}
			_ = lock.Unlock()
			continue
		}
		out = append(out, orphan{o.Client, s})
	}
	return out
}

type orphan struct {
	client string
	*spool
}

func openSpool(path string, lock *flock.Flock) (*spool, origin, error) {
	var o origin
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, o, err
	}
	s := &spool{file: f, lock: lock, limit: spoolLimit}
	head, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil {
		return s, o, err
	}
	if err := json.Unmarshal(head, &o); err != nil {
		return s, o, err
	}
	st, err := f.Stat()
	if err != nil {
		return s, o, err
	}
	s.start = int64(len(head))
	s.sent, s.size = s.start, st.Size()
	return s, o, nil
}
