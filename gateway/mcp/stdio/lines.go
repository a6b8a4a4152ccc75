package stdio

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// errTooLong means that a message is over MessageLimit. What follows it cannot be
// told apart from it, so nothing more is read.
var errTooLong = errors.New("a message is longer than 16 MiB")

// lines reads messages: one a line.
type lines struct {
	r     *bufio.Reader
	limit int
}

func newLines(r io.Reader) *lines { return &lines{bufio.NewReaderSize(r, 64<<10), MessageLimit} }

// next returns the next line that is not empty, without its end. It is the
// caller's to keep.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lines) line() ([]byte, error) {
	var line []byte
	for {
		piece, err := l.r.ReadSlice('\n')
		if len(line)+len(piece) > l.limit+2 { // the line's end counts for nothing
			return nil, errTooLong
		}
		line = append(line, piece...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil // whether it is whole, its parser tells
		default:
			return nil, err
		}
	}
}
