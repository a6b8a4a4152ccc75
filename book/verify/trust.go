package verify

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Trust is what the verifier was given by a way other than the book: the key that
// must have signed it. The zero value trusts whatever key lies beside the log,
// and then a report is never better than "unpinned".
type Trust struct {
	name        string
	public      ed25519.PublicKey // nil: only the fingerprint is known
	fingerprint string
}

// ParseTrust reads a trust root: a verifier key in note format
// ("guardbook/ID+HASH+KEY"), the key's fingerprint ("sha256:" and hex), or the
// name of a file that holds one of them. The empty string trusts nothing.
func ParseTrust(s string) (Trust, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Trust{}, nil
	}
	t, err := parseTrust(s)
	if err == nil {
		return t, nil
	}
	b, ferr := os.ReadFile(s)
	switch {
	case errors.Is(ferr, fs.ErrNotExist):
		return Trust{}, fmt.Errorf("trust %.100q: %w, and there is no file of that name", s, err)
	case ferr != nil:
		return Trust{}, fmt.Errorf("trust: %w", ferr)
	}
	if t, err = parseTrust(strings.TrimSpace(string(b))); err != nil {
		return Trust{}, fmt.Errorf("trust: %s: %w", s, err)
	}
	return t, nil
}

func parseTrust(s string) (Trust, error) {
	if digits, ok := strings.CutPrefix(s, "sha256:"); ok {
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != sha256.Size {
			return Trust{}, errors.New("a fingerprint is sha256: and 64 hex digits")
		}
		return Trust{fingerprint: "sha256:" + hex.EncodeToString(sum)}, nil
	}
	v, err := note.NewVerifier(s)
	if err != nil {
		return Trust{}, errors.New("it is no verifier key in note format and no fingerprint")
	}
	public, err := publicKey(s)
	if err != nil {
		return Trust{}, err
	}
	return Trust{name: v.Name(), public: public, fingerprint: fingerprint(public)}, nil
}

func (t Trust) given() bool { return t.fingerprint != "" }

// publicKey takes the Ed25519 key out of a verifier key that note has accepted.
func publicKey(vkey string) (ed25519.PublicKey, error) {
	const algEd25519 = 1
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("it is no verifier key in note format")
	}
	b, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(b) != 1+ed25519.PublicKeySize || b[0] != algEd25519 {
		return nil, errors.New("it is no Ed25519 verifier key")
	}
	return b[1:], nil
}

func fingerprint(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// keyOf finds the key by which a log must be signed, under the log's name in its
// epoch: the trusted one, else the one that lies beside the log.
func keyOf(l *Log, t Trust) (v note.Verifier, fp string, err error) {
	beside, besideErr := note.NewVerifier(l.Key)
	var besidePublic ed25519.PublicKey
	if besideErr == nil {
		besidePublic, besideErr = publicKey(l.Key)
	}
	switch {
	case t.public != nil:
		name := t.name
		switch {
		case l.Epoch > 1:
			name = fmt.Sprintf("%s/%d", t.name, l.Epoch)
		case l.Epoch == 0 && besideErr == nil && strings.HasPrefix(beside.Name(), t.name+"/"):
			name = beside.Name() // one log alone, of a later epoch
		}
		vkey, err := note.NewEd25519VerifierKey(name, t.public)
		if err != nil {
			return nil, "", err
		}
		v, err := note.NewVerifier(vkey)
		return v, t.fingerprint, err
	case besideErr != nil && l.Key == "":
		return nil, "", errors.New("no verifier key lies beside the log, and none was given")
	case besideErr != nil:
		return nil, "", fmt.Errorf("the verifier key beside the log: %w", besideErr)
	case t.given() && fingerprint(besidePublic) != t.fingerprint:
		return nil, fingerprint(besidePublic), fmt.Errorf("the key beside the log is not the trusted one")
	}
	return beside, fingerprint(besidePublic), nil
}
