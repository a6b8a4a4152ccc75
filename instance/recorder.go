package instance

import (
	"context"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
)

// recorder is the book for those who need no receipts.
type recorder struct{ book *book.Book }

func (r recorder) Append(ctx context.Context, d ...guardbook.Draft) error {
	_, err := r.book.Append(ctx, d...)
	return err
}

func (r recorder) AppendDurable(ctx context.Context, d ...guardbook.Draft) error {
	_, err := r.book.AppendDurable(ctx, d...)
	return err
}
