package dashboard

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var built = fstest.MapFS{
	".gitkeep":               {Data: nil},
	"index.html":             {Data: []byte("<!doctype html><title>Guardbook</title>" + strings.Repeat("<!-- page -->", 50))},
	"favicon.svg":            {Data: []byte("<svg/>")},
	"assets/index-AbC123.js": {Data: []byte(strings.Repeat("console.log(1);\n", 100))},
}

func get(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestServe(t *testing.T) {
	h := newHandler(built)
	const page, asset = "no-cache", "public, max-age=31536000, immutable"
	for _, tt := range []struct {
		method, target string
		status         int
		cache, starts  string
	}{
		{"GET", "/", 200, page, "<!doctype html>"},
		{"GET", "/index.html", 404, "", ""},
		{"GET", "/events/0198f", 200, page, "<!doctype html>"},
		{"GET", "/sessions/a%2Fb", 200, page, "<!doctype html>"},
		{"GET", "/login?once=gbo_x", 200, page, "<!doctype html>"},
		{"GET", "/agents", 200, page, "<!doctype html>"},
		{"GET", "/favicon.svg", 200, page, "<svg/>"},
		{"GET", "/assets/index-AbC123.js", 200, asset, "console.log"},
		{"HEAD", "/assets/index-AbC123.js", 200, asset, ""},
		{"GET", "/assets/index-Old.js", 404, "", "not found"},
		{"GET", "/.gitkeep", 404, "", "not found"},
		{"GET", "/api/v9/nothing", 404, "", "not found"}, // never a page where a client expects JSON
		{"GET", "/openai/v1/nothing", 404, "", "not found"},
		{"GET", "/../../etc/passwd", 404, "", "not found"},
		{"GET", "/events/../assets/index-AbC123.js", 200, asset, "console.log"},
		{"POST", "/", 405, "", "the dashboard"},
	} {
		r := get(t, h, tt.method, tt.target)
		got := body(t, r)
		if r.StatusCode != tt.status || !strings.HasPrefix(got, tt.starts) {
			t.Errorf("%s %s: %d %.40q, want %d %q", tt.method, tt.target, r.StatusCode, got, tt.status, tt.starts)
		}
		if tt.cache != "" && r.Header.Get("Cache-Control") != tt.cache {
			t.Errorf("%s %s: Cache-Control %q, want %q", tt.method, tt.target, r.Header.Get("Cache-Control"), tt.cache)
		}
		csp := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s %s: Content-Security-Policy %q", tt.method, tt.target, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s %s: headers %v", tt.method, tt.target, r.Header)
		}
	}
}

func TestServeCompressed(t *testing.T) {
	h := newHandler(built)
	const target = "/assets/index-AbC123.js"
	r := get(t, h, "GET", target, "Accept-Encoding", "br, gzip")
	if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("headers %v", r.Header)
	}
	raw := body(t, r)
	z, err := gzip.NewReader(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(plain, built["assets/index-AbC123.js"].Data) {
		t.Fatalf("%v, %d bytes", err, len(plain))
	}
	again := get(t, h, "GET", target, "Accept-Encoding", "gzip", "If-None-Match", r.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified || again.Header.Get("Content-Encoding") != "" {
		t.Errorf("asked again: %d %v", again.StatusCode, again.Header)
	}
	refused := get(t, h, "GET", target, "Accept-Encoding", "gzip;q=0")
	if refused.Header.Get("Content-Encoding") != "" {
		t.Error("sent gzip to a client that refused it")
	}
	if refused.Header.Get("ETag") == r.Header.Get("ETag") {
		t.Error("two representations share an ETag")
	}
}

func TestFallbackPage(t *testing.T) {
	r := get(t, newHandler(fstest.MapFS{".gitkeep": {}}), "GET", "/agents")
	if got := body(t, r); r.StatusCode != 200 || !strings.Contains(got, "npm run build") {
		t.Errorf("%d %.60q", r.StatusCode, got)
	}
}

// The embedded build, or the fallback in its absence, answers at the root.
func TestHandler(t *testing.T) {
	r := get(t, Handler(), "GET", "/")
	if got := body(t, r); r.StatusCode != 200 || !strings.Contains(got, "Guardbook") {
		t.Errorf("%d %.60q", r.StatusCode, got)
	}
}

// The server falls back to the page for exactly the paths that the application's
// own router knows.
func TestRoutesAgree(t *testing.T) {
	src, err := os.ReadFile("src/router.ts")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)export const routes = \[(.*?)\] as const`).FindSubmatch(src)
	if list == nil {
		t.Fatal("src/router.ts has no list of routes")
	}
	var there []string
	for _, m := range regexp.MustCompile(`"([^"]*)"`).FindAllSubmatch(list[1], -1) {
		there = append(there, string(m[1]))
	}
	slices.Sort(there)
	if !slices.Equal(there, routes) {
		t.Errorf("src/router.ts: %q, here: %q", there, routes)
	}
}
