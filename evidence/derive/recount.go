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

// Belongs names the populations in which a raw entry makes a row, reading nothing
// but the members that their queries name. It shares no code with Run, so that
// the two can be compared.
func Belongs(raw []byte, from, to time.Time) []string {
	var e struct {
		Type        string `json:"type"`
		Kind        string `json:"kind"`
		Agent       string `json:"agent"`
		Op          string `json:"op"`
		TS          string `json:"ts"`
		ID          string `json:"id"`
		Containment string `json:"containment"`
	}
	if json.Unmarshal(raw, &e) != nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, e.TS)
	if err != nil || at.Before(from) || !at.Before(to) {
		return nil
	}
	switch {
	case e.Type == "decision" && e.Agent == "guardbook-canary":
		return nil // a test interaction of the instance itself
	case e.Type == "decision" && e.Kind == "tool_call":
		return []string{"CC6.1", "CC7.2"}
	case e.Type == "decision":
		return []string{"CC7.2"}
	case e.Type == "alert" && e.Op == "opened":
		return []string{"CC7.3"}
	case e.Type == "containment" && e.Op == "kill" && e.ID == e.Containment:
		return []string{"CC7.4"}
	case e.Type == "policy":
		return []string{"CC8.1"}
	}
	return nil
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
