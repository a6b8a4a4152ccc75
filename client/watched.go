package client

import (
	"bufio"
	"bytes"
	"encoding/json/v2"
	"errors"
	"io"

	"github.com/guardbook/guardbook"
)

// mark begins the comment line that tells of a block within a stream. The gateway
// forwards no comments of a provider's, so it is the gateway's own.
var mark = []byte(": guardbook ")

// watched is a stream that ends with a *BlockedError where the gateway says that the
// rest was blocked.
type watched struct {
	src  io.ReadCloser
	r    *bufio.Reader
	rest []byte // of the line that is being handed on
	mid  bool   // rest is followed by more of the same line
	err  error
}

func newWatched(src io.ReadCloser) *watched {
	return &watched{src: src, r: bufio.NewReaderSize(src, 64<<10)}
}

func (w *watched) Read(p []byte) (int, error) {
	if len(w.rest) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		w.next()
		if len(w.rest) == 0 {
			return 0, w.err
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

// next reads the next line, or a piece of a long one.
func (w *watched) next() {
	line, err := w.r.ReadSlice('\n')
	begins := !w.mid
	w.mid = errors.Is(err, bufio.ErrBufferFull)
	if w.mid {
		err = nil
	}
	if begins && bytes.HasPrefix(line, mark) {
		var d guardbook.Decision
		if json.Unmarshal(bytes.TrimSpace(line[len(mark):]), &d) == nil {
			w.err = &BlockedError{Decision: d}
			return
		}
	}
	w.rest, w.err = line, err
}

func (w *watched) Close() error { return w.src.Close() }
