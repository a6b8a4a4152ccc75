package streamable

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp"
)

// maxSessions bounds the sessions that are remembered; the one that was used least
// recently is forgotten first, and begins anew when it is used again.
const maxSessions = 10_000

// sessions are the connections of servers that name theirs with Mcp-Session-Id.
type sessions struct {
	mu    sync.Mutex
	byID  map[string]*list.Element
	order list.List // of *kept, the last used at the front
}

type kept struct {
	key     string
	agent   string
	tenant  string
	session *mcp.Session
}

func sessionKey(server, id string) string { return server + "\x00" + id }

// get returns the session of that name; nil if it is not known. other is true when it
// is another agent's.
func (s *sessions) get(key string, c gateway.Caller) (_ *mcp.Session, other bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[key]
	if e == nil {
		return nil, false
	}
	k := e.Value.(*kept)
	if k.agent != c.Agent || k.tenant != c.Tenant {
		return nil, true
	}
	s.order.MoveToFront(e)
	return k.session, false
}

// put keeps a session, unless one of that name is kept: that one is returned.
func (s *sessions) put(key string, c gateway.Caller, session *mcp.Session) *mcp.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[key]; e != nil {
		if k := e.Value.(*kept); k.agent == c.Agent && k.tenant == c.Tenant {
			return k.session
		}
		return session // the server has given one name twice; the first agent keeps it
	}
	if s.byID == nil {
		s.byID = map[string]*list.Element{}
	}
	s.byID[key] = s.order.PushFront(&kept{key, c.Agent, c.Tenant, session})
	for len(s.byID) > maxSessions {
		last := s.order.Back()
		s.order.Remove(last)
		delete(s.byID, last.Value.(*kept).key)
	}
	return session
}

func (s *sessions) drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[key]; e != nil {
		s.order.Remove(e)
		delete(s.byID, key)
	}
}

// single refuses a request that has one of the headers that matter more than once:
// two readers could take two different ones.
func (x *exchange) single() *gateway.Refusal {
	for name, values := range x.r.Header {
		if len(values) > 1 && (strings.HasPrefix(name, "Mcp-") || name == headerSince || name == "Content-Type" || name == "Authorization") {
			return &gateway.Refusal{Status: http.StatusBadRequest, Code: "header_mismatch", Message: "The header " + name + " stands in the request more than once."}
		}
	}
	return nil
}

// open finds the connection that a request belongs to. In the stateless era, and with
// servers that name no session, each request is one by itself.
func (x *exchange) open() *gateway.Refusal {
	id := x.r.Header.Get(headerID)
	if len(id) > 1024 {
		return &gateway.Refusal{Status: http.StatusBadRequest, Code: "bad_header", Message: headerID + " is longer than 1024 bytes."}
	}
	if x.who.Session == "" {
		x.who.Session = x.named(id)
	}
	if id == "" {
		x.session = x.newSession()
		return nil
	}
	key := sessionKey(x.up.name, id)
	session, other := x.sessions.get(key, x.who)
	if other {
		return &gateway.Refusal{Status: http.StatusNotFound, Code: "session_unknown", Message: "There is no such session of this agent. Begin a new one with initialize."}
	}
	if session == nil { // begun before this process, or long unused
		session = x.sessions.put(key, x.who, x.newSession())
	}
	x.session, x.kept = session, true
	return nil
}

func (x *exchange) newSession() *mcp.Session {
	return mcp.NewSession(mcp.Options{Keeper: x.keeper, Server: x.up.server, Caller: x.who, Version: x.r.Header.Get(headerMCP), Now: x.o.Now})
}

// named is the session of the interactions of a client that names none: that of its
// connection, or the server's name for clients without one.
func (x *exchange) named(id string) string {
	h := sha256.New()
	for _, s := range []string{x.who.Tenant, x.who.Agent, x.up.name, id} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return "mcp-" + hex.EncodeToString(h.Sum(nil)[:12])
}
