package access_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/guardbook/guardbook/access"
)

const goodPassword = "correct horse battery"

func (f *fixture) account(t *testing.T, name string) {
	t.Helper()
	if err := f.CreateAccount(t.Context(), name, goodPassword, "admin-token"); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) login(t *testing.T, name string) string {
	t.Helper()
	s, err := f.Login(t.Context(), name, goodPassword, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALoginLinkWorksOnceAndForAnHour(t *testing.T) {
	f := open(t)
	token, expires, err := f.NewOnce(t.Context(), "guardbook")
	if err != nil || !expires.Equal(f.now.Add(time.Hour)) {
		t.Fatalf("expires %s, %v", expires, err)
	}
	session, err := f.LoginOnce(t.Context(), token, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := f.Session(t.Context(), session); !ok || x.Account != access.ByLoginLink {
		t.Errorf("session %+v, %v", x, ok)
	}
	if _, err := f.LoginOnce(t.Context(), token, "192.0.2.1"); !errors.Is(err, access.ErrDenied) {
		t.Errorf("the second use: error %v", err)
	}
	late, _, err := f.NewOnce(t.Context(), "guardbook")
	if err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Hour)
	if _, err := f.LoginOnce(t.Context(), late, "192.0.2.1"); !errors.Is(err, access.ErrDenied) {
		t.Errorf("after an hour: error %v", err)
	}
}

func TestAnAccountLogsInWithItsPasswordOnly(t *testing.T) {
	f := open(t)
	f.account(t, "ann")
	f.reopen(t)
	f.login(t, "ann")
	for _, c := range [][2]string{{"ann", "wrong horse battery"}, {"ann", ""}, {"bob", goodPassword}, {"", ""}, {"ann' OR 1=1 --", goodPassword},
		{"ann", strings.Repeat("x", 1<<20)}} {
		if _, err := f.Login(t.Context(), c[0], c[1], "192.0.2.1"); !errors.Is(err, access.ErrDenied) {
			t.Errorf("%q: error %v", c, err)
		}
	}
}

func TestAccountsAreChecked(t *testing.T) {
	f := open(t)
	f.account(t, "ann@example.com")
	for name, password := range map[string]string{
		"": goodPassword, "Ann": goodPassword, "a b": goodPassword, "admin-token": goodPassword, "login-link": goodPassword,
		"bob": "elevenchars", "eve": strings.Repeat("x", access.MaxPassword+1),
	} {
		if err := f.CreateAccount(t.Context(), name, password, "ann"); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%q: error %v", name, err)
		}
	}
	if err := f.CreateAccount(t.Context(), "ann@example.com", goodPassword, "ann"); !errors.Is(err, access.ErrExists) {
		t.Errorf("the same name twice: error %v", err)
	}
}

func TestLoginsAndAccountsAreFactsInTheBook(t *testing.T) {
	f := open(t)
	once, _, err := f.NewOnce(t.Context(), "guardbook")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.LoginOnce(t.Context(), once, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	f.account(t, "ann")
	if _, err := f.Login(t.Context(), "ann", "not my password", "192.0.2.1"); err == nil {
		t.Fatal("logged in")
	}
	if _, err := f.Login(t.Context(), "my secret typed in the wrong field", "x", "192.0.2.1"); err == nil {
		t.Fatal("logged in")
	}
	session := f.login(t, "ann")
	if err := f.Logout(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveAccount(t.Context(), "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	want := []string{"login_link_created by guardbook", "login by login-link", "account_created by admin-token", "login_failed by ann",
		"login_failed by unknown", "login by ann", "logout by ann", "account_removed by bob"}
	if diff := cmp.Diff(want, f.book.operatorOps(t)); diff != "" {
		t.Error(diff)
	}
	for _, e := range f.book.entries {
		if strings.Contains(string(e.Raw), "my secret") {
			t.Error("what was typed as a name is in the book")
		}
	}
}

func TestNothingHappensThatTheBookDidNotTake(t *testing.T) {
	f := open(t)
	full := errors.New("disk full")
	fail := func() { f.book.fail, f.book.lost = full, true }
	fail()
	if err := f.CreateAccount(t.Context(), "ann", goodPassword, "x"); !errors.Is(err, full) {
		t.Errorf("account: %v", err)
	}
	if accounts, err := f.Accounts(t.Context()); err != nil || len(accounts) != 0 {
		t.Errorf("accounts %v, %v", accounts, err)
	}
	f.account(t, "ann")
	fail()
	if _, err := f.Login(t.Context(), "ann", goodPassword, "192.0.2.1"); !errors.Is(err, full) {
		t.Errorf("login: %v", err)
	}
	fail()
	if _, _, err := f.NewOnce(t.Context(), "x"); !errors.Is(err, full) {
		t.Errorf("login link: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	f := open(t)
	f.account(t, "ann")
	outer := t // a store that a subtest opens again must live on
	open := func(s string) bool { _, ok := f.Session(t.Context(), s); return ok }
	t.Run("when they are not used for twelve hours", func(t *testing.T) {
		s := f.login(t, "ann")
		f.now = f.now.Add(access.SessionIdle - time.Second)
		f.reopen(outer)
		if !open(s) {
			t.Fatal("ended early")
		}
		f.reopen(outer)
		f.now = f.now.Add(access.SessionIdle - time.Second)
		if !open(s) {
			t.Fatal("use did not prolong it")
		}
		f.now = f.now.Add(access.SessionIdle)
		if open(s) {
			t.Fatal("still open")
		}
	})
	t.Run("after seven days whatever happens", func(t *testing.T) {
		s := f.login(t, "ann")
		for range 13 {
			f.now = f.now.Add(12*time.Hour - time.Minute)
			if !open(s) {
				t.Fatal("ended early")
			}
		}
		f.now = f.now.Add(12 * time.Hour)
		if open(s) {
			t.Fatal("still open")
		}
	})
	t.Run("at logout", func(t *testing.T) {
		s := f.login(t, "ann")
		if err := f.Logout(t.Context(), s); err != nil || open(s) {
			t.Fatalf("open %v, %v", open(s), err)
		}
		f.reopen(outer)
		if open(s) {
			t.Fatal("open again after a restart")
		}
	})
	t.Run("with their account", func(t *testing.T) {
		s := f.login(t, "ann")
		if err := f.RemoveAccount(t.Context(), "ann", "bob"); err != nil || open(s) {
			t.Fatalf("open %v, %v", open(s), err)
		}
	})
}

func TestFailedLoginsAreLimited(t *testing.T) {
	f := open(t)
	f.account(t, "ann")
	var limited *access.LimitedError
	for i := range 5 {
		if _, err := f.Login(t.Context(), "ann", "wrong password", "192.0.2.1"); !errors.Is(err, access.ErrDenied) {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	if _, err := f.Login(t.Context(), "ann", goodPassword, "192.0.2.9"); !errors.As(err, &limited) || limited.After <= 0 {
		t.Fatalf("the sixth, from elsewhere: %v", err)
	}
	f.now = f.now.Add(limited.After)
	f.login(t, "ann")
	for range 7 { // what succeeds is not counted
		f.login(t, "ann")
		f.now = f.now.Add(time.Second)
	}
	for i := 0; ; i++ { // many names from one address
		_, err := f.Login(t.Context(), "nobody-"+string(rune('a'+i)), "wrong password", "192.0.2.7")
		if errors.As(err, &limited) {
			break
		}
		if i > 10 {
			t.Fatal("one address may try names without end")
		}
	}
}

func TestManyLoginsAtOnceAllSucceed(t *testing.T) {
	f := open(t)
	f.account(t, "ann")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, errs[i] = f.Login(t.Context(), "ann", goodPassword, "192.0.2.1") })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestOperatorsAreFoundByTokenOrCookieOnly(t *testing.T) {
	f := open(t)
	f.account(t, "ann")
	key, token, session := f.create(t, "bot"), f.adminToken(t), f.login(t, "ann")
	for name, c := range map[string]struct {
		header map[string]string
		want   access.Operator
		err    error
	}{
		"token":                      {map[string]string{"Authorization": "Bearer " + token}, access.Operator{Name: "admin-token"}, nil},
		"token and a name":           {map[string]string{"Authorization": "bearer " + token, "X-Guardbook-Operator": "al\x1bice\u202e <b>"}, access.Operator{Name: "admin-token/aliceb"}, nil},
		"session":                    {map[string]string{"Cookie": "guardbook_session=" + session}, access.Operator{Name: "ann", Cookie: true}, nil},
		"nothing":                    {nil, access.Operator{}, access.ErrNoCredentials},
		"a name only":                {map[string]string{"X-Guardbook-Operator": "ann"}, access.Operator{}, access.ErrNoCredentials},
		"agent's key":                {map[string]string{"Authorization": "Bearer " + key}, access.Operator{}, access.ErrAgentKey},
		"agent's key in its header":  {map[string]string{"X-Guardbook-Key": key}, access.Operator{}, access.ErrAgentKey},
		"agent's key as a cookie":    {map[string]string{"Cookie": "guardbook_session=" + key}, access.Operator{}, access.ErrDenied},
		"agent's key beside session": {map[string]string{"Authorization": "Bearer " + key, "Cookie": "guardbook_session=" + session}, access.Operator{}, access.ErrAgentKey},
		"wrong token":                {map[string]string{"Authorization": "Bearer gbo_" + key[4:]}, access.Operator{}, access.ErrDenied},
		"session as a token":         {map[string]string{"Authorization": "Bearer " + session}, access.Operator{}, access.ErrDenied},
		"token as a cookie":          {map[string]string{"Cookie": "guardbook_session=" + token}, access.Operator{}, access.ErrDenied},
		"basic":                      {map[string]string{"Authorization": "Basic " + token}, access.Operator{}, access.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			got, err := f.Operator(r)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("operator %+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestTheSessionsCookieIsKeptFromScriptsAndOtherSites(t *testing.T) {
	c := access.SessionCookie("v", true)
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	if access.SessionCookie("v", false).Secure {
		t.Error("without TLS a secure cookie would never come back")
	}
	if access.EndCookie(true).MaxAge >= 0 {
		t.Error("the ending cookie does not end")
	}
	if c.Name != "guardbook_session" {
		t.Errorf("name %q", c.Name)
	}
}
