package policy

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/guardbook/guardbook"
)

// kept is the directory of every bundle that was ever in force:
//
//	<bundle hash>.json        its files' names and hashes
//	blobs/<sha256>.yaml       a file's content
//	last                      the hash of the bundle that came into force last
type kept struct{ dir string }

// manifest is what <bundle hash>.json holds.
type manifest struct {
	Bundle string                 `json:"bundle"`
	Files  []guardbook.PolicyFile `json:"files"`
}

var hashForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (k kept) create() error {
	if err := os.MkdirAll(filepath.Join(k.dir, "blobs"), 0o750); err != nil {
		return fmt.Errorf("create bundle directory: %w", err)
	}
	return nil
}

func (k kept) manifestPath(hash string) string {
	return filepath.Join(k.dir, strings.TrimPrefix(hash, "sha256:")+".json")
}

func (k kept) blobPath(sha256 string) string {
	return filepath.Join(k.dir, "blobs", sha256+".yaml")
}

// write keeps a bundle; it is on disk when write returns. Blobs come first, so
// that a manifest never names one that is not there.
func (k kept) write(b *Bundle, files []File) error {
	for i, f := range files {
		path := k.blobPath(b.Files[i].SHA256)
		if there, err := os.ReadFile(path); err == nil && string(there) == string(f.Source) {
			continue
		}
		if err := writeFile(path, f.Source, 0o640); err != nil {
			return err
		}
	}
	path := k.manifestPath(b.Hash)
	text, err := json.Marshal(manifest{Bundle: b.Hash, Files: b.Files})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if there, err := os.ReadFile(path); err == nil && string(there) == string(text) {
		return nil
	}
	return writeFile(path, text, 0o640)
}

// read returns a kept bundle; every hash is checked.
func (k kept) read(hash string) (*Bundle, error) {
	if !hashForm.MatchString(hash) {
		return nil, fmt.Errorf("%.80q is no bundle hash: it has the form sha256:<64 hex digits>", hash)
	}
	text, err := os.ReadFile(k.manifestPath(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("bundle %s was never in force here: %w", hash, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", hash, err)
	}
	files := make([]File, len(m.Files))
	for i, f := range m.Files {
		if !hashForm.MatchString("sha256:" + f.SHA256) {
			return nil, fmt.Errorf("read bundle %s: file %q has no valid hash", hash, f.Name)
		}
		src, err := os.ReadFile(k.blobPath(f.SHA256))
		if err != nil {
			return nil, fmt.Errorf("read bundle %s: %w", hash, err)
		}
		if got := sum(src); got != f.SHA256 {
			return nil, fmt.Errorf("read bundle %s: %s was changed: its hash is %s", hash, k.blobPath(f.SHA256), got)
		}
		files[i] = File{Name: f.Name, Source: src}
	}
	if got := hashOf(files); got != hash {
		return nil, fmt.Errorf("read bundle %s: its manifest was changed: the files' hash is %s", hash, got)
	}
	b, err := NewBundle(files)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", hash, err)
	}
	return b, nil
}

// last returns the bundle that came into force last; nil if there was none.
func (k kept) last() (*Bundle, error) {
	text, err := os.ReadFile(filepath.Join(k.dir, "last"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return k.read(strings.TrimSpace(string(text)))
}

func (k kept) setLast(hash string) error {
	return writeFile(filepath.Join(k.dir, "last"), []byte(hash+"\n"), 0o640)
}

// writeFile replaces a file as a whole: another process sees the old content or
// the new, and the new is on disk when writeFile returns.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails, as it should, once the file was renamed
	if _, err = f.Write(content); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
