package sse

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

type event struct{ Type, Data string }

func readAll(t testing.TB, src io.Reader) ([]event, error) {
	t.Helper()
	r := NewReader(src, 1<<20, nil)
	var out []event
	for {
		e, err := r.Next()
		if err != nil {
			return out, err
		}
		out = append(out, event{e.Type, string(e.Data)})
	}
}

func TestReaderFollowsTheStandard(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []event
		err  error
	}{
		"one event":                        {"data: a\n\n", []event{{"", "a"}}, io.EOF},
		"type":                             {"event: x\ndata: a\n\n", []event{{"x", "a"}}, io.EOF},
		"type is forgotten":                {"event: x\ndata: a\n\ndata: b\n\n", []event{{"x", "a"}, {"", "b"}}, io.EOF},
		"lines are joined":                 {"data: a\ndata:b\n\n", []event{{"", "a\nb"}}, io.EOF},
		"CR ends a line":                   {"data: a\rdata: b\r\r", []event{{"", "a\nb"}}, io.EOF},
		"CRLF ends one line":               {"data: a\r\n\r\ndata: b\r\n\r\n", []event{{"", "a"}, {"", "b"}}, io.EOF},
		"byte order mark":                  {"\uFEFFdata: a\n\n", []event{{"", "a"}}, io.EOF},
		"comments":                         {": hello\n\ndata: a\n: x\n\n", []event{{"", "a"}}, io.EOF},
		"other fields":                     {"id: 7\nretry: 10\nfoo: x\ndata: a\n\n", []event{{"", "a"}}, io.EOF},
		"only one space goes":              {"data:  a\n\n", []event{{"", " a"}}, io.EOF},
		"empty data":                       {"data\n\ndata:\n\n", []event{{"", ""}, {"", ""}}, io.EOF},
		"type without data is no event":    {"event: x\n\ndata: a\n\n", []event{{"", "a"}}, io.EOF},
		"cut in an event":                  {"data: a\n", nil, io.ErrUnexpectedEOF},
		"cut in a line":                    {"data: a\n\nda", []event{{"", "a"}}, io.ErrUnexpectedEOF},
		"a mark in the middle is not one":  {"data: a\n\n\uFEFFdata: b\n\n", []event{{"", "a"}}, io.EOF},
		"empty lines between are no event": {"\n\n\ndata: a\n\n\n\n", []event{{"", "a"}}, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			for way, src := range map[string]io.Reader{"whole": strings.NewReader(c.in), "byte by byte": iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := readAll(t, src)
				if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
					t.Errorf("%s: got %q, %v; want %q, %v", way, got, err, c.want, c.err)
				}
			}
		})
	}
}

func TestReaderRefusesAnEventOverItsLimit(t *testing.T) {
	for name, in := range map[string]string{
		"one line":   "data: " + strings.Repeat("x", 100),
		"many lines": strings.Repeat("data: x\n", 20),
	} {
		r := NewReader(strings.NewReader(in), 64, nil)
		if _, err := r.Next(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEverythingReadIsReturnedBeforeTheNextRead(t *testing.T) {
	calls := 0
	r := NewReader(strings.NewReader("data: a\n\ndata: b\n\n"), 64, func() { calls++ })
	for want := range 2 {
		if _, err := r.Next(); err != nil || calls != 1 {
			t.Fatalf("event %d: %v after %d reads", want, err, calls)
		}
	}
}

// However an event stream is cut, it reads the same; and what is written reads as
// what was read.
func TestCutsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"data: ä€😀\n", "data:x\r\n", "event: t\r", ": c\n", "\n", "\r\n", "\r", "data\n", "id: 1\n"}), 0, 30).Draw(t, "lines"), "")
		want, wantErr := collect(strings.NewReader(text))
		sizes := rapid.SliceOfN(rapid.IntRange(1, 7), 1, 10).Draw(t, "cuts")
		got, gotErr := collect(&cutReader{text, sizes, 0})
		if !slices.Equal(got, want) || !errors.Is(gotErr, wantErr) {
			t.Fatalf("got %q, %v; want %q, %v", got, gotErr, want, wantErr)
		}
		var b []byte
		for _, e := range want {
			b = Append(b, e.Type, e.Data)
		}
		if again, _ := collect(bytes.NewReader(b)); !slices.Equal(again, want) {
			t.Fatalf("written and read again: %q, want %q", again, want)
		}
	})
}

func collect(src io.Reader) (out []event, err error) {
	r := NewReader(src, 1<<20, nil)
	for {
		e, err := r.Next()
		if err != nil {
			return out, err
		}
		out = append(out, event{e.Type, string(e.Data)})
	}
}

type cutReader struct {
	rest string
	cuts []int
	i    int
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.rest == "" {
		return 0, io.EOF
	}
	n := min(c.cuts[c.i%len(c.cuts)], len(c.rest), len(p))
	c.i++
	copy(p, c.rest[:n])
	c.rest = c.rest[n:]
	return n, nil
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "event: x\r\ndata: a\r\rdata", "\uFEFFdata:\n\n", ": c\n\ndata: \xff\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		want, wantErr := collect(bytes.NewReader(in))
		got, gotErr := collect(iotest.OneByteReader(bytes.NewReader(in)))
		if !slices.Equal(got, want) || !errors.Is(gotErr, wantErr) {
			t.Fatalf("got %q, %v; want %q, %v", got, gotErr, want, wantErr)
		}
		var b []byte
		for _, e := range want {
			b = Append(b, e.Type, e.Data)
		}
		if again, _ := collect(bytes.NewReader(b)); !slices.Equal(again, want) {
			t.Fatalf("written and read again: %q, want %q", again, want)
		}
	})
}
