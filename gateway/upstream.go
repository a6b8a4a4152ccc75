package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// hopByHop are the headers of one connection (RFC 9110, 7.6.1).
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// outbound makes the request that goes upstream, without its body and the headers
// that describe it.
func (h *handler) outbound(ctx context.Context, r *http.Request, api string) *http.Request {
	u := h.to.url(api, r.URL.RawQuery)
	out := &http.Request{Method: r.Method, URL: u, Host: u.Host, Header: make(http.Header, len(r.Header)+2), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	for name, values := range r.Header {
		out.Header[name] = values
	}
	dropHopByHop(out.Header)
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Cookie", "Expect", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		out.Header.Del(name)
	}
	// What is scanned must not be compressed.
	out.Header.Set("Accept-Encoding", "identity")
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // none, instead of Go's own
	}
	if out.Header.Get("Authorization") == "" && out.Header.Get("X-Api-Key") == "" && out.Header.Get("Api-Key") == "" && h.to.key != "" {
		h.p.SetKey(out.Header, h.to.key)
	}
	return out.WithContext(ctx)
}

// responseHeader copies an answer's headers for the client, without those that
// describe its body's length and encoding, and without those that would say
// something about our own address: cookies, alternative services, transport security.
func responseHeader(dst, src http.Header) {
	for name, values := range src {
		if !strings.HasPrefix(name, headerPrefix) {
			dst[name] = values
		}
	}
	dropHopByHop(dst)
	for _, name := range []string{"Content-Length", "Content-Encoding", "Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data"} {
		dst.Del(name)
	}
}

func dropHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

func copyHeader(dst, src http.Header, names ...string) {
	for _, name := range names {
		if v, ok := src[name]; ok {
			dst[name] = v
		}
	}
}

// copyFlushing copies an unread answer as it comes.
func copyFlushing(w http.ResponseWriter, src io.Reader) {
	rc := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			_ = rc.Flush() // a writer that cannot flush sends when it likes
		}
		if err != nil {
			return
		}
	}
}

// unreachable is the refusal when no answer came from upstream.
func (h *handler) unreachable(ctx context.Context, r *http.Request, err error) *Refusal {
	if k, killed := h.o.Guard.Contained(ctx); killed {
		return &Refusal{Status: http.StatusForbidden, Code: "contained", Message: StopText(k)}
	}
	if r.Context().Err() != nil {
		return &Refusal{Status: statusClientGone, Code: "client_gone", Message: "The client went away before the upstream answered."}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &Refusal{Status: http.StatusGatewayTimeout, Code: "upstream_timeout", Retry: retryUpstream,
			Message: fmt.Sprintf("The upstream %s did not begin to answer in time.", h.to.host)}
	}
	return &Refusal{Status: http.StatusBadGateway, Code: "upstream_unreachable", Retry: retryUpstream,
		Message: fmt.Sprintf("The upstream %s cannot be reached (%s). Check --%s-upstream and the network; `guardbook doctor` tests both.", h.to.host, reason(err), h.p.Name())}
}

// reason is an error without the URL in front of it, which may hold a query.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return clip(err.Error())
}
