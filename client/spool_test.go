package client

import (
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func numbers(t *testing.T, s *spool) (ns []int64) {
	t.Helper()
	for s.pending() {
		events, end, err := s.batch()
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range events {
			var e event
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			ns = append(ns, e.Seq)
		}
		if err := s.confirm(end); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

func TestASpoolKeepsOrderAndShrinks(t *testing.T) {
	dir := t.TempDir()
	s, err := newSpool(dir, origin{Client: "c", Server: "s", Agent: "a"}, spoolLimit)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(600) {
		if full, err := s.append(newEvent(Told{Seq: i + 1, Event: "refused"})); full || err != nil {
			t.Fatal(full, err)
		}
	}
	got := numbers(t, s)
	if len(got) != 600 || got[0] != 1 || got[599] != 600 {
		t.Errorf("%d events, %v", len(got), got[:min(3, len(got))])
	}
	if st, err := os.Stat(filepath.Join(dir, "c.jsonl")); err != nil || st.Size() != s.start {
		t.Errorf("%v %v", st, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFullSpoolSaysSo(t *testing.T) {
	s, err := newSpool(t.TempDir(), origin{Client: "c"}, 300)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for i := range int64(20) {
		full, err := s.append(newEvent(Told{Seq: i + 1, Event: "refused"}))
		if err != nil {
			t.Fatal(err)
		}
		if full {
			break
		}
		kept++
	}
	if kept == 0 || kept == 20 || len(numbers(t, s)) != kept {
		t.Errorf("%d were kept", kept)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func TestOrphansAreOfTheDeadAndOfTheSameAgent(t *testing.T) {
	dir := t.TempDir()
	mine := origin{Client: "mine", Server: "s", Agent: "a", Key: "k"}
	for name, o := range map[string]origin{
		"alive": {Client: "alive", Server: "s", Agent: "a", Key: "k"},
		"dead":  {Client: "dead", Server: "s", Agent: "a", Key: "k"},
		"other": {Client: "other", Server: "s", Agent: "b", Key: "k2"},
	} {
		s, err := newSpool(dir, o, spoolLimit)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.append(newEvent(Told{Seq: 7, Event: "refused"})); err != nil {
			t.Fatal(err)
		}
		if name == "alive" {
			defer s.close()
			continue
		}
		// What a process leaves that dies in the middle of a line.
		if _, err := fmt.Fprint(s.file, `{"seq":8,"ev`); err != nil {
			t.Fatal(err)
		}
		_ = s.file.Close()
		_ = s.lock.Unlock()
	}
	if err := os.WriteFile(filepath.Join(dir, "garbage.jsonl"), []byte("no json"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := orphans(dir, mine)
	if len(got) != 1 || got[0].client != "dead" {
		t.Fatalf("got %+v", got)
	}
	if again := orphans(dir, mine); len(again) != 0 {
		t.Error("two processes got the same orphan")
	}
	if ns := numbers(t, got[0].spool); len(ns) != 1 || ns[0] != 7 {
		t.Errorf("events %v", ns)
	}
	if err := got[0].close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "dead.jsonl")); !os.IsNotExist(err) {
		t.Error("an empty orphan stays behind")
	}
}
