package api

import (
	"net/http"
	"strings"

	"github.com/guardbook/guardbook/access"
)

// sessionJSON says who is logged in. Account is false for a session that came by
// the one-time link: what its owner should do next is make an account.
type sessionJSON struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	Account bool   `json:"account"`
}

func sessionOf(by string) sessionJSON {
	return sessionJSON{Name: by, Role: "operator", Account: by != access.ByLoginLink}
}

func (a *api) showSession(w http.ResponseWriter, _ *http.Request, by string) error {
	return writeJSON(w, http.StatusOK, sessionOf(by))
}

// secureCookie reports whether the session's cookie may be kept from plain HTTP.
func (a *api) secureCookie(r *http.Request) bool { return a.o.Secure || r.TLS != nil }

func (a *api) loginOnce(w http.ResponseWriter, r *http.Request, _ string) error {
	var in struct {
		Token string `json:"token"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if in.Token == "" {
		return invalid("token: the one-time login token is missing")
	}
	value, err := a.o.Access.LoginOnce(r.Context(), in.Token, address(r))
	if err != nil {
		return a.loginError(err, "the login link is not known, was used before or has expired: guardbook serve prints one at its first start, and POST /api/v1/login/link makes another")
	}
	http.SetCookie(w, access.SessionCookie(value, a.secureCookie(r)))
	return writeJSON(w, http.StatusOK, sessionOf(access.ByLoginLink))
}

func (a *api) login(w http.ResponseWriter, r *http.Request, _ string) error {
	var in struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	value, err := a.o.Access.Login(r.Context(), in.Name, in.Password, address(r))
	if err != nil {
		return a.loginError(err, "the name or the password is wrong")
	}
	http.SetCookie(w, access.SessionCookie(value, a.secureCookie(r)))
	return writeJSON(w, http.StatusOK, sessionOf(in.Name))
}

// loginError puts words to a refusal that has none of its own.
func (a *api) loginError(err error, message string) error {
	if p := a.problemOf(err); p != nil && p.code == codeUnauthorized {
		return &problem{p.status, p.code, message}
	}
	return err
}

func (a *api) logout(w http.ResponseWriter, r *http.Request, _ string) error {
	if c, err := r.Cookie(access.CookieName); err == nil {
		if err := a.o.Access.Logout(r.Context(), c.Value); err != nil {
			return err
		}
	}
	http.SetCookie(w, access.EndCookie(a.secureCookie(r)))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// newLoginLink makes another one-time login token, as the first start printed.
func (a *api) newLoginLink(w http.ResponseWriter, r *http.Request, by string) error {
	text, expires, err := a.o.Access.NewOnce(r.Context(), by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, struct {
		Token   string `json:"token"`
		Expires string `json:"expires"`
	}{text, stamp(expires)})
}

// createAccount makes an account. Who came by the one-time link goes on as the
// account: from here on the book has a name.
func (a *api) createAccount(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if err := a.o.Access.CreateAccount(r.Context(), in.Name, in.Password, by); err != nil {
		return err
	}
	if by == access.ByLoginLink {
		value, err := a.o.Access.Login(r.Context(), in.Name, in.Password, address(r))
		if err != nil {
			return err
		}
		if c, err := r.Cookie(access.CookieName); err == nil {
			if err := a.o.Access.Logout(r.Context(), c.Value); err != nil {
				return err
			}
		}
		http.SetCookie(w, access.SessionCookie(value, a.secureCookie(r)))
	}
	return writeJSON(w, http.StatusCreated, sessionOf(in.Name))
}

type accountJSON struct {
	Name    string `json:"name"`
	Created string `json:"created"`
	By      string `json:"by"`
}

func (a *api) listAccounts(w http.ResponseWriter, r *http.Request, _ string) error {
	list, err := a.o.Access.Accounts(r.Context())
	if err != nil {
		return err
	}
	out := []accountJSON{}
	for _, x := range list {
		out = append(out, accountJSON{x.Name, stamp(x.Created), x.By})
	}
	return writeJSON(w, http.StatusOK, map[string]any{"accounts": out})
}

func (a *api) removeAccount(w http.ResponseWriter, r *http.Request, by string) error {
	name := r.PathValue("name")
	if err := a.o.Access.RemoveAccount(r.Context(), name, by); err != nil {
		return err
	}
	if strings.EqualFold(name, by) { // its own session ended with it
		http.SetCookie(w, access.EndCookie(a.secureCookie(r)))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
