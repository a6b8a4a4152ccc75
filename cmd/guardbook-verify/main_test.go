package main

import (
	"bytes"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

func TestTheVerifierNeedsOnlyTheFilesAndAKey(t *testing.T) {
	data := t.TempDir()
	key, _, err := book.LoadKey(filepath.Join(data, "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := book.Open(filepath.Join(data, "book"), book.Options{Key: key, SealEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	early := filepath.Join(data, "early") // what somebody kept before the book was full
	for i := range 300 {
		if i == 200 {
			c, err := b.Seal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(early, c.Note, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeOperator, Body: guardbook.OperatorEntry{Op: "login", By: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	exported := filepath.Join(data, "book")
	if err := os.Remove(filepath.Join(exported, "1", "journal.db")); err != nil {
		t.Fatal(err)
	}
	pub := filepath.Join(data, "signing-key.pub")
	anchor := filepath.Join(exported, "1", "checkpoint") // a copy of it that was kept would be the same
	bundle := filepath.Join(exported, "1", "tile", "entries", "000")
	cases := []struct {
		name string
		args []string
		want int
		says string
	}{
		{"pinned and anchored", []string{"--trust", pub, "--anchor", anchor, exported}, 0, "RESULT    INTACT (exit 0)"},
		{"two anchors", []string{"--anchor", early, "--anchor=" + anchor, "--trust", pub, exported}, 0, "2/2 checkpoints given with --anchor fit the book; anchored size 300, 0 records after it"},
		{"one log alone, flags last", []string{filepath.Join(exported, "1"), "--trust", key.Fingerprint(), "--anchor", anchor}, 0, "300 records seq 0..299 contiguous"},
		{"not anchored", []string{"--trust", pub, exported}, 3, "RESULT    INTACT, INCOMPLETE (exit 3): 300 unanchored."},
		{"anchored in part", []string{"--trust", pub, "--anchor", early, exported}, 3, "anchored size 200, 100 records after it are signed but NOT anchored"},
		{"unpinned", []string{"--anchor", anchor, exported}, 3, "UNPINNED"},
		{"an anchor that is none", []string{"--trust", pub, "--anchor", pub, exported}, 1, "0/1 checkpoints given with --anchor fit the book"},
		{"an anchor that isn't there", []string{"--trust", pub, "--anchor", filepath.Join(data, "none"), exported}, 2, ""},
		{"no directory", nil, 2, ""},
		{"a directory that isn't there", []string{filepath.Join(data, "none")}, 2, ""},
		{"a trust root that is none", []string{"--trust", "x", exported}, 2, ""},
		{"an unknown flag", []string{"--nonsense", exported}, 2, ""},
		{"an empty directory", []string{t.TempDir()}, 1, "FAILED"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out, errw bytes.Buffer
			if got := run(t.Context(), c.args, &out, &errw); got != c.want || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit %d, want %d\n%s%s", got, c.want, out.String(), errw.String())
			}
		})
	}
	bs, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	bs[1000] ^= 1
	if err := os.WriteFile(bundle, bs, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errw bytes.Buffer
	if got := run(t.Context(), []string{"--json", "--trust", pub, exported}, &out, &errw); got != 1 {
		t.Errorf("exit %d after an edit", got)
	}
	var r verify.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Exit != 1 || r.Logs[0].Altered != 1 || r.Problems[0].Seq == nil {
		t.Errorf("%v: %s", err, out.String())
	}
}
