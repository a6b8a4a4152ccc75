package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"
)

// The prefixes of secrets, so that one found in a file or a log can be told at a
// glance and searched for: gb[ko]_[a-z2-7]{16}_[a-z2-7]{52}.
const (
	AgentPrefix    = "gbk_" // an agent's key
	OperatorPrefix = "gbo_" // an operator's token
)

const (
	idLen     = 16 // base32 of the first 10 bytes of the secret's SHA-256
	secretLen = 52 // base32 of 32 random bytes
	keyLen    = len(AgentPrefix) + idLen + 1 + secretLen
)

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newKey makes a key: PREFIX ID _ SECRET.
//
// The id is the beginning of the secret's SHA-256. That makes it the key's
// checksum (a scanner can tell a real key from a look-alike without asking
// anyone) and ties what the book says to what is at rest: an entry that names a
// key's id cannot be made to stand for another hash by editing access.db.
func newKey(prefix string) (key, id string, hash [sha256.Size]byte) {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	secret := lower32.EncodeToString(b[:])
	hash = sha256.Sum256([]byte(secret))
	id = keyID(hash)
	return prefix + id + "_" + secret, id, hash
}

func keyID(hash [sha256.Size]byte) string { return lower32.EncodeToString(hash[:10]) }

// splitKey takes a key apart. It checks the form, not the checksum.
func splitKey(prefix, key string) (id, secret string, ok bool) {
	if len(key) != keyLen || !strings.HasPrefix(key, prefix) || key[len(prefix)+idLen] != '_' {
		return "", "", false
	}
	return key[len(prefix) : len(prefix)+idLen], key[len(prefix)+idLen+1:], true
}

// hashSecret hashes a key's secret part without a copy on the heap.
func hashSecret(secret string) [sha256.Size]byte {
	var b [secretLen]byte
	copy(b[:], secret)
	return sha256.Sum256(b[:])
}

// sameHash compares in constant time.
func sameHash(a, b [sha256.Size]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// CheckKey reports whether a text has the form of a key with this prefix and
// whether its checksum is right. It says nothing about whether the key is, or
// ever was, in force.
func CheckKey(prefix, key string) bool {
	id, secret, ok := splitKey(prefix, key)
	return ok && keyID(hashSecret(secret)) == id
}

// token makes 32 random bytes as text, and the hash that is kept at rest.
func token() (text string, hash [sha256.Size]byte) {
	var b [32]byte
	rand.Read(b[:])
	text = lower32.EncodeToString(b[:])
	return text, sha256.Sum256([]byte(text))
}
