package doctor

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/guardbook/guardbook/access"
)

// server is what was found at the address.
type server struct {
	running bool   // a guardbook answers
	version string // its version
}

// newClient makes a client that asks each thing once and follows no redirect:
// the first answer is what tells.
func newClient(timeout time.Duration) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the environment's proxy, as the server has it
	t.DisableKeepAlives = true
	return &http.Client{Timeout: timeout, Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// baseURL is where the server is asked.
func (x *examination) baseURL() string {
	if x.URL != "" {
		return strings.TrimRight(x.URL, "/")
	}
	return x.listenURL()
}

// listenURL is where what listens at the address can be asked from here.
func (x *examination) listenURL() string {
	host, port, err := net.SplitHostPort(x.Listen)
	if err != nil {
		return "http://" + x.Listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // listens everywhere: ask here
	}
	return "http://" + net.JoinHostPort(host, port)
}

const maxAnswer = 1 << 20

// get asks a server and reads a JSON answer into v, whatever its status.
func (x *examination) get(ctx context.Context, address, token string, v any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := x.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, err
	}
	return resp.StatusCode, json.Unmarshal(b, v)
}

// address checks that the address can be listened on, or that it is a guardbook
// that listens there already; and that one answers where the command line asks.
func (x *examination) address(ctx context.Context) []Result {
	var out []Result
	if x.Listen != "" {
		out = x.port(ctx)
	}
	if x.URL == "" || x.Listen != "" && x.baseURL() == x.listenURL() {
		return out
	}
	const check = "server address"
	if x.server = x.ask(ctx, x.baseURL()); x.server.running {
		return append(out, x.versions(check, x.baseURL())...)
	}
	return append(out, fail(check, "no guardbook answers at "+x.baseURL(), "check GUARDBOOK_URL and --url; start the server with guardbook serve")...)
}

func (x *examination) port(ctx context.Context) []Result {
	const check = "address"
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", x.Listen)
	if err == nil {
		l.Close()
		return ok(check, x.Listen+" is free; no server runs")
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if x.server = x.ask(ctx, x.listenURL()); x.server.running {
			return x.versions(check, x.listenURL())
		}
		_, port, _ := net.SplitHostPort(x.Listen)
		return fail(check, x.Listen+" is taken by another program",
			fmt.Sprintf("find it (ss -ltnp 'sport = :%s', or lsof -i :%s) and stop it, or choose another address with --listen", port, port))
	case errors.Is(err, syscall.EACCES):
		return fail(check, x.Listen+" may not be listened on by this user", "choose a port above 1023 with --listen")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail(check, x.Listen+" is no address of this machine", "choose one with --listen: 127.0.0.1:8787 for this machine alone, 0.0.0.0:8787 for the network")
	default:
		return fail(check, fmt.Sprintf("%s cannot be listened on: %s", x.Listen, err), "give HOST:PORT with --listen, as in 127.0.0.1:8787")
	}
}

// ask finds out whether a guardbook answers.
func (x *examination) ask(ctx context.Context, base string) server {
	var health struct {
		Service string `json:"service"`
		Version string `json:"version"`
		Error   struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	status, err := x.get(ctx, base+"/healthz", x.operatorToken(), &health)
	switch {
	case err == nil && status == http.StatusOK && health.Service == "guardbook":
		return server{true, health.Version}
	case err == nil && status == http.StatusUnauthorized && health.Error.Code != "":
		return server{running: true} // asked from elsewhere, or with a token that it does not know
	default:
		return server{}
	}
}

func (x *examination) versions(check, base string) []Result {
	detail := "a guardbook answers at " + base
	switch x.server.version {
	case x.Version:
		return ok(check, detail+", version "+x.Version)
	case "":
		return ok(check, detail)
	default:
		return warn(check, fmt.Sprintf("%s, version %s; this program is version %s", detail, x.server.version, x.Version),
			"restart the server with the program that is installed now, or use the program that belongs to the server")
	}
}

// bookLock checks that the book is not held by a process that does not answer.
func (x *examination) bookLock(context.Context) []Result {
	const check = "book lock"
	path := filepath.Join(x.Data, "book", "lock")
	held, err := lockHeld(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return warn(check, fmt.Sprintf("%s cannot be looked at: %s", path, cause(err)), "run doctor as the user that runs guardbook")
	case held && x.server.running:
		return ok(check, "the book is held by a running process")
	case held:
		return fail(check, "a process holds the book ("+path+"), but no guardbook answers at "+x.baseURL(),
			"another guardbook uses this data directory: find it (fuser "+path+", or lsof "+path+") and stop it, or give --listen and --url as it was started with")
	default:
		return ok(check, "nobody holds the book; a lock file that was left behind does no harm")
	}
}

// ready checks that the server can guard.
func (x *examination) ready(ctx context.Context) []Result {
	const check = "server"
	if !x.server.running {
		return warn(check, "no server runs", "start it with guardbook serve")
	}
	var answer struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}
	status, err := x.get(ctx, x.baseURL()+"/readyz", x.operatorToken(), &answer)
	switch {
	case err != nil:
		return fail(check, "it does not answer /readyz: "+netCause(err), "look at the server's log")
	case status == http.StatusOK:
		return ok(check, "ready")
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return warn(check, "whether it is ready is told to operators and on its own machine only", "set GUARDBOOK_TOKEN to its admin token")
	case len(answer.Reasons) > 0:
		return fail(check, "not ready: "+strings.Join(answer.Reasons, "; "), "mend the reasons; the server goes on by itself")
	default:
		return fail(check, fmt.Sprintf("not ready: /readyz answered %d", status), "look at the server's log")
	}
}

// operatorToken is the token to use: the given one, else the data directory's.
func (x *examination) operatorToken() string {
	if x.Token != "" {
		return x.Token
	}
	b, err := os.ReadFile(filepath.Join(x.Data, access.AdminTokenFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// token checks that the operator's token opens the server.
func (x *examination) token(ctx context.Context) []Result {
	const check = "operator token"
	if !x.server.running {
		return nil
	}
	token, from := x.operatorToken(), "GUARDBOOK_TOKEN"
	if x.Token == "" {
		from = filepath.Join(x.Data, access.AdminTokenFile)
	}
	if token == "" {
		return warn(check, "there is none: "+from+" cannot be read", "set GUARDBOOK_TOKEN, or give --data so that the server's own file is read")
	}
	if strings.HasPrefix(token, access.AgentPrefix) {
		return fail(check, "the token of "+from+" is an agent's key", "use an operator's token (gbo_...): DATA/admin-token on the server's machine")
	}
	if !access.CheckKey(access.OperatorPrefix, token) {
		return fail(check, "the token of "+from+" is mistyped or cut off: its checksum is wrong", "copy it again from DATA/admin-token on the server's machine")
	}
	var answer struct {
		Name string `json:"name"`
	}
	status, err := x.get(ctx, x.baseURL()+"/api/v1/session", token, &answer)
	switch {
	case err != nil && status == 0:
		return fail(check, "the server does not answer: "+netCause(err), "look at the server's log")
	case status == http.StatusOK:
		return ok(check, "the token of "+from+" opens the server")
	default:
		return fail(check, fmt.Sprintf("the server refuses the token of %s (%d)", from, status),
			"it belongs to another data directory, or the file was changed while the server ran: give --data as the server has it, or restart the server")
	}
}
