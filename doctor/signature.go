package doctor

import (
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// newestCheckpoint reads the signed checkpoint of the newest epoch that has one.
func (x *examination) newestCheckpoint() (text []byte, found bool) {
	paths, err := filepath.Glob(filepath.Join(x.Data, "book", "*", "checkpoint"))
	if err != nil {
		return nil, false
	}
	best, newest := "", 0
	for _, p := range paths {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil && n > newest {
			best, newest = p, n
		}
	}
	if best == "" {
		return nil, false
	}
	b, err := os.ReadFile(best)
	return b, err == nil
}

// keyHash is the hash in a verifier key.
func keyHash(vkey string) (uint32, error) {
	v, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return 0, err
	}
	return v.KeyHash(), nil
}

// signedBy reports whether a checkpoint is signed by a verifier key. Each epoch
// has the same key under its own name, the checkpoint's first line.
func signedBy(checkpoint []byte, vkey string) bool {
	origin, _, _ := strings.Cut(string(checkpoint), "\n")
	parts := strings.SplitN(strings.TrimSpace(vkey), "+", 3)
	if len(parts) != 3 {
		return false
	}
	if origin != parts[0] && !strings.HasPrefix(origin, parts[0]+"/") {
		return false
	}
	public, ok := publicKey(parts[2])
	if !ok {
		return false
	}
	named, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return false
	}
	verifier, err := note.NewVerifier(named)
	if err != nil {
		return false
	}
	_, err = note.Open(checkpoint, note.VerifierList(verifier))
	return err == nil
}

// publicKey reads the last field of a verifier key: a byte for the algorithm and
// the key.
func publicKey(field string) (ed25519.PublicKey, bool) {
	b, err := base64.StdEncoding.DecodeString(field)
	if err != nil || len(b) != 1+ed25519.PublicKeySize || b[0] != 1 {
		return nil, false
	}
	return ed25519.PublicKey(b[1:]), true
}
