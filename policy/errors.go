package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one problem of a policy file.
type Error struct {
	File         string
	Line, Column int    // from 1; columns count characters
	Message      string // says what is wrong and what is allowed
	Excerpt      string // the line with a caret below the column; two lines without a line end
}

// Error gives position, message and excerpt on three lines.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	if e.Excerpt != "" {
		s += "\n" + e.Excerpt
	}
	return s
}

// Errors is every problem of one or more policy files. Its List is not empty.
type Errors struct{ List []*Error }

// Error joins the texts of every problem.
func (e *Errors) Error() string {
	texts := make([]string, len(e.List))
	for i, x := range e.List {
		texts[i] = x.Error()
	}
	return strings.Join(texts, "\n")
}

// excerpt cuts one line out of src and puts a caret below a column. A long line
// is cut around the caret, and nothing in it can move a terminal's cursor.
func excerpt(src []byte, line, column int) string {
	const before, after = 60, 50
	rest := string(src)
	for range line - 1 {
		_, next, ok := strings.Cut(rest, "\n")
		if !ok {
			return ""
		}
		rest = next
	}
	text, _, _ := strings.Cut(rest, "\n")
	text = strings.TrimSuffix(text, "\r")
	var shown strings.Builder
	caret, n, cutLeft, cutRight := 0, 0, false, false
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		n++
		switch {
		case n < column-before:
			cutLeft = true
			continue
		case n > column+after:
			cutRight = true
		}
		if cutRight {
			break
		}
		if n < column {
			caret++
		}
		switch {
		case r == '\t':
			r = ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			r = '·'
		}
		shown.WriteRune(r)
	}
	if n < column { // at the end of the line or, by an odd position, beyond it
		caret = utf8.RuneCountInString(shown.String())
	}
	left, right := "", ""
	if cutLeft {
		left = "..."
	}
	if cutRight {
		right = "..."
	}
	margin := fmt.Sprintf("%5d | ", line)
	return margin + left + shown.String() + right + "\n" + strings.Repeat(" ", len(margin)-2) + "| " + strings.Repeat(" ", len(left)+caret) + "^"
}
