package webhook_test

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
	"github.com/guardbook/guardbook/respond/webhook"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // the example of the specification

func notice() respond.Notice {
	return respond.Notice{
		ID: "0198f0c0-0000-7000-8000-000000000001.high", Attempt: 2, Reason: respond.ReasonOpened, Link: "https://gb.example/alerts/0198f0c0-0000-7000-8000-000000000001",
		Alert: respond.Alert{
			ID: "0198f0c0-0000-7000-8000-000000000001", Key: "default|billing|p/findings/pii|pii", State: respond.StateOpen, Severity: guardbook.High,
			Title: "billing: pii blocked in tool_call query", Tenant: "default", Agent: "billing", Session: "s1", Rule: "p/findings/pii",
			Class: guardbook.ClassPII, Receiver: "oncall", Count: 3, Opened: "2026-03-01T12:00:00.000000Z",
			Facts: respond.Facts{
				Event: "0198f0c0-0000-7000-8000-000000000001", Time: "2026-03-01T12:00:00.000000Z", Kind: guardbook.KindToolCall,
				Tool: &guardbook.ToolRef{Server: "crm", Name: "query"}, Session: "s1", Decision: guardbook.ActionBlock, Mode: guardbook.ModeEnforce,
				Policy: "p", Bundle: "sha256:ab", Findings: []guardbook.Finding{{
					Class: guardbook.ClassPII, Severity: guardbook.High, Confidence: 0.97, Rule: "pii/card", Layer: "L1",
					Span: &guardbook.Span{Path: "/arguments/query", Start: 3, End: 19}, Excerpt: "**** 1111",
				}},
			},
		},
	}
}

// server answers with a status and keeps what it got.
type server struct {
	*httptest.Server
	body   []byte
	header http.Header
	path   string
}

func serve(t *testing.T, answer func(http.ResponseWriter, *http.Request)) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.body, _ = io.ReadAll(r.Body)
		s.header, s.path = r.Header, r.Method+" "+r.URL.Path
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func receiver(t *testing.T, url string) *webhook.Receiver {
	t.Helper()
	r, err := webhook.New(url, secret)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestANoticeIsPostedAsDocumentedAndSigned(t *testing.T) {
	s := serve(t, status(204))
	d, err := receiver(t, s.URL+"/hook").Notify(t.Context(), notice())
	if err != nil || d.Status != 204 || d.Message != notice().ID {
		t.Fatalf("%+v, %v", d, err)
	}
	if s.path != "POST /hook" || s.header.Get("Content-Type") != "application/json" || s.header.Get("webhook-id") != notice().ID {
		t.Errorf("%s, %v", s.path, s.header)
	}
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Verify(s.body, s.header); err != nil {
		t.Errorf("signature: %v", err)
	}
	if err := w.Verify(append(s.body, ' '), s.header); err == nil {
		t.Error("another body has the same signature")
	}
	pretty := jsontext.Value(regexp.MustCompile(`"timestamp":"[^"]*"`).ReplaceAll(s.body, []byte(`"timestamp":"2026-03-01T12:00:05Z"`)))
	if err := pretty.Indent(jsontext.WithIndent("  ")); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/opened.json", append(pretty, '\n'))
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func TestWithoutASecretNothingIsSigned(t *testing.T) {
	s := serve(t, status(200))
	r, err := webhook.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Notify(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	if s.header.Get("webhook-signature") != "" || s.header.Get("webhook-id") == "" {
		t.Errorf("%v", s.header)
	}
}

func TestTheStatusSaysWhetherToTryAgain(t *testing.T) {
	for code, want := range map[int]string{
		200: "delivered", 202: "delivered", 299: "delivered", 408: "again", 429: "again", 500: "again", 502: "again", 503: "again", 504: "again",
		400: "never", 401: "never", 403: "never", 404: "never", 410: "never", 413: "never", 304: "never",
	} {
		s := serve(t, status(code))
		d, err := receiver(t, s.URL).Notify(t.Context(), notice())
		got := "again"
		switch {
		case err == nil:
			got = "delivered"
		case errors.Is(err, respond.ErrPermanent):
			got = "never"
		}
		if got != want || d.Status != code {
			t.Errorf("%d: %s instead of %s: %v", code, got, want, err)
		}
	}
}

func TestRetryAfterIsUnderstoodInBothForms(t *testing.T) {
	for value, atLeast := range map[string]time.Duration{
		"120": 2 * time.Minute, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): 50 * time.Minute, "": 0, "-5": 0, "soon": 0, "99999999999": 0,
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(429)
		})
		d, _ := receiver(t, s.URL).Notify(t.Context(), notice())
		if d.RetryAfter < atLeast || atLeast == 0 && d.RetryAfter != 0 {
			t.Errorf("%q: %v", value, d.RetryAfter)
		}
	}
}

func TestARedirectIsFollowedOnTheSameHostWithTheSameMethodOnly(t *testing.T) {
	other := serve(t, status(200))
	for name, c := range map[string]struct {
		code  int
		to    string
		works bool
	}{
		"307 on the host":    {307, "/there", true},
		"308 on the host":    {308, "/there", true},
		"302 on the host":    {302, "/there", false},
		"307 to another":     {307, other.URL + "/there", false},
		"a circle":           {307, "/", false},
		"307 to a file":      {307, "file:///etc/passwd", false},
		"no place to go to":  {307, "", false},
		"not even a address": {308, "http://%zz/", false},
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/there" {
				return
			}
			if c.to != "" {
				w.Header().Set("Location", c.to)
			}
			w.WriteHeader(c.code)
		})
		_, err := receiver(t, s.URL+"/").Notify(t.Context(), notice())
		if (err == nil) != c.works || c.works && (s.path != "POST /there" || len(s.body) == 0) {
			t.Errorf("%s: %s, %v", name, s.path, err)
		}
	}
	if other.path != "" {
		t.Error("the notice went to another host")
	}
}

func TestNoErrorShowsTheAddress(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, address := range []string{
		closed.URL + "/services/T0/B0/hunter2", "ftp://example.com/hunter2", "https://%zz/hunter2", "hunter2", "https:///hunter2", "http://user:hunter2@127.0.0.1:1/x",
	} {
		r, err := webhook.New(address, "")
		if err == nil {
			_, err = r.Notify(t.Context(), notice())
			if strings.Contains(r.String(), "hunter2") {
				t.Errorf("it is called %s", r)
			}
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := webhook.New("https://example.com", "hunter2 is no base64"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a wrong secret: %v", err)
	}
}

func TestAHugeAnswerIsNotRead(t *testing.T) {
	sent := make(chan int64, 1)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		var n int64
		chunk := bytes.Repeat([]byte("x"), 1<<16)
		for n < 1<<30 {
			m, err := w.Write(chunk)
			n += int64(m)
			if err != nil {
				break
			}
		}
		sent <- n
	})
	if _, err := receiver(t, s.URL).Notify(t.Context(), notice()); err != nil {
		t.Fatal(err)
	}
	if n := <-sent; n >= 1<<30 {
		t.Error("the whole answer was taken")
	}
}

func TestAServerThatDoesNotAnswerIsLeft(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := receiver(t, s.URL).Notify(ctx, notice()); err == nil || errors.Is(err, respond.ErrPermanent) {
		t.Errorf("%v", err)
	}
}
