package streamable

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/guardbook/guardbook/gateway/document"
)

// codeMismatch is the error of a request whose headers say something else than its
// body (revision 2026-07-28).
const codeMismatch = -32020

type mismatchShape struct{ id string }

// ErrorBody is a JSON-RPC error.
func (e mismatchShape) ErrorBody(_ int, _, message string) []byte {
	return rpcError(e.id, codeMismatch, message)
}

const (
	headerMethod = "Mcp-Method"
	headerName   = "Mcp-Name"
	paramPrefix  = "Mcp-Param-"
	encodedStart = "=?base64?"
	encodedEnd   = "?="
	keyVersion   = "io.modelcontextprotocol/protocolVersion"
)

// mismatch says how the headers of a request say something else than its body; "" when
// they do not. Decisions are made on the body; a server, or something before it, may
// go by the headers.
func (x *exchange) mismatch(root document.Value) string {
	h := x.r.Header
	method, params := root.Get("method"), root.Get("params")
	if root.Kind() == '[' {
		if h.Get(headerMethod) != "" || h.Get(headerName) != "" {
			return "The request has a header " + headerMethod + " or " + headerName + ", and its body is a batch."
		}
		return ""
	}
	if v := h.Get(headerMethod); v != "" && v != method.Text() {
		return "The header " + headerMethod + " says another method than the body."
	}
	if v := params.Get("_meta").Get(keyVersion); v.Exists() && h.Get(headerMCP) != "" && v.Text() != h.Get(headerMCP) {
		return "The header MCP-Protocol-Version says another revision than the body."
	}
	if v := h.Get(headerName); v != "" {
		members := []string{"name", "uri", "taskId"}
		switch method.Text() {
		case "tools/call", "prompts/get":
			members = members[:1]
		case "resources/read":
			members = members[1:2]
		}
		decoded, ok := decodeHeader(v)
		if !slices.ContainsFunc(members, func(m string) bool {
			name := params.Get(m)
			return name.IsString() && (v == name.Text() || ok && decoded == name.Text())
		}) {
			return "The header " + headerName + " says another name than the body."
		}
	}
	for name := range h {
		if !strings.HasPrefix(name, paramPrefix) {
			continue
		}
		decoded, ok := decodeHeader(h.Get(name))
		if !ok || len(leaves(params.Get("arguments"), decoded)) == 0 {
			return "The header " + name + " says something that no argument in the body does."
		}
	}
	return ""
}

// leaf is a primitive value of a call's arguments.
type leaf struct {
	path []string
	name string
}

// leaves lists the primitives in v that a header of that value can mirror.
func leaves(v document.Value, header string) []leaf {
	var out []leaf
	var walk func(v document.Value, path []string)
	walk = func(v document.Value, path []string) {
		switch v.Kind() {
		case '{':
			for c := v.First(); c.Exists(); c = c.Next() {
				walk(c, append(slices.Clone(path), c.Name()))
			}
		case '"', '0', 't', 'f':
			if len(path) > 0 && mirrors(v, header) {
				out = append(out, leaf{path, path[len(path)-1]})
			}
		}
	}
	walk(v, nil)
	return out
}

func mirrors(v document.Value, header string) bool {
	switch v.Kind() {
	case '"':
		return v.Text() == header
	case '0':
		a, errA := strconv.ParseFloat(v.Raw(), 64)
		b, errB := strconv.ParseFloat(header, 64)
		return errA == nil && errB == nil && a == b
	}
	return v.Raw() == header
}

// mirror writes the headers that mirror an argument anew, when the argument was
// redacted. before is the request as it came.
func (x *exchange) mirror(before document.Value, arguments []byte) {
	after, err := document.Parse(arguments)
	if err != nil {
		return
	}
	for name := range x.r.Header {
		short, ok := strings.CutPrefix(name, paramPrefix)
		if !ok {
			continue
		}
		decoded, _ := decodeHeader(x.r.Header.Get(name))
		found := leaves(before.Get("params").Get("arguments"), decoded)
		// A header is most often called as its argument is.
		slices.SortStableFunc(found, func(a, b leaf) int {
			return rank(b.name, short) - rank(a.name, short)
		})
		for _, l := range found {
			v := after.Root()
			for _, p := range l.path {
				v = v.Get(p)
			}
			if v.Exists() && mirrors(v, decoded) && len(found) == 1 {
				break // unchanged
			}
			if v.Kind() == '"' && v.Text() != decoded {
				x.r.Header[name] = []string{encodeHeader(v.Text())}
				break
			}
			if !v.Exists() {
				delete(x.r.Header, name)
				break
			}
		}
	}
}

func rank(name, header string) int {
	strip := strings.NewReplacer("-", "", "_", "")
	if strings.EqualFold(strip.Replace(name), strip.Replace(header)) {
		return 1
	}
	return 0
}

func decodeHeader(v string) (string, bool) {
	inner, ok := strings.CutPrefix(v, encodedStart)
	if !ok {
		return v, true
	}
	if inner, ok = strings.CutSuffix(inner, encodedEnd); !ok {
		return v, true
	}
	b, err := base64.StdEncoding.DecodeString(inner)
	return string(b), err == nil
}

func encodeHeader(s string) string {
	plain := s != "" && strings.TrimSpace(s) == s && !strings.HasPrefix(s, encodedStart)
	for i := range len(s) {
		plain = plain && s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain || s == "" {
		return s
	}
	return encodedStart + base64.StdEncoding.EncodeToString([]byte(s)) + encodedEnd
}

// hopByHop are the headers of one connection (RFC 9110, 7.6.1).
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

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

// requestHeader is what goes upstream.
func (x *exchange) requestHeader() http.Header {
	out := x.r.Header.Clone()
	dropHopByHop(out)
	for _, name := range []string{"Content-Length", "Content-Encoding", "Cookie", "Expect", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		out.Del(name)
	}
	for name := range out {
		if strings.HasPrefix(name, "X-Guardbook-") {
			out.Del(name)
		}
	}
	out.Set("Accept-Encoding", "identity") // what is scanned must not be compressed
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // none, instead of Go's own
	}
	for name, v := range x.up.headers {
		out[name] = v
	}
	return out
}

// responseHeader copies an answer's headers for the client, without those of its body
// and those that would say something about this server's own address.
func responseHeader(dst, src http.Header) {
	for name, values := range src {
		if !strings.HasPrefix(name, "X-Guardbook-") {
			dst[name] = values
		}
	}
	dropHopByHop(dst)
	for _, name := range []string{"Content-Length", "Content-Encoding", "Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data", "Location"} {
		dst.Del(name)
	}
}
