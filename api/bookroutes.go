package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strconv"
)

func (a *api) showBook(w http.ResponseWriter, _ *http.Request, _ string) error {
	return writeJSON(w, http.StatusOK, struct {
		Origin      string `json:"origin"`
		Size        int64  `json:"size"`
		Checkpoint  string `json:"checkpoint"`
		Key         string `json:"key"`
		Fingerprint string `json:"fingerprint"`
	}{a.o.Book.Origin(), a.o.Book.Size(), string(a.o.Book.Checkpoint().Note), a.o.Key, a.o.Fingerprint})
}

func (a *api) bookCheckpoint(w http.ResponseWriter, r *http.Request, by string) error {
	if err := a.read(r.Context(), "book_read", by, "", nil); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(a.o.Book.Checkpoint().Note) // the caller went away: nobody to tell
	return nil
}

func (a *api) bookProof(w http.ResponseWriter, r *http.Request, by string) error {
	seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
	if err != nil || seq < 0 {
		return invalid("seq: %.80q is no sequence number", r.PathValue("seq"))
	}
	if size := a.o.Book.Size(); seq >= size {
		return notFound("the book has %d entries; the last one has the sequence number %d", size, size-1)
	}
	if err := a.read(r.Context(), "book_read", by, "", nil); err != nil {
		return err
	}
	proof, err := a.prove(r, seq)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(proof) // the caller went away: nobody to tell
	return nil
}

// prove makes the proof of an entry; the book seals itself first when the entry is
// younger than its last checkpoint.
func (a *api) prove(r *http.Request, seq int64) ([]byte, error) {
	proof, err := a.o.Book.Prove(r.Context(), seq)
	if err != nil {
		return nil, fmt.Errorf("make a proof: %w", err)
	}
	return proof, nil
}

// tilePath is a path of C2SP tlog-tiles below tile/: a level or "entries", the
// index in groups of three digits, and the width of a partial tile.
var tilePath = regexp.MustCompile(`^([0-9]{1,2}|entries)(/x[0-9]{3})*/[0-9]{3}(\.p/[0-9]{1,3})?$`)

func (a *api) bookTile(w http.ResponseWriter, r *http.Request, by string) error {
	path := r.PathValue("path")
	if !tilePath.MatchString(path) {
		return notFound("%.80q is no tile's path", path)
	}
	if err := a.read(r.Context(), "book_read", by, "", nil); err != nil {
		return err
	}
	root, err := os.OpenRoot(a.o.BookDir)
	if err != nil {
		return fmt.Errorf("read a tile: %w", err)
	}
	defer root.Close()
	b, err := root.ReadFile("tile/" + path)
	if errors.Is(err, fs.ErrNotExist) {
		return notFound("there is no such tile: the checkpoint says how many entries there are tiles for")
	}
	if err != nil {
		return fmt.Errorf("read a tile: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, max-age=31536000, immutable") // a tile never changes
	_, _ = w.Write(b)                                              // the caller went away: nobody to tell
	return nil
}
