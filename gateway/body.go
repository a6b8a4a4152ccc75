package gateway

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// errTooLarge means that a body, or what it is decoded to, is over the limit.
var errTooLarge = errors.New("the body is too large")

// discardLimit is how much of a body that is too large is read and thrown away, so
// that a client that only listens after it has sent everything hears the refusal.
const discardLimit = 256 << 20

// ReadBody reads a request's body, decoded, within a size and a time. The refusal
// is nil when it could.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64, within time.Duration) ([]byte, *Refusal) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(within)) // a writer without deadlines has no slow clients: a test's recorder
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	if r.ContentLength > limit {
		if r.Header.Get("Expect") == "" {
			_ = rc.SetReadDeadline(time.Now().Add(min(within, 10*time.Second)))
			_, _ = io.CopyN(io.Discard, r.Body, discardLimit)
		}
		return nil, tooLarge(limit)
	}
	body, err := readLimited(r.Body, limit, r.ContentLength)
	if err == nil {
		body, err = decode(body, r.Header.Get("Content-Encoding"), limit)
	} else if errors.Is(err, errTooLarge) {
		_ = rc.SetReadDeadline(time.Now().Add(min(within, 10*time.Second)))
		_, _ = io.CopyN(io.Discard, r.Body, discardLimit)
	}
	var unknown *encodingError
	switch {
	case err == nil:
		r.Header.Del("Content-Encoding")
		return body, nil
	case errors.Is(err, errTooLarge):
		return nil, tooLarge(limit)
	case errors.As(err, &unknown):
		return nil, &Refusal{Status: http.StatusUnsupportedMediaType, Code: "bad_encoding", Message: "Content-Encoding " + unknown.Error() + ". Send the body as it is, or as gzip or deflate."}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &Refusal{Status: http.StatusRequestTimeout, Code: "slow_body", Close: true,
			Message: fmt.Sprintf("The request's body did not arrive within %v.", within)}
	case errors.Is(err, io.ErrUnexpectedEOF) || r.Context().Err() != nil:
		return nil, &Refusal{Status: statusClientGone, Code: "client_gone", Message: "The client went away while it sent the request.", Close: true}
	default:
		return nil, &Refusal{Status: http.StatusBadRequest, Code: "bad_encoding", Message: "The request's body could not be read: it is not what its headers say.", Close: true}
	}
}

func tooLarge(limit int64) *Refusal {
	return &Refusal{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Close: true,
		Message: fmt.Sprintf("The request's body is larger than the limit of %d bytes, as sent or decoded.", limit)}
}

type encodingError struct{ name string }

func (e *encodingError) Error() string { return fmt.Sprintf("%q is not supported", e.name) }

// decode undoes a content encoding. What comes out is bounded, however well it was
// compressed.
func decode(body []byte, encoding string, limit int64) ([]byte, error) {
	var r io.Reader
	var err error
	switch name := strings.ToLower(strings.TrimSpace(encoding)); name {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(body))
	default:
		if len(name) > 40 {
			name = name[:40]
		}
		return nil, &encodingError{name}
	}
	if err == nil {
		body, err = readLimited(r, limit, -1)
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("decode the body: %v", err) //nolint:errorlint // not wrapped: an early end here is not the client's going
	}
	return body, err
}

// readLimited reads everything, at most limit bytes. expected is a hint, -1 when it
// is not known; it is not believed further than 1 MiB.
func readLimited(r io.Reader, limit, expected int64) ([]byte, error) {
	size := int64(4096)
	if expected >= 0 {
		size = min(expected+bytes.MinRead, 1<<20)
	}
	buf := bytes.NewBuffer(make([]byte, 0, size))
	n, err := buf.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, errTooLarge
	}
	return buf.Bytes(), nil
}
