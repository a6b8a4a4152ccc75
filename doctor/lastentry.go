package doctor

import (
	"context"
	"path/filepath"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
)

// lastRecorded is when the newest entry of the book was recorded. A book that
// cannot be read has other checks that say so.
func (x *examination) lastRecorded(ctx context.Context) (at time.Time, found bool) {
	if !x.hasBook() {
		return at, false
	}
	r, err := book.OpenReader(filepath.Join(x.Data, "book"))
	if err != nil {
		return at, false
	}
	defer r.Close()
	epochs := r.Epochs()
	for i := len(epochs) - 1; i >= 0; i-- {
		n := epochs[i].Number
		size, err := r.Size(ctx, n)
		if err != nil || size == 0 {
			continue
		}
		last, err := r.Read(ctx, n, size-1, 1)
		if err != nil || len(last) == 0 {
			return at, false
		}
		at, err = time.Parse(guardbook.TimeLayout, last[0].Rec)
		return at, err == nil
	}
	return at, false
}
