package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// MinPassword and MaxPassword bound a password's length, in characters and in
// bytes.
const (
	MinPassword = 12
	MaxPassword = 1024
)

// The work of one hash: OWASP's argon2id set with the least memory.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	saltLen      = 16
	hashLen      = 32
)

// parallelHashes bounds the memory that logins can take: 19 MiB each.
func parallelHashes() int { return min(4, runtime.GOMAXPROCS(0)) }

func checkPassword(p string) error {
	switch {
	case utf8.RuneCountInString(p) < MinPassword:
		return fmt.Errorf("%w password: use at least %d characters", ErrInvalid, MinPassword)
	case len(p) > MaxPassword:
		return fmt.Errorf("%w password: use at most %d bytes", ErrInvalid, MaxPassword)
	}
	return nil
}

// hashPassword returns the PHC string of a password under a fresh salt.
func (s *Store) hashPassword(ctx context.Context, password string) (string, error) {
	var salt [saltLen]byte
	rand.Read(salt[:])
	sum, err := s.argon(ctx, password, salt[:], argonTime, argonMemory, argonThreads, hashLen)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt[:]), b64.EncodeToString(sum)), nil
}

// checkHash reports whether a password is the one of a PHC string.
func (s *Store) checkHash(ctx context.Context, phc, password string) (bool, error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return false, errors.New("the stored password hash is not an argon2id string")
	}
	var version int
	var memory, time uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &time, &threads); err != nil {
		return false, fmt.Errorf("the stored password hash is damaged: %w", err)
	}
	if version != argon2.Version || memory > 1<<20 || time == 0 || time > 100 || threads == 0 {
		return false, errors.New("the stored password hash has parameters that this version does not accept")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || len(want) == 0 {
		return false, errors.New("the stored password hash is damaged")
	}
	got, err := s.argon(ctx, password, salt, time, memory, threads, uint32(len(want)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// argon waits for a place among the hashes that may run at once.
func (s *Store) argon(ctx context.Context, password string, salt []byte, time, memory uint32, threads uint8, n uint32) ([]byte, error) {
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
		return argon2.IDKey([]byte(password), salt, time, memory, threads, n), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
