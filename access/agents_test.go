package access_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/access"
)

func TestAKeyOpensForItsAgentAndNoOther(t *testing.T) {
	f := open(t)
	a, b := f.create(t, "bot-a"), f.create(t, "bot-b")
	if f.opens(a) != "bot-a" || f.opens(b) != "bot-b" {
		t.Errorf("keys open for %q and %q", f.opens(a), f.opens(b))
	}
	agent, tenant, ok := f.Authenticate(a)
	if agent != "bot-a" || tenant != guardbook.DefaultTenant || !ok {
		t.Errorf("Authenticate = %q, %q, %v", agent, tenant, ok)
	}
	swapped := a[:20] + b[20:]
	if f.opens(swapped) != "" {
		t.Error("one agent's id with another's secret opens")
	}
}

func TestKeysThatAreNoneOpenNothing(t *testing.T) {
	f := open(t)
	key := f.create(t, "bot")
	for _, k := range []string{"", "gbk_", key + "x", key[:len(key)-1], strings.ToUpper(key), " " + key, "gbo_" + key[4:],
		key[:21] + strings.Repeat("a", 52), key[:len(key)-1] + "\x00", f.adminToken(t)} {
		if got := f.opens(k); got != "" {
			t.Errorf("%q opens for %q", k, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(key)-1).Draw(t, "at")
		c := rapid.Byte().Draw(t, "byte")
		if c == key[i] {
			return
		}
		if got := f.opens(key[:i] + string([]byte{c}) + key[i+1:]); got != "" {
			t.Fatalf("a key with byte %d changed opens for %q", i, got)
		}
	})
}

func TestAnAgentsKeyNeverOpensAnOperatorsDoor(t *testing.T) {
	f := open(t)
	key := f.create(t, "bot")
	if f.AuthenticateToken(key) || f.AuthenticateToken("gbo_"+key[4:]) {
		t.Error("an agent's key passes as the admin token")
	}
}

func TestAnOperatorsTokenNeverOpensAnAgentsDoor(t *testing.T) {
	f := open(t)
	f.create(t, "bot")
	token := f.adminToken(t)
	if f.opens(token) != "" || f.opens("gbk_"+token[4:]) != "" {
		t.Error("the admin token passes as an agent's key")
	}
}

func TestNoSecretIsAtRestOrInTheBook(t *testing.T) {
	f := open(t)
	secrets := []string{f.create(t, "bot")[21:], f.adminToken(t)[21:], "correct horse battery"}
	if err := f.CreateAccount(t.Context(), "ann", "correct horse battery", "admin-token"); err != nil {
		t.Fatal(err)
	}
	session, err := f.Login(t.Context(), "ann", "correct horse battery", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	once, _, err := f.NewOnce(t.Context(), "admin-token")
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, session, once)
	var all strings.Builder
	for _, e := range f.book.entries {
		all.Write(e.Raw)
	}
	for _, name := range []string{"access.db", "access.db-wal"} {
		b, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for _, s := range secrets {
		if strings.Contains(all.String(), s) {
			t.Errorf("secret %q is at rest or in the book", s)
		}
	}
}

func TestRotationStopsTheOldKeyAtOnce(t *testing.T) {
	f := open(t)
	old := f.create(t, "bot")
	_, fresh, err := f.Rotate(t.Context(), "bot", 0, "ann")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same after a restart
		if f.opens(old) != "" || f.opens(fresh) != "bot" {
			t.Errorf("old key opens for %q, new key for %q", f.opens(old), f.opens(fresh))
		}
		f.reopen(t)
	}
}

func TestRotationWithOverlapLetsTheOldKeyRunOut(t *testing.T) {
	f := open(t)
	old := f.create(t, "bot")
	_, fresh, err := f.Rotate(t.Context(), "bot", time.Hour, "ann")
	if err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Hour - time.Second)
	f.reopen(t)
	if f.opens(old) != "bot" || f.opens(fresh) != "bot" {
		t.Error("within the overlap both keys must open")
	}
	f.now = f.now.Add(time.Second)
	if f.opens(old) != "" || f.opens(fresh) != "bot" {
		t.Error("after the overlap only the new key must open")
	}
	if _, _, err := f.Rotate(t.Context(), "bot", access.MaxOverlap+1, "ann"); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("an overlap above the most: error %v", err)
	}
}

func TestARemovedAgentsKeyStopsAndItsNameCanBeUsedAgain(t *testing.T) {
	f := open(t)
	old := f.create(t, "bot")
	if err := f.Remove(t.Context(), "bot", "ann"); err != nil {
		t.Fatal(err)
	}
	if f.opens(old) != "" {
		t.Error("the key of a removed agent opens")
	}
	if err := f.Remove(t.Context(), "bot", "ann"); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("removed twice: error %v", err)
	}
	fresh := f.create(t, "bot")
	f.reopen(t)
	if f.opens(old) != "" || f.opens(fresh) != "bot" {
		t.Error("after the name is used again only the new key must open")
	}
}

func TestAgentNamesAreChecked(t *testing.T) {
	f := open(t)
	for _, name := range []string{"a", "0", "billing-bot", "a.b_c-d", strings.Repeat("x", 63)} {
		if _, _, err := f.Create(t.Context(), access.NewAgent{Name: name}, "ann"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", ".a", "Billing", "a b", "a/b", "a\n", "ä", strings.Repeat("x", 64), "a\x1b[31m"} {
		_, _, err := f.Create(t.Context(), access.NewAgent{Name: name}, "ann")
		if !errors.Is(err, access.ErrInvalid) || !strings.Contains(err.Error(), "a-z") {
			t.Errorf("%q: error %v does not name what is allowed", name, err)
		}
	}
	if _, _, err := f.Create(t.Context(), access.NewAgent{Name: "billing-bot"}, "ann"); !errors.Is(err, access.ErrExists) {
		t.Errorf("the same name twice: error %v", err)
	}
	for _, owner := range []string{"a\nb", "a\u202eb", strings.Repeat("x", 501), "\xff"} {
		if _, _, err := f.Create(t.Context(), access.NewAgent{Name: "b", Owner: owner}, "ann"); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("owner %q: error %v", owner, err)
		}
	}
}

func TestEveryChangeIsAnEntry(t *testing.T) {
	f := open(t)
	f.create(t, "bot")
	if _, _, err := f.Rotate(t.Context(), "bot", time.Minute, "ann"); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), "bot", "bob"); err != nil {
		t.Fatal(err)
	}
	var got []string
	var keys []string
	for _, e := range f.book.entries {
		b, err := guardbook.Body[guardbook.AgentEntry](e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Op+" "+b.Agent+" "+b.Owner+" by "+b.By)
		keys = append(keys, b.Key, b.Previous)
	}
	want := []string{"created bot team@example.com by admin-token", "rotated bot team@example.com by ann", "removed bot team@example.com by bob"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if keys[0] != keys[3] || keys[2] != keys[4] {
		t.Errorf("key ids do not chain: %q", keys)
	}
}

// A crash can come between any two steps: hash kept, entry written, state in
// force. Each cut is made for real, by opening the same files again.
func TestAnEntryAndTheRegisterCannotDisagree(t *testing.T) {
	unknown := errors.New("disk error")
	for _, lost := range []bool{true, false} {
		name := map[bool]string{true: "entry not written", false: "entry written, answer lost"}[lost]
		t.Run(name, func(t *testing.T) {
			f := open(t)
			old := f.create(t, "bot")
			f.book.fail, f.book.lost = unknown, lost
			if _, _, err := f.Rotate(t.Context(), "bot", 0, "ann"); !errors.Is(err, unknown) {
				t.Fatalf("error %v", err)
			}
			check := func(when string) {
				t.Helper()
				var fromBook access.Register
				for _, e := range f.book.entries {
					if err := fromBook.Apply(e); err != nil {
						t.Fatal(err)
					}
				}
				got, err := f.Agents(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fromBook.Agents(), got); diff != "" {
					t.Errorf("%s: the register is not what the book says: %s", when, diff)
				}
				if opens := f.opens(old) != ""; opens != lost {
					t.Errorf("%s: the old key opens: %v, want %v", when, opens, lost)
				}
			}
			check("in the running store")
			f.reopen(t)
			check("after a restart")
			if _, fresh, err := f.Rotate(t.Context(), "bot", 0, "ann"); err != nil || f.opens(fresh) != "bot" {
				t.Errorf("the next rotation: %v", err)
			}
		})
	}
}

func TestAnAgentWhoseHashIsLostIsListedAsKeylessUntilRotated(t *testing.T) {
	f := open(t)
	old := f.create(t, "bot")
	f.Close()
	for _, name := range []string{"access.db", "access.db-wal", "access.db-shm"} {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	f.reopen(t)
	agents, err := f.Agents(t.Context())
	if err != nil || len(agents) != 1 || !agents[0].Keyless || f.opens(old) != "" {
		t.Fatalf("agents %+v, %v; the old key opens for %q", agents, err, f.opens(old))
	}
	_, fresh, err := f.Rotate(t.Context(), "bot", 0, "ann")
	if err != nil || f.opens(fresh) != "bot" {
		t.Errorf("after rotation the key opens for %q, %v", f.opens(fresh), err)
	}
}

func TestAHashPutIntoTheFileByHandOpensNothing(t *testing.T) {
	f := open(t)
	theirs := open(t).create(t, "bot") // a real key, of another installation
	f.create(t, "bot")
	f.Close()
	db, err := sql.Open("sqlite", filepath.Join(f.dir, "access.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO keys VALUES (?, randomblob(32))", theirs[4:20]); err != nil {
		t.Fatal(err)
	}
	_, err = access.Open(t.Context(), access.Options{Dir: f.dir, Recorder: f.book, History: f.book.history})
	if err == nil || !strings.Contains(err.Error(), "edited") {
		t.Errorf("a hash that does not belong to its id: error %v", err)
	}
}

func TestTheRegisterCanBeListedAtAPointInTime(t *testing.T) {
	f := open(t)
	f.create(t, "early")
	first := f.now
	f.now = f.now.Add(time.Hour)
	f.create(t, "late")
	if err := f.Remove(t.Context(), "early", "ann"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Time
		want []string
	}{
		{first.Add(-time.Second), nil}, {first, []string{"early"}}, {first.Add(time.Minute), []string{"early"}}, {f.now, []string{"late"}},
	} {
		agents, err := f.AgentsAt(t.Context(), c.at)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range agents {
			got = append(got, a.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("at %s: %s", c.at, diff)
		}
	}
}

func TestKeysCarryAChecksum(t *testing.T) {
	f := open(t)
	key := f.create(t, "bot")
	if !access.CheckKey(access.AgentPrefix, key) || !access.CheckKey(access.OperatorPrefix, f.adminToken(t)) {
		t.Error("a real key fails its own checksum")
	}
	last := map[byte]string{'a': "b"}[key[len(key)-1]]
	if last == "" {
		last = "a"
	}
	if access.CheckKey(access.AgentPrefix, key[:len(key)-1]+last) {
		t.Error("a look-alike passes the checksum")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	book := &memoryBook{now: time.Now}
	s, err := access.Open(b.Context(), access.Options{Dir: b.TempDir(), Recorder: book, History: book.history})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	_, key, err := s.Create(b.Context(), access.NewAgent{Name: "bot"}, "ann")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := s.Authenticate(key); !ok {
			b.Fatal("not ok")
		}
	}
}
