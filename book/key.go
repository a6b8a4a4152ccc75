package book

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/book/c2sp"
)

const (
	namePrefix     = "guardbook/"
	privatePrefix  = "PRIVATE+KEY+"
	algEd25519     = 1
	fingerprintTag = "sha256:"
)

// Key signs a book's checkpoints: an Ed25519 key in the format of signed notes.
// Its name is the origin of the book's first log, "guardbook/" and the id of the
// instance that owns the book.
type Key struct {
	name string
	seed []byte
}

// LoadKey reads the signing key from a file and writes the verifier key beside it
// (path + ".pub"). If there is no such file it makes a key with a random instance
// id, readable by its owner only, and says so.
func LoadKey(path string) (k *Key, created bool, err error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if k, err = newKey(); err != nil {
			return nil, false, err
		}
		if err := writeFile(path, []byte(k.private(k.name)+"\n"), 0o600); err != nil {
			return nil, false, fmt.Errorf("write signing key: %w", err)
		}
		created = true
	case err != nil:
		return nil, false, fmt.Errorf("read signing key: %w", err)
	default:
		if k, err = parseKey(strings.TrimSpace(string(text))); err != nil {
			return nil, false, fmt.Errorf("read signing key %s: %w", path, err)
		}
	}
	public := []byte(k.Verifier() + "\n")
	if old, err := os.ReadFile(path + ".pub"); err != nil || !bytes.Equal(old, public) {
		if err := writeFile(path+".pub", public, 0o644); err != nil {
			return nil, false, fmt.Errorf("write verifier key: %w", err)
		}
	}
	return k, created, nil
}

func newKey() (*Key, error) {
	seed, id := make([]byte, ed25519.SeedSize), make([]byte, 8)
	rand.Read(seed)
	rand.Read(id)
	return &Key{name: namePrefix + hex.EncodeToString(id), seed: seed}, nil
}

// parseKey reads PRIVATE+KEY+name+hash+data. note.NewSigner checks the same, but
// doesn't give the seed back, which the later epochs' signers need.
func parseKey(skey string) (*Key, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("it is no signing key in note format: %w", err)
	}
	// note.NewSigner has checked the five fields; base64 has a plus of its own.
	data, err := base64.StdEncoding.DecodeString(strings.SplitN(skey, "+", 5)[4])
	if err != nil || len(data) != 1+ed25519.SeedSize || data[0] != algEd25519 {
		return nil, errors.New("it is no Ed25519 key")
	}
	if !strings.HasPrefix(signer.Name(), namePrefix) {
		return nil, fmt.Errorf("its name %q does not begin with %q", signer.Name(), namePrefix)
	}
	return &Key{name: signer.Name(), seed: data[1:]}, nil
}

// Instance is the id in the key's name.
func (k *Key) Instance() string { return strings.TrimPrefix(k.name, namePrefix) }

// Origin is the origin of the book's log in an epoch, and the name under which
// the key signs there.
func (k *Key) Origin(epoch int) string {
	if epoch <= 1 {
		return k.name
	}
	return fmt.Sprintf("%s/%d", k.name, epoch)
}

// Verifier is the verifier key of the first epoch: what an auditor is given.
func (k *Key) Verifier() string { return k.EpochVerifier(1) }

// EpochVerifier is the same public key under the name that it has in an epoch.
func (k *Key) EpochVerifier(epoch int) string {
	v, err := note.NewEd25519VerifierKey(k.Origin(epoch), k.public())
	if err != nil {
		panic(err) // only for a public key of a wrong length
	}
	return v
}

// Fingerprint is "sha256:" and the hash of the public key in hex. It is the same
// in every epoch.
func (k *Key) Fingerprint() string {
	sum := sha256.Sum256(k.public())
	return fingerprintTag + hex.EncodeToString(sum[:])
}

// Sign makes a signed note of a text under the first epoch's name, for documents
// that belong to the book. The text must end with a line end. A text that reads
// as a checkpoint is refused: only the book signs those.
func (k *Key) Sign(text string) ([]byte, error) {
	if _, err := c2sp.ParseCheckpoint(text); err == nil {
		return nil, errors.New("sign: the text is a checkpoint")
	}
	signer, err := k.Signer(1)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: text}, signer)
}

// Signer signs the checkpoints of an epoch.
func (k *Key) Signer(epoch int) (note.Signer, error) {
	return note.NewSigner(k.private(k.Origin(epoch)))
}

func (k *Key) public() ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(k.seed).Public().(ed25519.PublicKey)
}

func (k *Key) private(name string) string {
	sum := sha256.Sum256(append([]byte(name+"\n"), append([]byte{algEd25519}, k.public()...)...))
	data := base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, k.seed...))
	return fmt.Sprintf("%s%s+%08x+%s", privatePrefix, name, binary.BigEndian.Uint32(sum[:]), data)
}

// writeFile replaces a file as a whole: a reader sees the old bytes or the new
// ones, and after a return the new ones survive a loss of power.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp writes and syncs a file that is to be renamed to path.
func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp)
		return "", err
	}
	return tmp, nil
}

// syncDir makes the names in a directory survive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
