// Package c2sp writes and reads the files in which a book is published: signed
// checkpoints (c2sp.org/tlog-checkpoint, c2sp.org/signed-note), tiles and entry
// bundles (c2sp.org/tlog-tiles) and inclusion proofs (c2sp.org/tlog-proof), so
// that a verifier which has never heard of Guardbook can check them. The tree is
// the one of RFC 6962 with SHA-256; golang.org/x/mod/sumdb/tlog does the hashing.
package c2sp

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// TileHeight is the height of a tile: 8 levels of the tree.
	TileHeight = 8
	// TileWidth is the number of hashes in a full tile and of entries in a full bundle.
	TileWidth = 1 << TileHeight
	// MaxEntry is the largest entry in bytes that a bundle's 16-bit length can name.
	MaxEntry = 1<<16 - 1
	// Entries stands for a level in TilePath and means the entry bundles.
	Entries = -1
)

// TilePath is the path of a tile below a log's directory. Level Entries names an
// entry bundle; a width from 1 to 255 names a partial tile, 0 or 256 a full one.
func TilePath(level int, n int64, width int) string {
	var b strings.Builder
	b.WriteString("tile/")
	if level == Entries {
		b.WriteString("entries")
	} else {
		b.WriteString(strconv.Itoa(level))
	}
	digits := fmt.Sprintf("%03d", n)
	for len(digits)%3 != 0 {
		digits = "0" + digits
	}
	for i := 0; i < len(digits); i += 3 {
		b.WriteByte('/')
		if i+3 < len(digits) {
			b.WriteByte('x')
		}
		b.WriteString(digits[i : i+3])
	}
	if width > 0 && width < TileWidth {
		b.WriteString(".p/" + strconv.Itoa(width))
	}
	return b.String()
}

// AppendEntry adds an entry to a bundle. The entry must not be longer than MaxEntry.
func AppendEntry(bundle, entry []byte) []byte {
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...)
}

// NextEntry takes the first entry off a bundle. Both results share its memory.
func NextEntry(bundle []byte) (entry, rest []byte, err error) {
	if len(bundle) < 2 {
		return nil, nil, fmt.Errorf("entry bundle ends inside a length (%d bytes left)", len(bundle))
	}
	n := int(binary.BigEndian.Uint16(bundle))
	if len(bundle)-2 < n {
		return nil, nil, fmt.Errorf("entry bundle ends inside an entry (%d of %d bytes left)", len(bundle)-2, n)
	}
	return bundle[2 : 2+n : 2+n], bundle[2+n:], nil
}

// Checkpoint is a tree head: what a log held when it was signed.
type Checkpoint struct {
	Origin string    // the log's name
	Size   int64     // number of entries
	Root   tlog.Hash // of the tree over the first Size entries
}

// Text is the body of the signed note.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// ParseCheckpoint reads the body of a note. Extension lines are refused: this log
// writes none, and a reader must not skip what it doesn't know.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" {
		return Checkpoint{}, errors.New("a checkpoint is three lines: origin, size, root hash")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("checkpoint: %.20q is no tree size", lines[1])
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: root: %w", err)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

func parseHash(s string) (tlog.Hash, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != tlog.HashSize {
		return tlog.Hash{}, fmt.Errorf("%.60q is no base64 of a SHA-256 hash", s)
	}
	return tlog.Hash(b), nil
}

// Sign makes the signed note of a checkpoint.
func Sign(c Checkpoint, signer note.Signer) ([]byte, error) {
	b, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return b, nil
}

// Open checks a signed note against the log's key and reads the checkpoint in it.
// Signatures of other keys (witnesses) are ignored; the checkpoint's origin must
// be the key's name.
func Open(signed []byte, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return c, err
	}
	if c.Origin != v.Name() {
		return c, fmt.Errorf("checkpoint: its origin is %q, the key's name is %q", c.Origin, v.Name())
	}
	return c, nil
}

const proofHeader = "c2sp.org/tlog-proof@v1\n"

// FormatProof writes an inclusion proof and the checkpoint that it leads to.
func FormatProof(index int64, p tlog.RecordProof, checkpoint []byte) []byte {
	b := fmt.Appendf(nil, "%sindex %d\n", proofHeader, index)
	for _, h := range p {
		b = fmt.Appendf(b, "%s\n", h)
	}
	b = append(b, '\n')
	return append(b, checkpoint...)
}

// Proof is an inclusion proof as read from its text.
type Proof struct {
	Index      int64
	Hashes     tlog.RecordProof
	Checkpoint []byte // the signed note, not checked yet
}

// ParseProof reads the text of an inclusion proof. Extra data is skipped.
func ParseProof(text []byte) (Proof, error) {
	rest, ok := strings.CutPrefix(string(text), proofHeader)
	if !ok {
		return Proof{}, fmt.Errorf("proof: the first line is not %q", strings.TrimSpace(proofHeader))
	}
	if strings.HasPrefix(rest, "extra ") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	line, rest, _ := strings.Cut(rest, "\n")
	digits, ok := strings.CutPrefix(line, "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || index < 0 || strconv.FormatInt(index, 10) != digits {
		return Proof{}, fmt.Errorf("proof: %.40q is no index line", line)
	}
	p := Proof{Index: index}
	for {
		if line, rest, ok = strings.Cut(rest, "\n"); !ok {
			return Proof{}, errors.New("proof: it ends before the checkpoint")
		}
		if line == "" {
			break
		}
		h, err := parseHash(line)
		if err != nil {
			return Proof{}, fmt.Errorf("proof: %w", err)
		}
		if p.Hashes = append(p.Hashes, h); len(p.Hashes) > 63 {
			return Proof{}, errors.New("proof: too many hashes")
		}
	}
	p.Checkpoint = []byte(rest)
	return p, nil
}

// CheckProof checks that an entry is in the log that key v signs, and gives the
// checkpoint and the entry's place.
func CheckProof(text, entry []byte, v note.Verifier) (Checkpoint, int64, error) {
	p, err := ParseProof(text)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	c, err := Open(p.Checkpoint, v)
	if err != nil {
		return c, p.Index, fmt.Errorf("proof: %w", err)
	}
	if p.Index >= c.Size {
		return c, p.Index, fmt.Errorf("proof: index %d is beyond the checkpoint's size %d", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(entry)); err != nil {
		return c, p.Index, errors.New("proof: it does not lead from this entry to the checkpoint's root")
	}
	return c, p.Index, nil
}
