// Package evidence writes evidence packages: folders from which an auditor can
// see what a window of time held, sample it, and verify offline that nothing was
// altered or left out. The listings are made by package derive; package verify
// checks a package without this package, the book's storage or a network.
//
// A package holds facts, counts and exceptions. It never holds a conclusion about
// a control: that is the auditor's.
package evidence

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/evidence/derive"
)

// Source is the book as a package is made of it.
type Source interface {
	// Logs lists the book's logs, oldest first.
	Logs() []Log
	// Checkpoints returns the signed checkpoints of an epoch, oldest first.
	Checkpoints(epoch int) ([][]byte, error)
	// Size is the number of entries of an epoch, sealed or not.
	Size(ctx context.Context, epoch int) (int64, error)
	// Read returns up to limit entries from a number on, in order; none at the end.
	Read(ctx context.Context, epoch int, from int64, limit int) ([]guardbook.Entry, error)
	// Text returns a policy file by the hex of its SHA-256.
	Text(sha256 string) ([]byte, error)
}

// Log names one epoch of the book.
type Log struct {
	Epoch  int
	Origin string
}

// Key signs the manifest; *book.Key is one.
type Key interface {
	Verifier() string                 // verifier key, signed-note format
	Sign(text string) ([]byte, error) // a signed note of the text
}

// Counter counts the entries of [from, to) by type, in another store than the
// book. Only entries before number before of the log, and entries of earlier
// logs, count.
type Counter interface {
	CountEntries(ctx context.Context, from, to time.Time, log string, before int64) (map[string]int64, error)
}

// FromBook is the source over a book's reader and the directory in which policy
// texts are kept as HASH.yaml.
func FromBook(r *book.Reader, blobs string) Source { return bookSource{r, blobs} }

type bookSource struct {
	*book.Reader
	blobs string
}

func (s bookSource) Logs() []Log {
	var logs []Log
	for _, e := range s.Epochs() {
		logs = append(logs, Log{Epoch: e.Number, Origin: e.Origin})
	}
	return logs
}

func (s bookSource) Text(sha256 string) ([]byte, error) {
	hex := derive.Hex(sha256)
	if strings.ContainsFunc(hex, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) || len(hex) != 64 {
		return nil, fmt.Errorf("policy text %.70q: that is no SHA-256: %w", sha256, fs.ErrNotExist)
	}
	b, err := os.ReadFile(filepath.Join(s.blobs, hex+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("read policy text: %w", err)
	}
	return b, nil
}

// FromArchive counts in the archive.
func FromArchive(a archive.Archive) Counter { return archiveCounter{a} }

type archiveCounter struct{ a archive.Archive }

// patience is how long a count waits for the archive to have read what it is asked
// about. An archive that is further behind is counted as it is.
const patience = 10 * time.Second

func (c archiveCounter) CountEntries(ctx context.Context, from, to time.Time, log string, before int64) (map[string]int64, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		at, next, err := c.a.Cursor(ctx)
		if err != nil {
			return nil, fmt.Errorf("count in the archive: %w", err)
		}
		if at == log && next >= before {
			break
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	n, err := c.a.Counts(ctx, archive.Query{Since: from, Until: to, Log: log, Before: &before}, archive.ByType)
	if err != nil {
		return nil, fmt.Errorf("count in the archive: %w", err)
	}
	return n, nil
}
