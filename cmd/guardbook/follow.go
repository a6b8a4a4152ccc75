package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/sse"
)

// maxEvent is more than the largest entry.
const maxEvent = 1 << 20

// followEvents prints the newest entries and goes on with what comes.
func (c *cli) followEvents(ctx context.Context, q url.Values, limit int) error {
	// What is listed and what is followed meet at this place in the book.
	var book struct {
		Size int64 `json:"size"`
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/book", nil, &book); err != nil {
		return err
	}
	p := &eventPrinter{c: c}
	if limit == 0 {
		limit = 1 << 30
	}
	entries, err := c.newestEvents(ctx, with(q, "before", strconv.FormatInt(book.Size, 10)), limit)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := p.print(e); err != nil {
			return err
		}
	}
	q.Del("since") // what comes is newer
	return c.stream(ctx, q, book.Size-1, p.print)
}

// errPrint is wrapped when the output is gone: then there is no reason to go on.
var errPrint = errors.New("print")

// stream calls each with the entries behind a sequence number that match, as they
// come, until ctx ends. A lost connection is made again and goes on behind the
// last entry that came.
func (c *cli) stream(ctx context.Context, q url.Values, last int64, each func(guardbook.Entry) error) error {
	const least, most = time.Second, 15 * time.Second
	wait := least
	for {
		before := last
		err := c.streamOnce(ctx, q, &last, each)
		var no refused
		var api *apiError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // interrupted: that is how it ends
		case errors.Is(err, errPrint):
			return err
		case errors.As(err, &no) && errors.As(no.error, &api) && api.Status/100 == 4 && api.Status != http.StatusTooManyRequests:
			return err
		}
		if last > before {
			wait = least
		}
		fmt.Fprintln(c.err, printable(fmt.Sprintf("The connection is gone (%v); trying again in %v.", err, wait)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, most)
	}
}

// streamOnce follows one connection. The place is given as the parameter "after",
// which says the same as Last-Event-ID and also takes the beginning.
func (c *cli) streamOnce(ctx context.Context, q url.Values, last *int64, each func(guardbook.Entry) error) error {
	resp, err := c.request(ctx, http.MethodGet, "/api/v1/events/stream?"+with(q, "after", strconv.FormatInt(*last, 10)).Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	events := sse.NewReader(resp.Body, maxEvent, nil)
	for {
		ev, err := events.Next()
		if err != nil {
			return err
		}
		e, err := guardbook.ParseEntry(bytes.Clone(ev.Data))
		if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return fmt.Errorf("%w: %w", errPrint, err)
		}
		*last = e.Seq
	}
}
