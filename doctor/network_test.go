package doctor_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guardbook/guardbook/access"
	"github.com/guardbook/guardbook/doctor"
)

func TestWhyAnUpstreamCannotBeReachedIsToldApart(t *testing.T) {
	for name, c := range map[string]struct {
		url  func(t *testing.T) string
		says string
	}{
		"name unknown":       {func(*testing.T) string { return "https://nowhere.invalid" }, "name"},
		"refused":            {func(t *testing.T) string { return "http://" + freeAddress(t) }, "refused"},
		"no answer":          {func(t *testing.T) string { return "http://" + silent(t) }, "no answer in time"},
		"no TLS there":       {func(t *testing.T) string { return "https://" + serve(t, httptest.NewServer) }, "does not speak TLS"},
		"unknown authority":  {func(t *testing.T) string { return "https://" + serve(t, httptest.NewTLSServer) }, "unknown authority"},
		"cut off":            {func(t *testing.T) string { return "http://" + hangUp(t) }, "cut before an answer"},
		"not even an URL":    {func(*testing.T) string { return "openai" }, "no http or https address"},
		"a scheme of others": {func(*testing.T) string { return "ftp://example.com" }, "ftp"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(t)
			s.Timeout = 300 * time.Millisecond
			s.Upstreams = []doctor.Target{{Name: "openai", URL: c.url(t)}}
			s.Webhooks = []doctor.Target{{Name: "pager", URL: s.Upstreams[0].URL + "/hooks/T0PSECRET"}}
			results := doctor.Examine(t.Context(), s)
			r, found := find(results, "upstream openai", doctor.Fail)
			if !found || !strings.Contains(r.Detail, c.says) || r.Mend == "" {
				t.Errorf("want a failure saying %q: %+v", c.says, results)
			}
			hook, found := find(results, "webhook pager", doctor.Fail)
			if !found || strings.Contains(hook.Detail+hook.Mend, "T0PSECRET") {
				t.Errorf("webhook: %+v", hook)
			}
		})
	}
}

func serve(t *testing.T, start func(http.Handler) *httptest.Server) string {
	t.Helper()
	s := start(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// hangUp closes every connection at once.
func hangUp(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestAnyAnswerOfAnUpstreamMeansThatItIsThere(t *testing.T) {
	for _, status := range []int{200, 301, 401, 404, 405, 500, 503} {
		s := healthy(t)
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(up.Close)
		s.Upstreams = []doctor.Target{{Name: "openai", URL: up.URL}}
		if r, found := find(doctor.Examine(t.Context(), s), "upstream openai", doctor.OK); !found {
			t.Errorf("%d: %+v", status, r)
		}
	}
}

// answering is a server that answers as a guardbook does.
func answering(t *testing.T, s *doctor.Setup, version string, ready string, token string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status":"ok","service":"guardbook","version":%q}`, version)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ready != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, `{"ready":false,"reasons":[%q]}`, ready)
			return
		}
		fmt.Fprint(w, `{"ready":true,"reasons":[]}`)
	})
	mux.HandleFunc("GET /api/v1/session", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"code":"unauthorized","message":"no"}}`)
			return
		}
		fmt.Fprint(w, `{"name":"admin-token","role":"operator","account":true}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.Listen = server.Listener.Addr().String()
}

func adminToken(t *testing.T, s doctor.Setup) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Data, access.AdminTokenFile))
	must(t, err)
	return strings.TrimSpace(string(b))
}

func TestARunningServerIsRecognisedAndAsked(t *testing.T) {
	s := healthy(t)
	token := adminToken(t, s)
	for name, c := range map[string]struct {
		version, ready, token, use string
		check                      string
		status                     doctor.Status
		says                       string
	}{
		"same version":      {"1.2.3", "", token, "", "address", doctor.OK, "version 1.2.3"},
		"other version":     {"1.0.0", "", token, "", "address", doctor.Warn, "version 1.0.0; this program is version 1.2.3"},
		"ready":             {"1.2.3", "", token, "", "server", doctor.OK, "ready"},
		"not ready":         {"1.2.3", "no policy is loaded", token, "", "server", doctor.Fail, "no policy is loaded"},
		"token works":       {"1.2.3", "", token, "", "operator token", doctor.OK, "admin-token opens the server"},
		"token of another":  {"1.2.3", "", "another", "", "operator token", doctor.Fail, "refuses the token"},
		"token cut off":     {"1.2.3", "", token, token[:len(token)-1], "operator token", doctor.Fail, "checksum"},
		"an agent's key":    {"1.2.3", "", token, "gbk_" + token[4:], "operator token", doctor.Fail, "agent's key"},
		"token that is set": {"1.2.3", "", token, token, "operator token", doctor.OK, "GUARDBOOK_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.Token = c.use
			answering(t, &s, c.version, c.ready, c.token)
			for _, byURL := range []bool{false, true} {
				check := c.check
				if byURL { // as from another machine
					s.URL, s.Listen = "http://"+s.Listen, ""
					if check == "address" {
						check = "server address"
					}
				}
				results := doctor.Examine(t.Context(), s)
				if r, found := find(results, check, c.status); !found || !strings.Contains(r.Detail, c.says) {
					t.Errorf("want %s %s saying %q; the results are\n%s", c.check, c.status, c.says, show(results))
				}
			}
		})
	}
}
