package main

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

const (
	defaultData   = "guardbook-data"
	defaultListen = "127.0.0.1:8787"
)

// cli is what every command shares: where to read and write, and where the server is.
type cli struct {
	in       io.Reader
	out, err io.Writer
	json     bool
	data     string
	url      string
}

// dataDir is the data directory: flag, environment, default.
func (c *cli) dataDir() string {
	return firstOf(c.data, os.Getenv("GUARDBOOK_DATA"), defaultData)
}

// serverURL is the server's address: flag, environment, default.
func (c *cli) serverURL() string {
	return strings.TrimRight(firstOf(c.url, os.Getenv("GUARDBOOK_URL"), "http://"+defaultListen), "/")
}

// token is an operator's token: environment, else the server's own file.
func (c *cli) token() (string, error) {
	if t := os.Getenv("GUARDBOOK_TOKEN"); t != "" {
		return t, nil
	}
	path := filepath.Join(c.dataDir(), "admin-token")
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("no operator token: set GUARDBOOK_TOKEN, or give --data so that %s can be read: %w", path, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// apiError is an answer of the server that is not a success.
type apiError struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Message }

// call sends one request to the operator API and reads the answer into out (nil: drop it).
func (c *cli) call(ctx context.Context, method, path string, body, out any) error {
	resp, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.UnmarshalRead(resp.Body, out); err != nil {
		return fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	return nil
}

// request sends one request to the operator API; the answer's body is the caller's to close.
func (c *cli) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.serverURL()+path, rd)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Guardbook-Operator", os.Getenv("USER")) // names, and opens nothing
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s (is the server up? guardbook doctor tells more): %w", c.serverURL(), err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var wrapped struct {
		Error apiError `json:"error"`
	}
	if json.Unmarshal(b, &wrapped) == nil && wrapped.Error.Message != "" {
		wrapped.Error.Status = resp.StatusCode
		return nil, refused{&wrapped.Error}
	}
	return nil, fmt.Errorf("%s %s answered %s", method, path, resp.Status)
}

// printJSON writes v as one line of JSON.
func (c *cli) printJSON(v any) error {
	b, err := json.Marshal(v, jsontext.EscapeForHTML(false))
	if err != nil {
		return err
	}
	_, err = c.out.Write(append(b, '\n'))
	return err
}

// table writes aligned rows; every cell is made printable.
func (c *cli) table(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t "))
	}
	return w.Flush()
}

// printable escapes whatever could move a cursor, change a colour or reorder a
// line in a terminal: text from agents is hostile there, too.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == ' ' || unicode.IsPrint(r) && !unicode.Is(unicode.Bidi_Control, r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// parseTime reads a point in time: RFC 3339, a date (midnight UTC), or a
// duration before now ("15m", "24h", "7d").
func parseTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC(), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	if d, err := parseDuration(s); err == nil {
		return now.Add(-d).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: use RFC 3339 (2026-01-31T15:04:05Z), a date (2026-01-31) or a duration before now (15m, 24h, 7d)", s)
}

// parseDuration is time.ParseDuration with days.
func parseDuration(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		d, err := time.ParseDuration(n + "h")
		return 24 * d, err
	}
	return time.ParseDuration(s)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// usageError is for wrong arguments: exit code 2.
func usageError(format string, args ...any) error {
	return fmt.Errorf(format, args...)
}
