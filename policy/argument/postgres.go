package argument

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	tree "github.com/pganalyze/pg_query_go/v6"
	pgquery "github.com/wasilibs/go-pgquery"
)

const (
	// maxSQL bounds the text of a statement, in bytes.
	maxSQL = 64 << 10
	// maxDepth bounds how deeply a statement can nest; see depthBound.
	maxDepth = 1200
	// parseTime bounds one parse with its wait for a free parser, startTime those
	// that have to wait for the parser's start: about a second on an idle machine.
	parseTime = 5 * time.Second
	startTime = 60 * time.Second
)

var (
	errTooLong  = errors.New("it is longer than 64 KiB")
	errTooDeep  = errors.New("it has too many nested or chained expressions")
	errDefunct  = errors.New("the SQL parser failed earlier and is out of use until the next start")
	errTooSlow  = errors.New("the SQL parser took too long")
	errNulInSQL = errors.New("it holds a NUL character")
)

// postgres is PostgreSQL's own parser, compiled to WebAssembly. There is one for
// the process, because the library keeps one pool of instances for the process:
// each takes a second to start and memory to keep, so their number is bounded here.
var postgres = newPostgresParser()

// postgresParser parses statements, a few at a time.
//
// Safety: the WebAssembly build has a fixed stack and no check of its depth. A
// statement that overflows it leaves an instance behind that is broken without
// saying so and goes back into the library's pool, where the next statement could
// be misread. So the depth is bounded before anything is parsed (depthBound), and
// if the parser panics all the same, every SQL argument is refused from then on.
type postgresParser struct {
	slots   chan struct{}
	defunct atomic.Bool
	started atomic.Bool // an instance has answered
	warmed  atomic.Bool // every instance has
}

func newPostgresParser() *postgresParser {
	return &postgresParser{slots: make(chan struct{}, min(max(runtime.GOMAXPROCS(0)/2, 1), 4))}
}

// parse returns the tree of sql. It waits for a free instance and returns early,
// with an error, when ctx is done.
func (p *postgresParser) parse(ctx context.Context, sql string) (*tree.ParseResult, error) {
	if len(sql) > maxSQL {
		return nil, errTooLong
	}
	for i := range len(sql) {
		if sql[i] == 0 {
			return nil, errNulInSQL // the parser would stop there
		}
	}
	limit := parseTime
	if !p.started.Load() {
		limit = startTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooSlow)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	type answer struct {
		result *tree.ParseResult
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil {
				p.defunct.Store(true)
				a = answer{err: fmt.Errorf("%w (%v)", errDefunct, r)}
			}
			<-p.slots
			done <- a
		}()
		if p.defunct.Load() {
			a.err = errDefunct
			return
		}
		if a.err = depthBound(sql); a.err == nil {
			a.result, a.err = pgquery.Parse(sql)
			p.started.Store(true)
		}
	}()
	select {
	case a := <-done:
		return a.result, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// depthBound refuses a statement that could nest more than maxDepth levels. Every
// production of the grammar that adds a level consumes a token that is neither a
// constant nor a comma nor a closing bracket, so the count of the other tokens
// bounds the depth, and a text's length bounds that count. It may refuse a long
// flat statement, never pass a deep one.
func depthBound(sql string) error {
	if len(sql) <= maxDepth {
		return nil
	}
	scan, err := pgquery.Scan(sql) // the lexer alone, which does not recurse
	if err != nil {
		return err
	}
	n := 0
	for _, t := range scan.GetTokens() {
		switch t.GetToken() {
		case tree.Token_ICONST, tree.Token_FCONST, tree.Token_SCONST, tree.Token_PARAM,
			tree.Token_ASCII_44, tree.Token_ASCII_41, tree.Token_ASCII_93,
			tree.Token_SQL_COMMENT, tree.Token_C_COMMENT:
		default:
			n++
		}
	}
	if n > maxDepth {
		return errTooDeep
	}
	return nil
}

// WarmSQL starts every instance of the SQL parser, which takes a second or two,
// so that no call that needs one waits for it.
func WarmSQL(ctx context.Context) error { return postgres.warm(ctx) }

func (p *postgresParser) warm(ctx context.Context) error {
	if p.warmed.Load() {
		return nil
	}
	errs := make([]error, cap(p.slots))
	var wg sync.WaitGroup
	for i := range errs {
		// All at once: each finds the library's pool empty and starts an instance.
		wg.Go(func() { _, errs[i] = p.parse(ctx, "SELECT 1") })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("start the SQL parser: %w", err)
	}
	p.warmed.Store(true)
	debug.FreeOSMemory() // compiling took some hundred MiB, which nothing will need again
	return nil
}
