package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Limits of what one request may take.
const (
	defaultTimeout  = 30 * time.Second
	defaultQueue    = 1024
	maxHeaderBytes  = 64 << 10
	maxRedirects    = 2
	maxAttempts     = 12
	firstPause      = 15 * time.Second // after a 429 or 503 that does not say how long
	maxPause        = time.Hour        // whatever the host asks for
	maxSlowdown     = 16               // times the pace
	retryAfterError = 2 * time.Second  // after an answer that never came
	networkAttempts = 3
	unresolvedFor   = 30 * time.Second // a name that could not be resolved is not tried again
)

// Options configure a Client. The zero value works.
type Options struct {
	// Transport does the requests; nil is one like net/http's own, which takes
	// its proxy from the environment.
	Transport http.RoundTripper
	// Queue is how many requests may wait for one host; 0 means 1024.
	Queue int
	// Timeout is how long one request may take once it was sent; 0 means 30 s.
	Timeout time.Duration
}

// Client gets documents. It may be used by several goroutines.
type Client struct {
	http    *http.Client
	queue   int
	timeout time.Duration

	mu    sync.Mutex
	hosts map[string]*host // those that were asked: the configured ones
}

// New returns a client.
func New(o Options) *Client {
	if o.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxResponseHeaderBytes, t.DisableCompression, t.ResponseHeaderTimeout = maxHeaderBytes, true, defaultTimeout
		o.Transport = t
	}
	c := &Client{queue: cmp.Or(o.Queue, defaultQueue), timeout: cmp.Or(o.Timeout, defaultTimeout), hosts: map[string]*host{}}
	c.http = &http.Client{Transport: o.Transport, CheckRedirect: sameHost}
	return c
}

// Close closes idle connections. No request may be under way.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// sameHost refuses redirects to where nobody configured a source.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return refusal.New(collateral.ReasonSource, "%s redirects to %s", via[0].URL.Host, req.URL.Redacted())
	}
	return nil
}

// Request is for one document. [Base.Request] makes it.
type Request struct {
	url      url.URL
	pace     Pace
	maxBytes int
	// Urgent passes those in the queue that are not: what the whole broker waits for.
	Urgent bool
}

// String is the URL.
func (r Request) String() string { return r.url.String() }

// Response is a document as it was served.
type Response struct {
	Body   []byte
	Header http.Header
}

// Get waits for its turn, asks, and asks again where the host says that it is busy. Its errors are
// refusals: ReasonUnknown for a document that the host does not have, ReasonBusy for a full queue,
// ReasonSource and ReasonTooLarge for answers that nobody wants, else ReasonUnavailable; and the
// context's. A host whose name cannot be resolved is given up for all requests, for half a minute.
func (c *Client) Get(ctx context.Context, r Request) (Response, error) {
	h := c.host(r)
	var last error
	failed := 0
	for range maxAttempts {
		if err := h.lost(); err != nil && last == nil { // nor is its turn waited for
			return Response{}, err
		}
		if err := h.turn(ctx, r.Urgent, last != nil); err != nil {
			return Response{}, err
		}
		if err := h.lost(); err != nil && last == nil {
			return Response{}, err
		}
		resp, pause, err := c.once(ctx, r)
		if err == nil {
			h.answered()
			return resp, nil
		}
		if ctx.Err() != nil {
			return Response{}, ctx.Err()
		}
		if reason, _ := refusal.ReasonOf(err); reason != collateral.ReasonUnavailable {
			return Response{}, err
		}
		if last = err; pause >= 0 {
			h.busy(pause)
			continue
		}
		name, unresolved := errors.AsType[*net.DNSError](err)
		if failed++; failed == networkAttempts || unresolved && name.IsNotFound {
			if unresolved {
				h.giveUp(err)
			}
			break
		}
		h.pause(retryAfterError << failed)
	}
	return Response{}, last
}

// Waiting is how many requests wait for a turn, at all hosts.
func (c *Client) Waiting() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		n += h.waitingNow()
	}
	return n
}

func (c *Client) host(r Request) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[r.url.Host]
	if h == nil {
		h = newHost(r.pace, c.queue)
		c.hosts[r.url.Host] = h
	}
	return h
}

// once asks once. The pause is what a busy host asks for, 0 if it does not say, negative if it is
// not that it is busy.
func (c *Client) once(ctx context.Context, r Request) (resp Response, pause time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return Response{}, -1, refusal.New(collateral.ReasonSource, "%w", err)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		if reason, is := refusal.ReasonOf(err); is {
			return Response{}, -1, refusal.New(reason, "%w", err)
		}
		return Response{}, -1, refusal.New(collateral.ReasonUnavailable, "%w", err)
	}
	defer answer.Body.Close()
	if err := judge(answer, r); err != nil {
		return Response{}, pauseOf(answer), err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, int64(r.maxBytes)+1))
	switch {
	case err != nil:
		return Response{}, -1, refusal.New(collateral.ReasonUnavailable, "%s: %w", r.url.Host, err)
	case len(body) > r.maxBytes:
		return Response{}, -1, refusal.New(collateral.ReasonTooLarge, "%s: the answer has more than %d bytes", &r.url, r.maxBytes)
	case len(body) == 0:
		return Response{}, -1, refusal.New(collateral.ReasonMalformed, "%s: the answer is empty", &r.url)
	}
	return Response{Body: body, Header: answer.Header}, -1, nil
}

// judge turns a status into an error.
func judge(answer *http.Response, r Request) error {
	switch s := answer.StatusCode; {
	case s == http.StatusOK:
		return nil
	case s == http.StatusNotFound, s == http.StatusGone, s == http.StatusBadRequest:
		return refusal.New(collateral.ReasonUnknown, "%s: %s", &r.url, answer.Status)
	default:
		return refusal.New(collateral.ReasonUnavailable, "%s: %s", &r.url, answer.Status)
	}
}

// pauseOf is how long a host wants to be left alone: -1 if it does not.
func pauseOf(answer *http.Response) time.Duration {
	if answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusServiceUnavailable {
		return -1
	}
	text := answer.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxPause)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), maxPause)
	}
	return 0
}

// jitter adds up to a tenth, so that brokers that were refused together do not return together.
func jitter(d time.Duration) time.Duration { return d + time.Duration(rand.Int64N(int64(d)/10+1)) }

// Error texts of a host's queue.
var errQueue = errors.New("the queue is full")

func queueError(n int) error {
	return refusal.New(collateral.ReasonBusy, "%d requests wait for this host already: %w", n, errQueue)
}

// String is for messages.
func (p Pace) String() string {
	return fmt.Sprintf("%d at once, then one each %s", p.Burst, p.Interval)
}
