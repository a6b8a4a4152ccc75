package evidence

import (
	"context"
	"fmt"
	"time"

	"github.com/guardbook/guardbook/evidence/derive"
)

// Exceptions makes the list of checks and exceptions of a window straight from the
// book, up to its last checkpoint, and writes nothing.
func Exceptions(ctx context.Context, src Source, vkey string, from, to time.Time, tool derive.Tool) ([]derive.ExceptionRow, error) {
	logs, err := chooseLogs(ctx, src, vkey, 0)
	if err != nil {
		return nil, fmt.Errorf("list exceptions: %w", err)
	}
	in := derive.Input{Params: derive.Params{From: from.UTC(), To: to.UTC(), Key: vkey, Tool: tool}, Text: src.Text}
	for _, l := range logs {
		in.Params.Unsealed += l.beyond
		in.Logs = append(in.Logs, l.fromSource(src))
	}
	facts, err := derive.Run(ctx, in, derive.Hashes{})
	if err != nil {
		return nil, fmt.Errorf("list exceptions: %w", err)
	}
	var rows []derive.ExceptionRow
	n := 1
	for _, c := range facts.Checks {
		rows = append(rows, c.Rows(n)...)
		n += len(c.Exceptions)
	}
	return rows, nil
}
