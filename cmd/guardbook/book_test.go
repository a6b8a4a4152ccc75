package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/book"
)

// bookCommand runs "guardbook book ARGS" on a data directory.
func bookCommand(t *testing.T, data string, asJSON bool, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newBook(&cli{out: &out, err: t.Output(), data: data, json: asJSON})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTheBookIsVerifiedPrintedAndProvedBesideTheServer(t *testing.T) {
	data := t.TempDir()
	key, _, err := book.LoadKey(filepath.Join(data, "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := book.Open(filepath.Join(data, "book"), book.Options{Key: key, SealEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var raw []string
	id := ""
	for i := range 5 {
		rs, err := b.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeOperator, Body: guardbook.OperatorEntry{Op: "login", By: "x"}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := b.Entry(t.Context(), rs[0].Seq)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, string(e.Raw)+"\n")
		if i == 2 {
			id = e.ID
		}
	}
	if _, err := b.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}

	pub, anchor := filepath.Join(data, "signing-key.pub"), filepath.Join(data, "book", "1", "checkpoint")
	if out, err := bookCommand(t, data, false, "verify", "--trust", pub, "--anchor", anchor); err != nil || !strings.Contains(out, "RESULT    INTACT (exit 0)") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bookCommand(t, data, false, "verify", "--trust", pub); !errors.Is(err, exitIncomplete) || !strings.Contains(out, "RESULT    INTACT, INCOMPLETE (exit 3): 5 unanchored.") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bookCommand(t, data, true, "verify", "--trust", pub, "--anchor", pub); !errors.Is(err, exitFinding) || !strings.Contains(out, `"anchors":{"given":1,"valid":0,"anchored_size":0,"unanchored_entries":5}`) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bookCommand(t, data, true, "verify"); !errors.Is(err, exitIncomplete) || !strings.Contains(out, `"result":"incomplete"`) || strings.Count(out, "\n") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"cat"}, raw},
		{[]string{"cat", "--from", "1", "--to", "3"}, raw[1:4]},
		{[]string{"cat", "--from", "9"}, nil},
		{[]string{"cat", "--epoch", "1", "--to", "0"}, raw[:1]},
	} {
		if out, err := bookCommand(t, data, false, c.args...); err != nil || out != strings.Join(c.want, "") {
			t.Errorf("%v: %v\n%s", c.args, err, out)
		}
	}
	bySeq, err := bookCommand(t, data, false, "proof", "2")
	if err != nil || !strings.HasPrefix(bySeq, "c2sp.org/tlog-proof@v1\nindex 2\n") {
		t.Errorf("%v\n%s", err, bySeq)
	}
	if byID, err := bookCommand(t, data, false, "proof", id); err != nil || byID != bySeq {
		t.Errorf("%v\n%s", err, byID)
	}
	var no refused
	for _, args := range [][]string{{"proof", "77"}, {"proof", "nonsense"}} {
		if _, err := bookCommand(t, data, false, args...); !errors.As(err, &no) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{"cat", "--epoch", "7"}, {"verify", "--trust", "nonsense"}, {"verify", "--anchor", "nonsense"}} {
		if _, err := bookCommand(t, data, false, args...); err == nil || errors.As(err, &no) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := bookCommand(t, t.TempDir(), false, "verify"); err == nil {
		t.Error("a data directory without a book was verified")
	}
}
