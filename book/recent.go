package book

import "github.com/guardbook/guardbook"

// recent keeps the newest entries in memory, so that those who follow the book
// closely don't read each entry from the journal again.
type recent struct {
	entries []guardbook.Entry // contiguous
	bytes   int
}

const recentBytes = 8 << 20

func (r *recent) clear() { *r = recent{} }

func (r *recent) add(entries []guardbook.Entry) {
	for _, e := range entries {
		r.bytes += len(e.Raw)
	}
	r.entries = append(r.entries, entries...)
	if r.bytes <= recentBytes {
		return
	}
	drop := 0
	for ; drop < len(r.entries) && r.bytes > recentBytes/2; drop++ {
		r.bytes -= len(r.entries[drop].Raw)
	}
	// A new slice: readers hold pieces of the old one.
	r.entries = append([]guardbook.Entry(nil), r.entries[drop:]...)
}

// from returns up to limit entries from a number on, or nil if they are not here.
// The result must not be changed.
func (r *recent) from(seq int64, limit int) []guardbook.Entry {
	if len(r.entries) == 0 || seq < r.entries[0].Seq {
		return nil
	}
	i := seq - r.entries[0].Seq
	if i >= int64(len(r.entries)) {
		return nil
	}
	es := r.entries[i:min(i+int64(limit), int64(len(r.entries)))]
	return es[:len(es):len(es)]
}
