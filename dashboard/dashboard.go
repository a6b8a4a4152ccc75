// Package dashboard serves Guardbook's web interface: a single-page application
// built from src/ by `npm ci && npm run build`, embedded in the binary. It holds
// no secret and no state; everything that it shows comes from /api/v1, which asks
// for an operator's session.
package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed all:dist
var dist embed.FS

// routes are the first path segments that the application answers itself; any
// other path is not found. src/router.ts has the same list, and a test compares.
var routes = []string{"", "agents", "alerts", "book", "events", "evidence", "login", "policies", "sessions"}

// contentSecurityPolicy lets the page load what this server sends and nothing
// else: no inline script or style, no frame, no other origin. Text from agents is
// shown on these pages; even if it became markup, it could not run, and the
// Trusted Types directives make every attempt to turn a string into markup throw.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// file is one embedded file, ready to be sent.
type file struct {
	name    string
	mime    string
	etag    string
	cache   string
	body    []byte
	gzipped []byte // empty when compression does not pay
}

// Handler serves the dashboard at "/". Its answers carry a strict
// Content-Security-Policy; files whose name contains their hash are cached for a
// year, the page itself is asked for anew each time.
func Handler() http.Handler {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // "dist" is a valid name: cannot happen
	}
	return newHandler(sub)
}

// Built reports whether the application was embedded; without it the handler
// shows a page that says how to build it.
func Built() bool {
	_, err := fs.Stat(dist, "dist/index.html")
	return err == nil
}

// newHandler reads every file of dist once and compresses it, so that a request
// does no more than a look-up.
func newHandler(dist fs.FS) http.Handler {
	files := map[string]*file{}
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Base(name) == ".gitkeep" {
			return err
		}
		body, err := fs.ReadFile(dist, name)
		if err == nil {
			files[name] = newFile(name, body)
		}
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("read the embedded dashboard: %v", err)) // embed.FS does not fail
	}
	h := &handler{files: files, index: files["index.html"]}
	if h.index == nil {
		h.index = newFile("index.html", []byte(notBuilt))
	}
	return h
}

func newFile(name string, body []byte) *file {
	sum := sha256.Sum256(body)
	f := &file{
		name:  name,
		mime:  mime.TypeByExtension(path.Ext(name)),
		etag:  `"` + hex.EncodeToString(sum[:12]) + `"`,
		cache: "no-cache", // may be kept, must be asked for: the ETag answers
		body:  body,
	}
	if f.mime == "" {
		f.mime = "application/octet-stream"
	}
	if strings.HasPrefix(name, "assets/") { // the build puts a hash in these names
		f.cache = "public, max-age=31536000, immutable"
	}
	var z bytes.Buffer
	w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression) // the level is valid
	_, _ = w.Write(body)                                  // a bytes.Buffer does not fail
	_ = w.Close()
	if z.Len() < len(body)*9/10 {
		f.gzipped = z.Bytes()
	}
	return f
}

type handler struct {
	files map[string]*file
	index *file
}

// ServeHTTP answers GET and HEAD: with a file of the build, with the page for
// the application's own routes, else with 404.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the dashboard is read with GET", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if f := h.files[name]; f != nil && name != "index.html" {
		f.serve(w, r)
		return
	}
	first, _, _ := strings.Cut(name, "/")
	if slices.Contains(routes, first) {
		h.index.serve(w, r)
		return
	}
	http.Error(w, "not found", http.StatusNotFound)
}

// secure sets the headers that every answer carries.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // the one-time link's token is in a URL
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.mime)
	h.Set("Cache-Control", f.cache)
	body, etag := f.body, f.etag
	if len(f.gzipped) > 0 {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body, etag = f.gzipped, strings.TrimSuffix(etag, `"`)+`-gz"`
		}
	}
	h.Set("ETag", etag)
	if h.Get("Content-Encoding") != "" {
		// ServeContent leaves the length out for an encoded body, and a range of
		// one would be a range of the compressed bytes: answer it whole.
		if r.Header.Get("If-None-Match") == etag {
			h.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(body) // the client went away: nobody to tell
		}
		return
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reports whether an Accept-Encoding header names gzip and does not
// refuse it.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !ok {
			return true
		}
		v, err := strconv.ParseFloat(q, 64)
		return err == nil && v > 0
	}
	return false
}

// notBuilt is the page of a binary that was built without the application.
const notBuilt = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guardbook</title>
<h1>Guardbook is running; its dashboard was not built into this binary</h1>
<p>Everything else works: the gateway, the book, the API and the command line (<code>guardbook events -f</code>).</p>
<p>To have the dashboard, build with Node.js at hand:</p>
<pre>make build</pre>
<p>or, by hand:</p>
<pre>cd dashboard
npm ci
npm run build
cd ..
go build -o bin/guardbook ./cmd/guardbook</pre>
</html>
`
