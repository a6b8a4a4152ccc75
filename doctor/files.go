package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/policy"
)

// dataDirectory checks that the data directory is there and can be written.
func (x *examination) dataDirectory(context.Context) []Result {
	const check = "data directory"
	info, err := os.Stat(x.Data)
	if errors.Is(err, fs.ErrNotExist) {
		parent := existingParent(x.Data)
		if err := tryWrite(parent); err != nil {
			return fail(check, fmt.Sprintf("%s does not exist and cannot be made: %s cannot be written (%s)", x.Data, parent, cause(err)),
				"make it, owned by the user that runs guardbook, or choose another with --data")
		}
		return warn(check, x.Data+" does not exist", "guardbook serve makes it at its first start; if there should be one, check --data and GUARDBOOK_DATA")
	}
	if err != nil {
		return fail(check, fmt.Sprintf("%s cannot be looked at: %s", x.Data, cause(err)), "check the permissions of the directories above it")
	}
	if !info.IsDir() {
		return fail(check, x.Data+" is a file", "choose a directory with --data")
	}
	if err := tryWrite(x.Data); err != nil {
		return fail(check, fmt.Sprintf("%s cannot be written: %s", x.Data, cause(err)), "give it to the user that runs guardbook (chown), or mount it writable")
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fail(check, fmt.Sprintf("%s can be written by other users (mode %04o): they could replace the book and the keys", x.Data, perm),
			"chmod 700 "+x.Data)
	}
	return ok(check, x.Data+" can be written")
}

// existingParent is the nearest directory above a path that exists.
func existingParent(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	for {
		path = filepath.Dir(path)
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
	}
}

// tryWrite makes a file and removes it: only that tells, under every kind of
// mount and permission, whether it can be done.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".guardbook-doctor-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// cause is an error without the path that the message has already.
func cause(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

const (
	spaceFail = 100 << 20
	spaceWarn = 1 << 30
)

// diskSpace checks that the book has room to grow.
func (x *examination) diskSpace(context.Context) []Result {
	const check = "disk space"
	dir := x.Data
	if _, err := os.Stat(dir); err != nil {
		dir = existingParent(dir)
	}
	free, err := freeBytes(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return warn(check, fmt.Sprintf("how much is free for %s cannot be found out: %s", dir, cause(err)), "look with df")
	}
	return spaceResult(check, dir, free)
}

func spaceResult(check, dir string, free uint64) []Result {
	text := fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), dir)
	const mend = "make room, or move the data directory: what cannot be recorded is refused"
	switch {
	case free < spaceFail:
		return fail(check, text, mend)
	case free < spaceWarn:
		return warn(check, text, mend)
	default:
		return ok(check, text)
	}
}

// secretFiles checks that secrets are readable by their owner, and by nobody else.
func (x *examination) secretFiles(context.Context) []Result {
	const check = "secret files"
	var out []Result
	checked := 0
	for _, name := range []string{access.AdminTokenFile, "signing-key", "commitment-key", "access.db"} {
		path := filepath.Join(x.Data, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		checked++
		switch {
		case err != nil:
			out = append(out, fail(check, fmt.Sprintf("%s cannot be looked at: %s", path, cause(err)), "run doctor as the user that runs guardbook")...)
		case info.Mode().Perm()&0o077 != 0:
			out = append(out, fail(check, fmt.Sprintf("%s can be read by other users (mode %04o)", path, info.Mode().Perm()),
				"chmod 600 "+path+whatLeaked(name))...)
		default:
			if err := tryRead(path); err != nil {
				out = append(out, fail(check, fmt.Sprintf("%s cannot be read: %s", path, cause(err)),
					"give it to the user that runs guardbook: chown USER "+path)...)
			}
		}
	}
	if len(out) == 0 && checked > 0 {
		return ok(check, fmt.Sprintf("%d files, readable by their owner only", checked))
	}
	return out
}

// whatLeaked says what else to do when others could have read a secret.
func whatLeaked(name string) string {
	if name == access.AdminTokenFile {
		return "; if anybody could have read it, remove it and restart: guardbook makes a new one"
	}
	return ""
}

func tryRead(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// signingKey checks that there is a key wherever there is a book, and that it is
// the one that signed the book.
func (x *examination) signingKey(context.Context) []Result {
	const check = "signing key"
	path := filepath.Join(x.Data, "signing-key")
	checkpoint, signed := x.newestCheckpoint()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !x.hasBook() {
			return nil // a first start makes it
		}
		return fail(check, path+" is missing, and there is a book that it signed",
			"put it back from your backup; without it guardbook would begin a book under a new key, which an auditor must be told of")
	}
	if err != nil {
		return fail(check, fmt.Sprintf("%s cannot be read: %s", path, cause(err)), "give it to the user that runs guardbook: chown USER "+path)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		return fail(check, path+" holds no signing key", "put it back from your backup")
	}
	if !signed {
		return ok(check, path+" is readable")
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil {
		return warn(check, path+".pub, which auditors are given, cannot be read: "+cause(err), "restart guardbook: it writes the file anew")
	}
	hash, err := keyHash(string(public))
	if err != nil || hash != signer.KeyHash() {
		return fail(check, path+" and "+path+".pub are not one key", "put back both from your backup")
	}
	if !signedBy(checkpoint, string(public)) {
		return fail(check, "the newest checkpoint of the book is not signed by "+path,
			"put back the key that belongs to this book from your backup, or the book that belongs to this key")
	}
	return ok(check, path+" signed the book's newest checkpoint")
}

func (x *examination) hasBook() bool {
	found, err := filepath.Glob(filepath.Join(x.Data, "book", "*", "journal.db"))
	return err == nil && len(found) > 0
}

// policies checks that every policy can be read.
func (x *examination) policies(context.Context) []Result {
	const check = "policies"
	list, err := os.ReadDir(x.Policies)
	if errors.Is(err, fs.ErrNotExist) {
		return warn(check, x.Policies+" does not exist", "guardbook serve fills it with starter policies at its first start; if there should be one, check --policies")
	}
	if err != nil {
		return fail(check, fmt.Sprintf("%s cannot be read: %s", x.Policies, cause(err)), "give it to the user that runs guardbook")
	}
	var out []Result
	names := map[string]string{}
	for _, d := range list {
		if ext := filepath.Ext(d.Name()); d.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		path := filepath.Join(x.Policies, d.Name())
		src, err := os.ReadFile(path)
		if err != nil {
			out = append(out, fail(check, fmt.Sprintf("%s cannot be read: %s", path, cause(err)), "give it to the user that runs guardbook")...)
			continue
		}
		p, err := policy.Parse(d.Name(), src)
		if err != nil {
			out = append(out, fail(check, err.Error(), "mend the file; guardbook goes on with the policies that it has until then")...)
			continue
		}
		if other, twice := names[p.Name]; twice {
			out = append(out, fail(check, fmt.Sprintf("%s and %s both hold policy %q", other, d.Name(), p.Name), "give one of them another name")...)
		}
		names[p.Name] = d.Name()
	}
	switch {
	case len(out) > 0:
		return out
	case len(names) == 0:
		return fail(check, x.Policies+" holds no policy (*.yaml): everything that agents do is blocked", "write one, or move the directory away: guardbook serve makes a new one with starter policies")
	default:
		return ok(check, fmt.Sprintf("%d in %s, without an error", len(names), x.Policies))
	}
}
