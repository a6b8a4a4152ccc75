package derive

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Hashes is a Sink that keeps only the SHA-256 of each file, in hex by name.
type Hashes map[string]string

// Create begins a file.
func (h Hashes) Create(name string) (io.WriteCloser, error) {
	if _, there := h[name]; there {
		return nil, fmt.Errorf("create %s: it is there already", name)
	}
	h[name] = ""
	return &hashFile{sum: sha256.New(), done: func(sum string) { h[name] = sum }}, nil
}

type hashFile struct {
	sum  hash.Hash
	done func(string)
}

func (f *hashFile) Write(b []byte) (int, error) { return f.sum.Write(b) }

func (f *hashFile) Close() error {
	f.done(hex.EncodeToString(f.sum.Sum(nil)))
	return nil
}

// CountRows counts the records of a CSV file without its header, with another
// reader than the one that wrote it.
func CountRows(r io.Reader) (int64, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	n := int64(-1)
	for {
		_, err := c.Read()
		if errors.Is(err, io.EOF) {
			return max(n, 0), nil
		}
		if err != nil {
			return n, fmt.Errorf("count rows: %w", err)
		}
		n++
	}
}

// Belongs reports whether a raw entry makes a row of a population, reading
// nothing but the members that the population's query names. It shares no code
// with Run, so that the two can be compared.
func Belongs(population string, raw []byte, from, to time.Time) bool {
	var e struct {
		Type, Kind, Op, TS, ID, Containment string
	}
	if json.Unmarshal(raw, &e, json.MatchCaseInsensitiveNames(true)) != nil {
		return false
	}
	at, err := time.Parse(time.RFC3339Nano, e.TS)
	if err != nil || at.Before(from) || !at.Before(to) {
		return false
	}
	switch population {
	case "CC6.1":
		return e.Type == "decision" && e.Kind == "tool_call"
	case "CC7.2":
		return e.Type == "decision"
	case "CC7.3":
		return e.Type == "alert" && e.Op == "opened"
	case "CC7.4":
		return e.Type == "containment" && e.Op == "kill" && e.ID == e.Containment
	case "CC8.1":
		return e.Type == "policy"
	}
	return false
}

// DescribeKey gives the verifier key of a log under its own name, and the
// fingerprint of its public key.
func DescribeKey(vkey, origin string) (verifier, fingerprint string, err error) {
	if _, err := KeyFor(vkey, origin); err != nil {
		return "", "", err
	}
	data, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil || len(data) < 1 {
		return "", "", errors.New("verifier key: its public key cannot be read")
	}
	verifier, err = note.NewEd25519VerifierKey(origin, data[1:])
	sum := sha256.Sum256(data[1:])
	return verifier, "sha256:" + hex.EncodeToString(sum[:]), err
}
