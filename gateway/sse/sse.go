// Package sse reads and writes server-sent events (WHATWG HTML, "Server-sent
// events"): the three kinds of line end, fields over several lines, a byte order
// mark, comments, and characters cut in two by the network.
//
// An event is always written anew in one form, with LF and without comments, ids and
// retry times. Clients' parsers differ in what ends a line; with one form there is
// one reading, and it is the one that was scanned.
package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge means that one event is larger than the reader takes.
var ErrTooLarge = errors.New("the event is too large")

// maxID is the longest id of an event that is kept.
const maxID = 1024

// Event is one event with data. Data is valid until the next call of Next.
type Event struct {
	Type string // "" when the stream named none
	Data []byte // lines joined with LF
	// ID is the event's own id, "" when it has none. Append does not write it: who
	// lets a client resume a stream writes it with AppendID, and Retry, the digits of
	// how long a client shall wait before it does, in milliseconds.
	ID, Retry string
}

// Reader reads events.
type Reader struct {
	src    io.Reader
	max    int
	before func()

	buf        []byte
	at         int // next byte to look at
	lineStart  int
	size       int // bytes of the event so far
	started    bool
	skipLF     bool
	dataSeen   bool
	pending    bool // some field of an event was read
	err        error
	eventType  []byte
	id, retry  []byte
	data       []byte
	typeString string // last type, so that it is made into a string once
}

// NewReader reads from src events of at most max bytes. before, if not nil, is
// called each time just before src is read: everything that has come so far has
// been returned by then.
func NewReader(src io.Reader, max int, before func()) *Reader {
	return &Reader{src: src, max: max, before: before}
}

// Next returns the next event that has data. The error is io.EOF at an end between
// two events, io.ErrUnexpectedEOF at an end within one, ErrTooLarge, or the source's.
func (r *Reader) Next() (Event, error) {
	r.data, r.eventType, r.id, r.retry = r.data[:0], r.eventType[:0], r.id[:0], r.retry[:0]
	r.size, r.dataSeen, r.pending = 0, false, false
	for {
		line, err := r.line()
		if err != nil {
			if errors.Is(err, io.EOF) && r.pending {
				err = io.ErrUnexpectedEOF
			}
			return Event{}, err
		}
		if len(line) > 0 {
			r.field(line)
			continue
		}
		if !r.dataSeen { // comments only, or a type without data: not an event
			r.eventType, r.id, r.retry, r.size, r.pending = r.eventType[:0], r.id[:0], r.retry[:0], 0, false
			continue
		}
		if string(r.eventType) != r.typeString {
			r.typeString = string(r.eventType)
		}
		return Event{Type: r.typeString, Data: r.data[:len(r.data)-1], ID: string(r.id), Retry: string(r.retry)}, nil
	}
}

// field takes one line of an event.
func (r *Reader) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "": // a comment
	case "data":
		r.data = append(append(r.data, value...), '\n')
		r.dataSeen, r.pending = true, true
	case "event":
		r.eventType = append(r.eventType[:0], value...)
		r.pending = true
	case "id":
		if len(value) <= maxID && bytes.IndexByte(value, 0) < 0 {
			r.id = append(r.id[:0], value...)
		}
	case "retry":
		if len(value) <= 9 && len(bytes.Trim(value, "0123456789")) == 0 {
			r.retry = append(r.retry[:0], value...)
		}
	}
}

// line returns the next line without its end. It is valid until the next call.
func (r *Reader) line() ([]byte, error) {
	for {
		if r.skipLF && r.at < len(r.buf) {
			if r.buf[r.at] == '\n' {
				r.at++
				r.lineStart = r.at
			}
			r.skipLF = false
		}
		if i := bytes.IndexAny(r.buf[r.at:], "\r\n"); i >= 0 {
			end := r.at + i
			line := r.buf[r.lineStart:end]
			r.skipLF = r.buf[end] == '\r'
			r.at = end + 1
			r.lineStart = r.at
			if r.size += len(line) + 1; r.size > r.max {
				return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.max)
			}
			return line, nil
		}
		r.at = len(r.buf)
		if r.size+r.at-r.lineStart > r.max {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.max)
		}
		if r.err != nil {
			if r.at > r.lineStart {
				r.pending = true // a line without its end
			}
			return nil, r.err
		}
		r.fill()
	}
}

// fill reads once from the source.
func (r *Reader) fill() {
	if r.lineStart > 0 {
		n := copy(r.buf, r.buf[r.lineStart:])
		r.buf, r.at, r.lineStart = r.buf[:n], r.at-r.lineStart, 0
	}
	if r.before != nil {
		r.before()
	}
	if cap(r.buf)-len(r.buf) < 4096 {
		grown := make([]byte, len(r.buf), max(16<<10, 2*cap(r.buf)))
		copy(grown, r.buf)
		r.buf = grown
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf, r.err = r.buf[:len(r.buf)+n], err
	if !r.started {
		r.byteOrderMark()
	}
}

// byteOrderMark drops a UTF-8 byte order mark at the very beginning.
func (r *Reader) byteOrderMark() {
	const mark = "\uFEFF"
	if len(r.buf) < len(mark) && bytes.HasPrefix([]byte(mark), r.buf) && r.err == nil {
		return // not known yet
	}
	r.started = true
	if bytes.HasPrefix(r.buf, []byte(mark)) {
		r.buf = r.buf[:copy(r.buf, r.buf[len(mark):])]
		r.at = max(0, r.at-len(mark))
	}
}

// Append writes an event in its one form.
func Append(dst []byte, eventType string, data string) []byte {
	if eventType != "" {
		dst = append(append(append(dst, "event: "...), eventType...), '\n')
	}
	for {
		i := indexLF(data)
		if i < 0 {
			break
		}
		dst = append(append(append(dst, "data: "...), data[:i]...), '\n')
		data = data[i+1:]
	}
	return append(append(append(dst, "data: "...), data...), "\n\n"...)
}

// AppendID writes an event in its one form, with its id and its time for a retry.
func AppendID(dst []byte, id, retry, eventType, data string) []byte {
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	if retry != "" {
		dst = append(append(append(dst, "retry: "...), retry...), '\n')
	}
	return Append(dst, eventType, data)
}

func indexLF(s string) int {
	for i := range len(s) {
		if s[i] == '\n' {
			return i
		}
	}
	return -1
}
