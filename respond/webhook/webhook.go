// Package webhook delivers notices of alerts as JSON over HTTP, signed as
// Standard Webhooks (https://www.standardwebhooks.com) says.
package webhook

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/guardbook/guardbook/respond"
)

const (
	timeout      = 10 * time.Second
	maxRedirects = 3
	// maxAnswer is how much of an answer is read; the rest is dropped.
	maxAnswer = 4 << 10
)

// Receiver posts notices to one address.
type Receiver struct {
	url    *url.URL
	signer *standardwebhooks.Webhook // nil: not signed
	client *http.Client
}

var _ respond.Receiver = (*Receiver)(nil)

// New returns a receiver for an http or https address. A secret ("whsec_" and
// base64) makes it sign what it sends; an empty one does not. No error shows more
// of the address than its host: the rest is often a secret.
func New(address, secret string) (*Receiver, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("webhook: the address cannot be read as a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("webhook: the address must begin with https:// or http:// and a host")
	}
	r := &Receiver{url: u}
	if secret != "" {
		if r.signer, err = standardwebhooks.NewWebhook(secret); err != nil {
			return nil, errors.New(`webhook: the secret must be "whsec_" and base64`)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // notices are rare: no connection waits for the next one
	r.client = &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: r.checkRedirect}
	return r, nil
}

// String names the receiver without what could be secret in its address.
func (r *Receiver) String() string { return r.url.Scheme + "://" + r.url.Host + "/..." }

// Via is "webhook".
func (r *Receiver) Via() string { return "webhook" }

// checkRedirect follows a redirect that keeps the method and stays on the host;
// the notice and its signature are for nobody else.
func (r *Receiver) checkRedirect(req *http.Request, via []*http.Request) error {
	code := req.Response.StatusCode
	keeps := code == http.StatusTemporaryRedirect || code == http.StatusPermanentRedirect
	safe := req.URL.Host == r.url.Host && (req.URL.Scheme == r.url.Scheme || req.URL.Scheme == "https")
	if !keeps || !safe || len(via) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// Notify posts one notice. Answers in the 200s are a delivery; network errors,
// 408, 429 and the 500s may be tried again; everything else is respond.ErrPermanent.
func (r *Receiver) Notify(ctx context.Context, n respond.Notice) (respond.Delivery, error) {
	d := respond.Delivery{Message: n.ID}
	body, err := json.Marshal(payloadOf(n, time.Now()))
	if err != nil {
		return d, fmt.Errorf("webhook: write the notice: %w: %w", respond.ErrPermanent, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url.String(), bytes.NewReader(body))
	if err != nil {
		return d, fmt.Errorf("webhook: %w: the request could not be made", respond.ErrPermanent)
	}
	if err := r.sign(req.Header, n.ID, body, time.Now()); err != nil {
		return d, fmt.Errorf("webhook: sign the notice: %w", err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return d, fmt.Errorf("webhook to %s: %w", r, withoutAddress(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // a short or broken answer changes nothing
	d.Status = resp.StatusCode
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return d, nil
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code/100 == 5:
		d.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		return d, fmt.Errorf("webhook to %s: it answered %s", r, statusText(code))
	case code/100 == 3:
		return d, fmt.Errorf("webhook to %s: %w: it redirects (%s), and only a 307 or 308 on the same host is followed", r, respond.ErrPermanent, statusText(code))
	default:
		return d, fmt.Errorf("webhook to %s: %w: it answered %s", r, respond.ErrPermanent, statusText(code))
	}
}

func (r *Receiver) sign(h http.Header, id string, body []byte, now time.Time) error {
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "guardbook")
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	if r.signer == nil {
		return nil
	}
	s, err := r.signer.Sign(id, now, body)
	if err != nil {
		return err
	}
	h.Set(standardwebhooks.HeaderWebhookSignature, s)
	return nil
}

// withoutAddress drops the address that the HTTP client puts into its errors.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// statusText is a status as we know it, not as the other side words it.
func statusText(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
}

// retryAfter reads seconds or a date; what cannot be read is nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 1<<20 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}
