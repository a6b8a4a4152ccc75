package book

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strconv"
	"time"
	"uuid"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book/c2sp"
)

// ErrTooLarge is wrapped by the error of an append whose entry does not fit into
// an entry bundle.
var ErrTooLarge = errors.New("entry is too large")

// maxSeqDigits bounds what the writer splices in: 2^53 has 16 digits, and no JSON
// number beyond it survives RFC 8785.
const maxSeqDigits = 16

// encoded is an entry that lacks only its place and time: everything that costs
// time was done by the goroutine that appends, and the writer copies bytes.
type encoded struct {
	header guardbook.Header // without Seq and Rec
	json   []byte           // canonical, with a zero time and number to be replaced
	recAt  int              // where the 27 bytes of rec begin
	seqAt  int              // where the one digit of seq stands
}

var zeroTime = time.Unix(0, 0).UTC().Format(guardbook.TimeLayout)

// encode writes a draft as canonical JSON (RFC 8785), the header's members and
// the body's side by side. A member of the body with the name of one of the
// header's is an error.
func encode(d guardbook.Draft, log, instance string, now time.Time) (encoded, error) {
	h := guardbook.Header{V: guardbook.EntryVersion, Log: log, ID: d.ID, Instance: instance, Type: d.Type, Tenant: d.Tenant}
	if h.Type == "" {
		return encoded{}, errors.New("entry: it has no type")
	}
	if h.ID == "" {
		h.ID = uuid.NewV7().String()
	}
	if h.Tenant == "" {
		h.Tenant = guardbook.DefaultTenant
	}
	if d.Time.IsZero() {
		d.Time = now
	}
	h.TS = d.Time.UTC().Format(guardbook.TimeLayout)
	h.Rec = zeroTime

	// Text that is no UTF-8 is kept with U+FFFD in place of the broken bytes: an
	// entry that cannot be written would be a hole in the record.
	b, err := json.Marshal(h, jsontext.AllowInvalidUTF8(true))
	if err == nil && d.Body != nil {
		var body []byte
		if body, err = json.Marshal(d.Body, jsontext.AllowInvalidUTF8(true)); err == nil {
			b, err = merge(b, body)
		}
	}
	if err == nil {
		v := jsontext.Value(b)
		err = v.Canonicalize()
		b = v
	}
	if err != nil {
		return encoded{}, fmt.Errorf("%s entry: %w", d.Type, err)
	}
	if n := len(b) - 1 + maxSeqDigits; n > c2sp.MaxEntry {
		return encoded{}, fmt.Errorf("%s entry of %d bytes: %w: at most %d bytes fit", d.Type, n, ErrTooLarge, c2sp.MaxEntry)
	}
	e := encoded{header: h, json: b}
	if e.recAt, e.seqAt, err = places(b); err != nil {
		return encoded{}, fmt.Errorf("%s entry: %w", d.Type, err)
	}
	return e, nil
}

// merge puts the members of two JSON objects into one.
func merge(a, b []byte) ([]byte, error) {
	if len(b) < 2 || b[0] != '{' {
		return nil, errors.New("its body is no JSON object")
	}
	if len(b) == 2 {
		return a, nil
	}
	a[len(a)-1] = ','
	return append(a, b[1:]...), nil
}

// places finds the values of the members rec and seq of an object in compact,
// valid JSON.
func places(b []byte) (rec, seq int, err error) {
	depth, name := 0, false // name: a string here would be a member's name
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
			name = depth == 1
		case '}', ']':
			depth--
		case ',':
			name = depth == 1
		case '"':
			from := i
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if name {
				switch string(b[from : i+1]) {
				case `"rec"`:
					rec = i + 3 // past the quote, the colon and the quote of the value
				case `"seq"`:
					seq = i + 2
				}
				name = false
			}
		}
	}
	if rec == 0 || seq == 0 || rec > seq || b[seq] != '0' || string(b[rec:rec+len(zeroTime)]) != zeroTime {
		return 0, 0, errors.New("its header was not found again")
	}
	return rec, seq, nil
}

// finish gives the entry its place and time.
func (e *encoded) finish(seq int64, rec string) (guardbook.Entry, tlog.Hash) {
	raw := make([]byte, 0, len(e.json)+maxSeqDigits)
	raw = append(raw, e.json[:e.recAt]...)
	raw = append(raw, rec...)
	raw = append(raw, e.json[e.recAt+len(zeroTime):e.seqAt]...)
	raw = strconv.AppendInt(raw, seq, 10)
	raw = append(raw, e.json[e.seqAt+1:]...)
	h := e.header
	h.Seq, h.Rec = seq, rec
	return guardbook.Entry{Header: h, Raw: raw}, tlog.RecordHash(raw)
}
