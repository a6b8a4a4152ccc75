package stdio

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/mcp"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

const (
	prefix    = "/mcp-stdio/"
	atOnce    = 64 // questions of one link that are worked on at a time
	frameTime = 30 * time.Second
)

// Door is the server's end of links: GET /mcp-stdio/SERVER with an agent's key,
// upgraded to Protocol. `guardbook mcp wrap` comes through it.
type Door struct {
	gw   *gateway.Gateway
	pins *pin.Store
	log  *slog.Logger

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// NewDoor returns a door behind which the gateway's guard decides. It must be closed
// when the server stops: the server does not know of connections that were upgraded.
func NewDoor(gw *gateway.Gateway, pins *pin.Store, log *slog.Logger) *Door {
	return &Door{gw: gw, pins: pins, log: log, open: map[net.Conn]struct{}{}}
}

// Close ends every link. Wrappers look for another server, or wait for this one.
func (d *Door) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.open {
		_ = c.Close() // what its wrapper makes of it is the same
	}
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, identity := r.Header.Get(gateway.HeaderKey), r.Header.Get(HeaderIdentity)
	caller, refusal := gateway.Identify(r, "", d.gw.Keys())
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), prefix))
	switch {
	case refusal != nil:
	case err != nil || !ServerName(name):
		refusal = &gateway.Refusal{Status: http.StatusNotFound, Code: "not_found", Message: "A server's name has 1 to 64 characters of a-z, A-Z, 0-9, '.', '_' and '-'."}
	case pin.CheckCommand(identity) != nil:
		refusal = &gateway.Refusal{Status: http.StatusBadRequest, Code: "bad_header", Message: HeaderIdentity + ": " + pin.CheckCommand(identity).Error() + "."}
	case r.Header.Get("Upgrade") != Protocol:
		refusal = &gateway.Refusal{Status: http.StatusUpgradeRequired, Code: "bad_upgrade", Message: "This path is for `guardbook mcp wrap` of the same version: it takes connections upgraded to " + Protocol + "."}
	}
	if refusal != nil {
		refusal.Agent, refusal.Session, refusal.Tenant = caller.Agent, caller.Session, caller.Tenant
		d.gw.Refuse(r.Context(), w, jsonErrors{}, via, refusal)
		return
	}
	rc := http.NewResponseController(w)
	conn, rw, err := rc.Hijack()
	if err != nil {
		d.gw.Refuse(r.Context(), w, jsonErrors{}, via, &gateway.Refusal{Agent: caller.Agent, Session: caller.Session, Tenant: caller.Tenant,
			Status: http.StatusHTTPVersionNotSupported, Code: "bad_upgrade", Message: "This connection cannot be upgraded: use HTTP/1.1."})
		return
	}
	defer conn.Close()
	if !d.enter(conn) {
		return
	}
	defer d.leave(conn)
	_ = conn.SetDeadline(time.Time{}) // the server's limits are for requests
	s := &served{
		Door: d, keeper: &mcp.Local{Guard: d.gw.Guard(), Pins: d.pins, Tenant: caller.Tenant, Log: d.log}, conn: conn, w: bufio.NewWriterSize(conn, 64<<10), key: key, caller: caller,
		server: pin.Server{Name: name, Identity: identity}, slots: make(chan struct{}, atOnce),
	}
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", Protocol); err != nil {
		return
	}
	s.run(context.WithoutCancel(r.Context()), rw.Reader)
}

func (d *Door) enter(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.open[c] = struct{}{}
	}
	return !d.closed
}

func (d *Door) leave(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, c)
}

// ServerName reports whether an MCP server may be configured by that name.
func ServerName(s string) bool {
	return len(s) <= 64 && !strings.Contains(s, "/") && !strings.Contains(s, "$") && named(s)
}

// jsonErrors tells errors as {"error": {"code", "message"}}.
type jsonErrors struct{}

// ErrorBody implements gateway.ErrorShape.
func (jsonErrors) ErrorBody(_ int, code, message string) []byte {
	b, _ := json.Marshal(map[string]map[string]string{"error": {"code": code, "message": message}}, json.Deterministic(true)) // strings marshal
	return b
}

// served is one link.
type served struct {
	*Door
	keeper mcp.Keeper
	conn   net.Conn
	mu     sync.Mutex // of w
	w      *bufio.Writer
	key    string
	caller gateway.Caller
	server pin.Server
	slots  chan struct{}
}

func (s *served) run(ctx context.Context, r *bufio.Reader) {
	in := guardbook.Interaction{Tenant: s.caller.Tenant, Agent: s.caller.Agent, Session: s.caller.Session}
	ctx, cancel := s.gw.Guard().Watch(ctx, &in)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if k, ok := s.gw.Guard().Contained(ctx); ok {
			s.gw.Guard().Cut(k)
			s.send(frame{stopped, 0, []byte(gateway.StopText(k))})
			_ = s.conn.Close() // nothing more comes through
		}
	})
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if agent, tenant, ok := s.gw.Keys().Authenticate(s.key); !ok || agent != s.caller.Agent || tenant != s.caller.Tenant {
			s.send(frame{stopped, 0, []byte("the agent's key was rotated or removed")})
			return
		}
		s.slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-s.slots }()
			s.answer(ctx, f)
		})
	}
}

func (s *served) answer(ctx context.Context, f frame) {
	var out any
	var err error
	switch f.kind {
	case askDecide:
		out, err = s.decide(ctx, f.data)
	case askTools:
		var p pin.Page
		if err = json.Unmarshal(f.data, &p); err == nil {
			out, err = s.keeper.Tools(ctx, s.caller.Agent, s.server, p)
		}
	case askTool:
		var tool string
		if err = json.Unmarshal(f.data, &tool); err == nil {
			out, err = s.keeper.Tool(ctx, s.caller.Agent, s.server, tool)
		}
	case tellOff:
		var e guardbook.RefusalEntry
		if json.Unmarshal(f.data, &e) == nil {
			s.refused(ctx, e)
		}
		return
	default:
		err = fmt.Errorf("there is no such question")
	}
	if err != nil {
		kind := failed
		if errors.Is(err, pin.ErrCorrupt) {
			kind = corrupt
		}
		s.send(frame{kind, f.id, []byte(err.Error())})
		return
	}
	b, err := json.Marshal(out)
	if err != nil {
		s.send(frame{failed, f.id, []byte("the answer could not be written")})
		return
	}
	s.send(frame{answered, f.id, b})
}

func (s *served) decide(ctx context.Context, question []byte) ([]guardbook.Decision, error) {
	var packed []interaction
	if err := json.Unmarshal(question, &packed); err != nil {
		return nil, fmt.Errorf("the question cannot be read: %w", err)
	}
	ins := make([]*guardbook.Interaction, len(packed))
	for i, p := range packed {
		in, err := p.unpack(s.server.Name)
		if err != nil {
			return nil, err
		}
		in.Tenant, in.Agent, in.Session, in.User, in.Parent = s.caller.Tenant, s.caller.Agent, s.caller.Session, s.caller.User, s.caller.Parent
		ins[i] = in
	}
	return s.keeper.Decide(ctx, ins...)
}

// refused writes what a wrapper refused by itself into the book; who it is, and how
// much it says, is not its own choice.
func (s *served) refused(ctx context.Context, e guardbook.RefusalEntry) {
	if !named(e.Path) || !named(e.Code) {
		return
	}
	e.Agent, e.Session = s.caller.Agent, s.caller.Session
	if len(e.Message) > 1024 {
		e.Message = strings.ToValidUTF8(e.Message[:1024], "")
	}
	s.keeper.Refused(ctx, e)
}

func (s *served) send(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(frameTime)) // a wrapper that does not read is gone
	if writeFrame(s.w, f) != nil {
		_ = s.conn.Close()
	}
}
