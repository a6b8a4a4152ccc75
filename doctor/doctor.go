// Package doctor looks at a set-up from outside and says what is wrong with it
// in words that lead to the mend. It changes nothing, and it works whether or
// not a server runs.
package doctor

import (
	"context"
	"net/http"
	"time"
)

// Status is the outcome of one check.
type Status string

// The outcomes.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, or may work; worth a look
	Fail Status = "fail" // something does not work, or is not safe
)

// Result is what one check found.
type Result struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitzero"` // what to do; empty when nothing is to be done
}

// Target is something that the server must be able to reach.
type Target struct {
	Name string // as results call it
	URL  string
}

// Setup says what to look at.
type Setup struct {
	Data      string // data directory
	Policies  string // directory of policies
	Listen    string // address that the server listens on here, HOST:PORT; empty: the server is elsewhere
	URL       string // address at which the server is asked; empty: made from Listen
	Token     string // an operator's token; empty: DATA/admin-token is read
	Version   string // of this program
	Upstreams []Target
	Webhooks  []Target
	Now       func() time.Time // nil: time.Now
	// Timeout bounds each thing that is reached over the network; zero: 5 s.
	Timeout time.Duration
}

// examination is a Setup with what the checks before have learnt.
type examination struct {
	Setup
	client *http.Client
	server server // what answers at the address
	date   clockReading
}

// Examine makes every check, in an order in which an earlier answer explains a
// later one.
func Examine(ctx context.Context, s Setup) []Result {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Timeout == 0 {
		s.Timeout = 5 * time.Second
	}
	x := &examination{Setup: s, client: newClient(s.Timeout)}
	defer x.client.CloseIdleConnections()
	var out []Result
	for _, check := range []func(context.Context) []Result{
		x.dataDirectory, x.diskSpace, x.secretFiles, x.signingKey, x.policies,
		x.address, x.bookLock, x.ready, x.token, x.upstreams, x.webhooks, x.clock,
	} {
		out = append(out, check(ctx)...)
	}
	return out
}

// Worst is the worst status among results.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		if r.Status == Fail || r.Status == Warn && worst == OK {
			worst = r.Status
		}
	}
	return worst
}

func ok(check, detail string) []Result { return []Result{{check, OK, detail, ""}} }

func warn(check, detail, mend string) []Result { return []Result{{check, Warn, detail, mend}} }

func fail(check, detail, mend string) []Result { return []Result{{check, Fail, detail, mend}} }
