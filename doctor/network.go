package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// upstreams checks that the model providers can be reached. Any answer will do:
// a provider refuses a request without a key, and is there all the same.
func (x *examination) upstreams(ctx context.Context) []Result {
	var out []Result
	for _, t := range x.Upstreams {
		out = append(out, x.reach(ctx, "upstream "+t.Name, t.URL, Fail)...)
	}
	return out
}

// webhooks checks that the receivers of alerts can be reached. They are asked
// with HEAD, which delivers nothing.
func (x *examination) webhooks(ctx context.Context) []Result {
	var out []Result
	for _, t := range x.Webhooks {
		out = append(out, x.reach(ctx, "webhook "+t.Name, t.URL, Fail)...)
	}
	return out
}

func (x *examination) reach(ctx context.Context, check, address string, bad Status) []Result {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return []Result{{check, bad, "its address is no http or https address", "correct it"}}
	}
	place := u.Scheme + "://" + u.Host // a webhook's path may be its secret
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return []Result{{check, bad, place + " is no http or https address", "correct it"}}
	}
	sent := x.Now()
	resp, err := x.client.Do(req)
	if err != nil {
		detail, mend := explain(err)
		return []Result{{check, bad, place + ": " + detail, mend}}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // HEAD has no body; a broken server may send one
	resp.Body.Close()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil && x.date.at.IsZero() {
		x.date = clockReading{from: place, at: date, sent: sent, received: x.Now()}
	}
	return ok(check, fmt.Sprintf("%s answers (%s)", place, resp.Status))
}

// netCause is explain without the mend.
func netCause(err error) string {
	detail, _ := explain(err)
	return detail
}

// explain tells the reasons apart for which something cannot be reached.
func explain(err error) (detail, mend string) {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsTimeout {
			return fmt.Sprintf("the name server did not say in time where %s is", dns.Name), "check this machine's name server (/etc/resolv.conf) and its network"
		}
		return fmt.Sprintf("the name %s is not known", dns.Name), "check its spelling and this machine's name server; behind a proxy set HTTPS_PROXY"
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted: " + certCause(bad.Err), "if a proxy inspects TLS here, add its certificate to this machine's trusted ones (SSL_CERT_FILE); else do not trust what answers"
	}
	if errors.Is(err, http.ErrSchemeMismatch) || isA[tls.RecordHeaderError](err) {
		return "it does not speak TLS", "use http:// instead of https://, or the port that speaks TLS"
	}
	if isA[tls.AlertError](err) {
		return "it broke off the TLS handshake", "check that the host name is the one that its server knows, and which TLS versions it takes"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused: nothing listens there", "check the port, and that the service runs"
	case errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to it from this network", "check this machine's network and its firewall; behind a proxy set HTTPS_PROXY"
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection"): // net/http's own, without a name
		return "the connection was cut before an answer", "a firewall or proxy may be in between; try it with curl -v"
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err):
		return "no answer in time", "a firewall may drop the packets; check the network, and the proxy settings (HTTPS_PROXY)"
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error(), "try it with curl -v"
	}
	return err.Error(), "try it with curl -v"
}

func certCause(err error) string {
	switch {
	case isA[x509.UnknownAuthorityError](err):
		return "it is signed by an unknown authority"
	case isA[x509.HostnameError](err):
		return "it is for another host name"
	case isA[x509.CertificateInvalidError](err):
		return "it has expired, or is not valid yet (is this machine's clock right?)"
	default:
		return err.Error()
	}
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// clockReading is the time that another machine told.
type clockReading struct {
	from           string
	at             time.Time // to the second
	sent, received time.Time
}

// How far a clock may be off. Times in the book are evidence; certificates and
// webhook signatures stop working minutes off.
const (
	clockWarn = 5 * time.Second
	clockFail = 2 * time.Minute
)

// clock compares this machine's clock with another's and with the book.
func (x *examination) clock(ctx context.Context) []Result {
	const check = "clock"
	const mend = "set the clock, and keep it right with NTP (timedatectl set-ntp true)"
	if last, found := x.lastRecorded(ctx); found {
		if behind := last.Sub(x.Now()); behind > clockWarn {
			return fail(check, fmt.Sprintf("this machine's clock is %s behind the last entry of the book (%s)",
				behind.Round(time.Second), last.UTC().Format(time.RFC3339)), mend)
		}
	}
	if x.date.at.IsZero() {
		return ok(check, "not behind the book; no upstream told its time")
	}
	off := x.date.off()
	side := "ahead of"
	if off < 0 {
		side = "behind"
	}
	detail := fmt.Sprintf("%s %s that of %s", off.Abs().Round(time.Second), side, x.date.from)
	switch {
	case off.Abs() >= clockFail:
		return fail(check, detail, mend)
	case off.Abs() >= clockWarn:
		return warn(check, detail, mend)
	default:
		return ok(check, "agrees with that of "+x.date.from)
	}
}

// off is how far this machine's clock is ahead, at least: the other time was
// taken somewhere between sending and receiving, and has no fractions.
func (c clockReading) off() time.Duration {
	switch {
	case c.sent.After(c.at.Add(time.Second)):
		return c.sent.Sub(c.at.Add(time.Second))
	case c.received.Before(c.at):
		return c.received.Sub(c.at)
	default:
		return 0
	}
}
