package pin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

const (
	maxText  = 1 << 20   // the largest definition whose text is kept
	maxTexts = 256 << 20 // and all of them together: a server can make up new ones without end
)

// Texts keeps definitions' texts in files named after their hash, so that an operator
// can be shown what has changed. They decide nothing: a text that is missing, or that
// does not fit its hash any more, is only not shown.
type Texts struct {
	dir  string
	log  *slog.Logger
	size atomic.Int64
}

// OpenTexts keeps texts in a directory, which only its owner can read.
func OpenTexts(dir string, log *slog.Logger) (*Texts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of tools' definitions: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Texts{dir: dir, log: log}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the directory of tools' definitions: %w", err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			t.size.Add(info.Size())
		}
	}
	return t, nil
}

func (t *Texts) path(hash string) (string, bool) {
	sum, ok := strings.CutPrefix(hash, "sha256:")
	if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != sha256.Size {
		return "", false
	}
	return filepath.Join(t.dir, sum+".json"), true
}

// keep writes a text. What it cannot write is not shown later, no more.
func (t *Texts) keep(d Definition) {
	path, ok := t.path(d.Hash)
	if !ok || len(d.JSON) > maxText {
		return
	}
	if t.read(d.Hash) != nil {
		return
	}
	if t.size.Load()+int64(len(d.JSON)) > maxTexts {
		t.log.Warn("the definition of a tool is not kept, since too many are: its difference cannot be shown", "tool", d.Name, "directory", t.dir)
		return
	}
	temp := path + ".new"
	err := os.WriteFile(temp, d.JSON, 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		t.log.Warn("the definition of a tool could not be kept: its difference cannot be shown", "tool", d.Name, "error", err)
		return
	}
	t.size.Add(int64(len(d.JSON)))
}

// read returns the text of that hash, nil if there is none that fits it.
func (t *Texts) read(hash string) []byte {
	path, ok := t.path(hash)
	if !ok {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	if sum := sha256.Sum256(b); "sha256:"+hex.EncodeToString(sum[:]) != hash {
		t.log.Warn("a kept definition of a tool does not fit its hash: it is not shown", "file", path)
		return nil
	}
	return b
}
