package instance

import (
	"context"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/archive"
	"github.com/guardbook/guardbook/book"
)

// freshFor is how long a question waits for the archive to come up to the book.
const freshFor = time.Second

// fresh is an archive that answers with what was in the book when it was asked:
// whoever has just seen a decision finds it. When the archive does not come up in
// time (a full disk), it answers with what it has.
type fresh struct {
	archive.Archive
	book *book.Book
}

func (f fresh) Events(ctx context.Context, q archive.Query) ([]guardbook.Entry, error) {
	f.wait(ctx)
	return f.Archive.Events(ctx, q)
}

func (f fresh) Event(ctx context.Context, id string) (guardbook.Entry, error) {
	f.wait(ctx)
	return f.Archive.Event(ctx, id)
}

func (f fresh) Counts(ctx context.Context, q archive.Query, by archive.By) (map[string]int64, error) {
	f.wait(ctx)
	return f.Archive.Counts(ctx, q, by)
}

func (f fresh) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, freshFor)
	defer cancel()
	for size := f.book.Size(); ; {
		log, next, err := f.Cursor(ctx)
		if err != nil || log == f.book.Origin() && next >= size {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}
