package derive

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// column describes one column of a listing; the descriptions become its
// dictionary.csv.
type column struct {
	name    string
	meaning string
	unit    string // text, time (RFC 3339 UTC), count, ms, ...
	source  string // member of the entry, or how it is computed
	empty   bool   // may be empty
}

// table writes one listing as CSV: RFC 4180 with LF, UTF-8, every text quoted so
// that ids stay text, texts made safe by Cell.
type table struct {
	sink  Sink
	base  string // name without ".csv"
	cols  []column
	limit int // rows per file; 0: no limit

	files []string
	rows  int64
	here  int // rows in the file that is open
	w     *bufio.Writer
	c     io.Closer
}

func newTable(sink Sink, base string, cols []column, limit int) (*table, error) {
	t := &table{sink: sink, base: base, cols: cols, limit: limit}
	return t, t.next()
}

// next opens the following file and writes its header.
func (t *table) next() error {
	if err := t.close(); err != nil {
		return err
	}
	name := t.base + ".csv"
	if len(t.files) > 0 {
		name = fmt.Sprintf("%s-%03d.csv", t.base, len(t.files)+1)
	}
	c, err := t.sink.Create(name)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	t.files, t.c, t.w, t.here = append(t.files, name), c, bufio.NewWriterSize(c, 64<<10), 0
	header := make([]any, len(t.cols))
	for i, col := range t.cols {
		header[i] = col.name
	}
	return t.line(header)
}

// row writes one row: string, int64, int, bool or float64 a cell.
func (t *table) row(cells ...any) error {
	if len(cells) != len(t.cols) {
		return fmt.Errorf("%s: a row of %d cells for %d columns", t.base, len(cells), len(t.cols))
	}
	if t.limit > 0 && t.here == t.limit {
		if err := t.next(); err != nil {
			return err
		}
	}
	t.rows++
	t.here++
	return t.line(cells)
}

func (t *table) line(cells []any) error {
	line := t.w.AvailableBuffer()
	for i, cell := range cells {
		if i > 0 {
			line = append(line, ',')
		}
		switch v := cell.(type) {
		case string:
			if v != "" {
				line = append(line, '"')
				line = append(line, strings.ReplaceAll(Cell(v), `"`, `""`)...)
				line = append(line, '"')
			}
		case int:
			line = strconv.AppendInt(line, int64(v), 10)
		case int64:
			line = strconv.AppendInt(line, v, 10)
		case float64:
			line = strconv.AppendFloat(line, v, 'f', -1, 64)
		case bool:
			line = strconv.AppendBool(line, v)
		case nil:
		default:
			return fmt.Errorf("%s: a cell of type %T", t.base, cell)
		}
	}
	_, err := t.w.Write(append(line, '\n'))
	return err
}

func (t *table) close() error {
	if t.c == nil {
		return nil
	}
	c := t.c
	t.c = nil
	if err := t.w.Flush(); err != nil {
		c.Close()
		return fmt.Errorf("write %s: %w", t.base, err)
	}
	return c.Close()
}

// dictionary writes what the columns of a listing mean.
func dictionary(sink Sink, dir string, cols []column) error {
	t, err := newTable(sink, dir+"/dictionary", []column{{name: "column"}, {name: "meaning"}, {name: "unit"}, {name: "source"}, {name: "may_be_empty"}}, 0)
	if err != nil {
		return err
	}
	for _, c := range cols {
		if err := t.row(c.name, c.meaning, c.unit, c.source, c.empty); err != nil {
			return err
		}
	}
	return t.close()
}

// lines writes raw entries, one a line, byte for byte.
type lines struct {
	name string
	n    int64
	w    *bufio.Writer
	c    io.Closer
}

func newLines(sink Sink, name string) (*lines, error) {
	c, err := sink.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return &lines{name: name, w: bufio.NewWriterSize(c, 64<<10), c: c}, nil
}

func (l *lines) add(raw []byte) error {
	l.n++
	if _, err := l.w.Write(raw); err != nil {
		return err
	}
	return l.w.WriteByte('\n')
}

func (l *lines) close() error {
	if err := l.w.Flush(); err != nil {
		l.c.Close()
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	return l.c.Close()
}

// text writes a whole small file.
func text(sink Sink, name, content string) error {
	c, err := sink.Create(name)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	if _, err := io.WriteString(c, content); err != nil {
		c.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return c.Close()
}
