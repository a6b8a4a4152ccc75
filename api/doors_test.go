package api_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/api"
)

const password = "correct horse battery"

// session logs in and returns the cookie as a header.
func (w *world) session(t *testing.T, name string) string {
	t.Helper()
	w.call(t, "POST", "/api/v1/account", map[string]string{"name": name, "password": password}).want(t, 201)
	a := w.callAs(t, nil, "POST", "/api/v1/login", map[string]string{"name": name, "password": password}).want(t, 200)
	return cookieOf(t, a)
}

func cookieOf(t *testing.T, a answer) string {
	t.Helper()
	line := a.header.Get("Set-Cookie")
	cookie, _, _ := strings.Cut(line, ";")
	if !strings.HasPrefix(cookie, access.CookieName+"=") {
		t.Fatalf("Set-Cookie %q", line)
	}
	return cookie
}

// Every route but the ways in is shut to everybody but operators.
func TestEveryDoorIsShutToAgentsAndStrangers(t *testing.T) {
	w := newWorld(t)
	_, key, err := w.access.Create(t.Context(), access.NewAgent{Name: "bot"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	open := []string{"POST /api/v1/login/once", "POST /api/v1/login", "GET /api/openapi.yaml"}
	local := []string{"GET /healthz", "GET /readyz", "GET /metrics"}
	replace := strings.NewReplacer("{id}", "x", "{name}", "bot", "{hash}", "x", "{seq}", "0", "{path...}", "0/000")
	for _, r := range api.RouteList() {
		method, path, _ := strings.Cut(replace.Replace(r), " ")
		if slices.Contains(open, r) {
			continue
		}
		// From elsewhere: what is open to this machine is shut, too.
		far := as{"X-Forwarded-For": "192.0.2.1"}
		if !slices.Contains(local, r) {
			far = as{}
		}
		with := func(k, v string) as {
			x := as{k: v}
			for k, v := range far {
				x[k] = v
			}
			return x
		}
		for name, c := range map[string]struct {
			who    as
			status int
		}{
			"nobody":                          {far, 401},
			"an agent's key":                  {with("Authorization", "Bearer "+key), 403},
			"an agent's key in its header":    {with("X-Guardbook-Key", key), 403},
			"an agent's key as an operator's": {with("Authorization", "Bearer gbo_"+key[4:]), 401},
			"a wrong cookie":                  {with("Cookie", "guardbook_session=x"), 401},
		} {
			if a := w.callAs(t, c.who, method, path, nil); a.status != c.status {
				t.Errorf("%s: %s got %d, want %d", r, name, a.status, c.status)
			}
		}
	}
	if got := w.operatorOps(t); !slices.Contains(got, "agent_key_refused by unknown") || !slices.Contains(got, "token_refused by unknown") || len(got) > 4 {
		t.Errorf("refusals are not in the book once each: %q", got)
	}
}

func TestHealthIsToldToThisMachineAndToOperators(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		who    as
		status int
	}{
		"this machine":                    {as{}, 200},
		"this machine by name":            {as{"Host": "localhost:8787"}, 200},
		"a proxy on this machine":         {as{"X-Forwarded-For": "192.0.2.1"}, 401},
		"a page whose name points here":   {as{"Host": "evil.example"}, 401},
		"an operator through a proxy":     {as{"X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer " + w.token}, 200},
		"another proxy on this machine":   {as{"Forwarded": "for=192.0.2.1"}, 401},
		"an IPv6 literal of this machine": {as{"Host": "[::1]:8787"}, 200},
	} {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			if a := w.callAs(t, c.who, "GET", path, nil); a.status != c.status {
				t.Errorf("%s, %s: %d, want %d", name, path, a.status, c.status)
			}
		}
	}
}

func TestAnotherSiteCannotUseAnOperatorsCookie(t *testing.T) {
	w := newWorld(t)
	cookie := w.session(t, "ann")
	kill := map[string]string{"scope": "bot", "reason": "test"}
	for name, c := range map[string]struct {
		who    as
		status int
	}{
		"a cookie alone":                  {as{}, 403},
		"with our header":                 {as{"X-Guardbook-CSRF": "1"}, 200},
		"from our page":                   {as{"Sec-Fetch-Site": "same-origin"}, 200},
		"from our page in an old browser": {as{"Origin": w.server.URL}, 200},
		"from another site":               {as{"Sec-Fetch-Site": "cross-site"}, 403},
		"from another site, our header":   {as{"Sec-Fetch-Site": "cross-site", "X-Guardbook-CSRF": "1"}, 403},
		"from a sibling site":             {as{"Sec-Fetch-Site": "same-site"}, 403},
		"from another origin":             {as{"Origin": "https://evil.example"}, 403},
		"from a sandboxed frame":          {as{"Origin": "null"}, 403},
	} {
		c.who["Cookie"] = cookie
		if a := w.callAs(t, c.who, "POST", "/api/v1/kill", kill); a.status != c.status {
			t.Errorf("%s: %d, want %d: %s", name, a.status, c.status, a.body)
		}
	}
	// Logging in is protected, too: another site must not log a victim in as itself.
	login := map[string]string{"name": "ann", "password": password}
	if a := w.callAs(t, as{"Origin": "https://evil.example"}, "POST", "/api/v1/login", login); a.status != 403 {
		t.Errorf("a login from another site: %d", a.status)
	}
	if a := w.callAs(t, as{"Content-Type": "text/plain"}, "POST", "/api/v1/login", login); a.status != 415 {
		t.Errorf("a login by a form's media type: %d", a.status)
	}
	if a := w.callAs(t, as{"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}, "GET", "/api/v1/session", nil); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("another origin may read answers")
	}
}

func TestTheWayFromTheLinkToAnAccount(t *testing.T) {
	w := newWorld(t)
	link := w.call(t, "POST", "/api/v1/login/link", nil).want(t, 201)
	var made struct{ Token string }
	link.into(t, &made)
	who := func(a answer) (s struct {
		Name    string
		Role    string
		Account bool
	}) {
		a.into(t, &s)
		return s
	}
	first := w.callAs(t, nil, "POST", "/api/v1/login/once", map[string]string{"token": made.Token}).want(t, 200)
	if s := who(first); s.Account || s.Name != access.ByLoginLink {
		t.Errorf("session %+v", s)
	}
	old := as{"Cookie": cookieOf(t, first), "X-Guardbook-CSRF": "1"}
	w.callAs(t, nil, "POST", "/api/v1/login/once", map[string]string{"token": made.Token}).want(t, 401)
	w.callAs(t, old, "POST", "/api/v1/account", map[string]string{"name": "ann", "password": "short"}).want(t, 400)
	second := w.callAs(t, old, "POST", "/api/v1/account", map[string]string{"name": "ann", "password": password}).want(t, 201)
	if s := who(second); !s.Account || s.Name != "ann" {
		t.Errorf("session %+v", s)
	}
	ann := as{"Cookie": cookieOf(t, second), "X-Guardbook-CSRF": "1"}
	w.callAs(t, old, "GET", "/api/v1/session", nil).want(t, 401)
	if s := who(w.callAs(t, ann, "GET", "/api/v1/session", nil).want(t, 200)); s.Name != "ann" || !s.Account {
		t.Errorf("session %+v", s)
	}
	w.callAs(t, ann, "POST", "/api/v1/account", map[string]string{"name": "ann", "password": password}).want(t, 409)
	w.callAs(t, ann, "GET", "/api/v1/accounts", nil).want(t, 200)
	end := w.callAs(t, ann, "POST", "/api/v1/logout", nil).want(t, 204)
	if !strings.Contains(end.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("Set-Cookie %q", end.header.Get("Set-Cookie"))
	}
	w.callAs(t, ann, "GET", "/api/v1/session", nil).want(t, 401)
	w.call(t, "DELETE", "/api/v1/accounts/ann", nil).want(t, 204)
	w.callAs(t, nil, "POST", "/api/v1/login", map[string]string{"name": "ann", "password": password}).want(t, 401)
	want := []string{"login_link_created by admin-token", "login by login-link", "login_failed by unknown", "account_created by login-link", "login by ann",
		"logout by login-link", "token_refused by unknown", "logout by ann", "account_removed by admin-token", "login_failed by unknown"}
	if got := w.operatorOps(t); !slices.Equal(got, want) {
		t.Errorf("the book says\n%q, want\n%q", got, want)
	}
}

func TestFailedLoginsAreLimitedAndSayWhenToComeBack(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.callAs(t, nil, "POST", "/api/v1/login", map[string]string{"name": "ann", "password": password}).want(t, 401)
	}
	a := w.callAs(t, nil, "POST", "/api/v1/login", map[string]string{"name": "ann", "password": password}).want(t, 429)
	if a.header.Get("Retry-After") == "" || a.code(t) != "rate_limited" {
		t.Errorf("Retry-After %q, %s", a.header.Get("Retry-After"), a.body)
	}
}

func TestTheCookieIsSecureUnderTLS(t *testing.T) {
	for name, f := range map[string]func(*http.Request, *api.Options){
		"TLS here":       func(r *http.Request, _ *api.Options) { r.TLS = &tls.ConnectionState{} },
		"TLS at a proxy": func(_ *http.Request, o *api.Options) { o.Secure = true },
	} {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/login", strings.NewReader(`{"name":"ann","password":"`+password+`"}`))
		r.Header.Set("Content-Type", "application/json")
		var h http.Handler
		w := newWorld(t, func(o *api.Options) { f(r, o); h = api.New(*o) })
		if err := w.access.CreateAccount(t.Context(), "ann", password, "test"); err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		line := rec.Header().Get("Set-Cookie")
		for _, want := range []string{"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: cookie %q lacks %s", name, line, want)
			}
		}
	}
}

func TestEveryAnswerCarriesTheHeadersThatProtectIt(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/api/v1/session", "/api/v1/events", "/api/nothing", "/healthz", "/metrics", "/api/openapi.yaml", "/api/v1/events/none"} {
		a := w.call(t, "GET", path, nil)
		csp := a.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		for k, v := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
			if a.header.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", path, k, a.header.Get(k), v)
			}
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other origins are let in", path)
		}
	}
}

func TestEntriesSayWhoIsBehindTheAdminToken(t *testing.T) {
	w := newWorld(t)
	who := w.admin()
	who["X-Guardbook-Operator"] = "al\u00efce <script>"
	w.callAs(t, who, "POST", "/api/v1/login/link", nil).want(t, 201)
	if got := w.operatorOps(t); !slices.Equal(got, []string{"login_link_created by admin-token/alcescript"}) {
		t.Errorf("the book says %q", got)
	}
}
