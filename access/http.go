package access

import (
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// CookieName is the name of the cookie that carries an operator's session.
const CookieName = "guardbook_session"

// OperatorHeader lets a caller with the admin token say who is calling. It
// names, and opens nothing.
const OperatorHeader = "X-Guardbook-Operator"

// Reasons why a request comes from no operator.
var (
	ErrNoCredentials = errors.New("no operator's token and no session")
	ErrAgentKey      = errors.New("this is an agent's key, and it opens no operator's door")
)

// Operator is who is behind a request.
type Operator struct {
	Name   string // as on entries: an account, ByAdminToken (perhaps with "/NAME"), or ByLoginLink
	Cookie bool   // came by a session's cookie, so that a browser may have been tricked into sending it
}

// Operator finds the operator behind a request: a token in Authorization, else a
// session in the cookie. Errors: ErrNoCredentials, ErrAgentKey, ErrDenied.
func (s *Store) Operator(r *http.Request) (Operator, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, _ := strings.Cut(h, " ")
		token = strings.TrimSpace(token)
		switch {
		case !strings.EqualFold(scheme, "Bearer"):
			return Operator{}, ErrDenied
		case strings.HasPrefix(token, AgentPrefix):
			return Operator{}, ErrAgentKey
		case !s.AuthenticateToken(token):
			return Operator{}, ErrDenied
		}
		name := ByAdminToken
		if who := plainName(r.Header.Get(OperatorHeader)); who != "" {
			name += "/" + who
		}
		return Operator{Name: name}, nil
	}
	if c, err := r.Cookie(CookieName); err == nil && c.Value != "" {
		x, ok := s.Session(r.Context(), c.Value)
		if !ok {
			return Operator{}, ErrDenied
		}
		return Operator{Name: x.Account, Cookie: true}, nil
	}
	if r.Header.Get("X-Guardbook-Key") != "" {
		return Operator{}, ErrAgentKey
	}
	return Operator{}, ErrNoCredentials
}

// plainName keeps what may stand in a name on an entry.
func plainName(s string) string {
	keep := func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._@+-", r)) {
			return r
		}
		return -1
	}
	s = strings.Map(keep, s)
	return s[:min(len(s), 63)]
}

// SessionCookie is the cookie for a session's value.
func SessionCookie(value string, secure bool) *http.Cookie {
	return &http.Cookie{
		Name: CookieName, Value: value, Path: "/", MaxAge: int(SessionLife / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: secure,
	}
}

// EndCookie is the cookie that takes a session's cookie away.
func EndCookie(secure bool) *http.Cookie {
	c := SessionCookie("", secure)
	c.MaxAge = -1
	return c
}
