package c2sp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// A history is a file of all checkpoints of a log, oldest first: signed notes,
// each followed by an empty line.

// Signed is one note of a history.
type Signed struct {
	Offset int64  // where it begins in the file
	Note   []byte // the signed note
}

// ErrTorn means that a history ends inside a note, as it does when the machine
// went down while the note was being written.
var ErrTorn = errors.New("the file ends inside a checkpoint")

const maxNote = 1 << 16

// AppendHistory adds a signed note to the bytes of a history.
func AppendHistory(dst, signed []byte) []byte { return append(append(dst, signed...), '\n') }

// History reads the notes of a history one by one. The last pair may be ErrTorn,
// with the place where the torn note begins.
func History(r io.Reader) iter.Seq2[Signed, error] {
	return func(yield func(Signed, error) bool) {
		br := bufio.NewReaderSize(r, maxNote)
		var s Signed
		var at int64
		empty := 0 // empty lines seen in this note: the first ends the text, the second the note
		for {
			line, err := br.ReadSlice('\n')
			at += int64(len(line))
			switch {
			case err == io.EOF && len(line) == 0 && len(s.Note) == 0:
				return
			case err == io.EOF:
				yield(Signed{Offset: s.Offset}, ErrTorn)
				return
			case err != nil:
				yield(Signed{Offset: s.Offset}, fmt.Errorf("read the history of checkpoints: %w", err))
				return
			}
			if len(line) == 1 {
				empty++
			}
			if empty < 2 {
				s.Note = append(s.Note, line...)
				if len(s.Note) > maxNote {
					yield(Signed{Offset: s.Offset}, errors.New("a checkpoint of more than 64 KiB"))
					return
				}
				continue
			}
			s.Note = bytes.Clone(s.Note)
			if !yield(s, nil) {
				return
			}
			s, empty = Signed{Offset: at}, 0
		}
	}
}
