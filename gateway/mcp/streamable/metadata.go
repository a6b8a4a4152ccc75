package streamable

import (
	"context"
	"net/http"
	"strings"
	"time"
)

const (
	maxMetadata = 64 << 10
	metadataTTL = time.Minute
)

// metadata is a server's OAuth protected-resource metadata (RFC 9728), as it is.
type metadata struct {
	status int
	media  string
	body   []byte
	until  time.Time
}

// serveMetadata passes a server's metadata on, unchanged: it names the server's own
// resource, which is what a token must be for. Anybody may read it, so it is asked for
// at most once a minute.
func (h *Handler) serveMetadata(w http.ResponseWriter, r *http.Request, name string) {
	up := h.servers[name]
	if up == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	if m := &up.metadata; h.o.Now().After(m.until) {
		*m = h.fetchMetadata(r.Context(), up)
	}
	m := up.metadata
	if m.status != http.StatusOK {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.media)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(m.body) // a client that has gone is no news here
}

func (h *Handler) fetchMetadata(ctx context.Context, up *upstream) metadata {
	m := metadata{until: h.o.Now().Add(metadataTTL)}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	u := *up.url
	u.Path, u.RawPath, u.RawQuery = "/.well-known/oauth-protected-resource"+strings.TrimSuffix(up.url.EscapedPath(), "/"), "", ""
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return m
	}
	req.Header.Set("Accept", "application/json")
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		h.o.Log.Debug("the OAuth metadata of a server could not be read", "server", up.name, "error", err)
		return m
	}
	defer resp.Body.Close()
	body, large, err := readLimited(resp.Body, maxMetadata)
	if err != nil || large || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return m
	}
	m.status, m.media, m.body = resp.StatusCode, "application/json", body
	return m
}
