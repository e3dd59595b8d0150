package fetch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

func TestBasesAreHTTPSOrThisMachine(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://kdsintf.amd.com": true, "https://mirror.example:8443/kds/": true, "http://127.0.0.1:8080": true, "http://localhost/kds": true, "http://[::1]:80": true,
		"http://mirror.example": false, "http://127.0.0.1.example": false, "http://localhost.example": false, "ftp://x": false, "kdsintf.amd.com": false, "https://": false, "": false, "https:kds": false,
		"https://user@kds.example": false, "https://kds.example?x=1": false, "https://kds.example?": false, "https://kds.example#x": false, "://": false, "file:///etc/passwd": false,
	} {
		b, err := ParseBase(text, Pace{})
		if want := map[bool]refusal.Reason{false: collateral.ReasonSource}[ok]; true {
			refusaltest.Want(t, text, err, want)
		}
		if b.IsZero() == ok {
			t.Errorf("%s: base %q", text, b)
		}
	}
	b, err := ParseBase("https://mirror.example/kds/", Pace{1, time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Request("/vcek/v1/Milan/ab", url.Values{"blSPL": {"04"}}, 1).String(); got != "https://mirror.example/kds/vcek/v1/Milan/ab?blSPL=04" {
		t.Error(got)
	}
}

// server is a real one, and a request for its document.
func server(t *testing.T, handler http.HandlerFunc) Request {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	b, err := ParseBase(s.URL, Pace{Burst: 100, Interval: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	return b.Request("/doc", nil, 100)
}

func client(t *testing.T, o Options) *Client {
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

func TestAnswersAreBounded(t *testing.T) {
	for what, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		reason refusal.Reason
	}{
		"a document":         {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 100)) }, ""},
		"a byte too many":    {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 101)) }, collateral.ReasonTooLarge},
		"one without end":    {func(w http.ResponseWriter) { _, _ = io.Copy(w, endless{}) }, collateral.ReasonTooLarge},
		"nothing":            {func(http.ResponseWriter) {}, collateral.ReasonMalformed},
		"unknown":            {func(w http.ResponseWriter) { w.WriteHeader(404) }, collateral.ReasonUnknown},
		"gone":               {func(w http.ResponseWriter) { w.WriteHeader(410) }, collateral.ReasonUnknown},
		"a rejected request": {func(w http.ResponseWriter) { w.WriteHeader(400) }, collateral.ReasonUnknown},
	} {
		r := server(t, func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })
		resp, err := client(t, Options{}).Get(t.Context(), r)
		if refusaltest.Want(t, what, err, c.reason); err == nil && len(resp.Body) != 100 {
			t.Errorf("%s: %d bytes", what, len(resp.Body))
		}
	}
}

// endless is a body without end.
type endless struct{}

// Read implements io.Reader.
func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestRedirectsStayAtTheHost: nobody chose another one.
func TestRedirectsStayAtTheHost(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	for what, c := range map[string]struct {
		to     string
		reason refusal.Reason
	}{"another host": {other.URL + "/doc", collateral.ReasonSource}, "another scheme": {"file:///etc/passwd", collateral.ReasonSource}, "the same host": {"/moved", ""}, "in circles": {"/doc", collateral.ReasonSource}} {
		r := server(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				_, _ = io.WriteString(w, "document")
				return
			}
			http.Redirect(w, r, c.to, http.StatusFound)
		})
		_, err := client(t, Options{}).Get(t.Context(), r)
		refusaltest.Want(t, what, err, c.reason)
	}
	if asked {
		t.Error("the other host was asked")
	}
}

// transport answers on simulated time.
type transport func(r *http.Request) (int, http.Header, error)

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	status, header, err := t(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: header, Body: io.NopCloser(strings.NewReader("document")), Request: r}, nil
}

func request(t *testing.T, host string, p Pace) Request {
	t.Helper()
	b, err := ParseBase("https://"+host, p)
	if err != nil {
		t.Fatal(err)
	}
	return b.Request("/doc", nil, 100)
}

func TestAHostThatNeverAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := client(t, Options{Transport: transport(func(r *http.Request) (int, http.Header, error) {
			asked++
			<-r.Context().Done()
			return 0, nil, r.Context().Err()
		})})
		start := time.Now()
		_, err := c.Get(t.Context(), request(t, "x", Pace{1, time.Second}))
		refusaltest.Want(t, "never", err, collateral.ReasonUnavailable)
		if took := time.Since(start); asked != networkAttempts || took > networkAttempts*defaultTimeout+time.Minute {
			t.Errorf("asked %d times in %s", asked, took)
		}
	})
}

// TestABusyHostIsLeftAloneAsLongAsItAsks, in seconds or by a date, and ever longer if it does not
// say; all that wait for it wait, those for other hosts do not.
func TestABusyHostIsLeftAloneAsLongAsItAsks(t *testing.T) {
	for what, c := range map[string]struct {
		header   func() string
		least    time.Duration
		most     time.Duration
		statuses []int
	}{
		"seconds":         {func() string { return "120" }, 120 * time.Second, 140 * time.Second, []int{429}},
		"a date":          {func() string { return time.Now().Add(5 * time.Minute).UTC().Format(http.TimeFormat) }, 299 * time.Second, 340 * time.Second, []int{503}},
		"a date gone by":  {func() string { return time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat) }, firstPause, 25 * time.Second, []int{503}},
		"nothing":         {func() string { return "" }, firstPause, 25 * time.Second, []int{429}},
		"nothing, thrice": {func() string { return "" }, 7 * firstPause, 9 * firstPause, []int{429, 503, 429}},
		"nonsense":        {func() string { return "soon" }, firstPause, 25 * time.Second, []int{429}},
		"years":           {func() string { return "4000000000" }, maxPause, maxPause * 12 / 10, []int{429}},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			cl := client(t, Options{Transport: transport(func(r *http.Request) (int, http.Header, error) {
				if r.URL.Host == "x" {
					if asked++; asked <= len(c.statuses) {
						return c.statuses[asked-1], http.Header{"Retry-After": {c.header()}}, nil
					}
				}
				return 200, nil, nil
			})})
			start := time.Now()
			var others sync.WaitGroup
			others.Go(func() {
				time.Sleep(time.Second)
				if _, err := cl.Get(t.Context(), request(t, "y", Pace{1, time.Second})); err != nil || time.Since(start) > 2*time.Second {
					t.Errorf("%s: another host after %s: %v", what, time.Since(start), err)
				}
				if _, err := cl.Get(t.Context(), request(t, "x", Pace{1, time.Second})); err != nil || time.Since(start) < c.least {
					t.Errorf("%s: the busy host was asked after %s: %v", what, time.Since(start), err)
				}
			})
			_, err := cl.Get(t.Context(), request(t, "x", Pace{1, time.Second}))
			if took := time.Since(start); err != nil || took < c.least || took > c.most {
				t.Errorf("%s: after %s, want %s to %s: %v", what, took, c.least, c.most, err)
			}
			others.Wait()
		})
	}
}

func TestAHostThatStaysBusyIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := client(t, Options{Transport: transport(func(*http.Request) (int, http.Header, error) {
			asked++
			return 429, nil, nil
		})})
		_, err := c.Get(t.Context(), request(t, "x", Pace{1, time.Second}))
		if refusaltest.Want(t, "busy", err, collateral.ReasonUnavailable); asked != maxAttempts {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestThePaceIsKept: a burst, then one each interval.
func TestThePaceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		c := client(t, Options{Transport: transport(func(*http.Request) (int, http.Header, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
			return 200, nil, nil
		})})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := c.Get(t.Context(), request(t, "x", Pace{4, 10 * time.Second})); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i, d := range at {
			want := max(0, time.Duration(i-3)*10*time.Second)
			if d < want || d > want+time.Second {
				t.Errorf("request %d after %s, want %s", i, d, want)
			}
		}
	})
}

// TestAHostWithoutAnAddressIsGivenUp for all of its documents, for a while, and no other host is.
func TestAHostWithoutAnAddressIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		lookup net.DNSError
		asked  int           // for the first document
		within time.Duration // all that are given up
	}{
		"no such name": {net.DNSError{Err: "no such host", Name: "kds", IsNotFound: true}, 1, 0},
		"no answer":    {net.DNSError{Err: "server misbehaving", Name: "kds", IsTemporary: true}, networkAttempts, 14 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin, asked, works := time.Now(), map[string]int{}, false
			cl := client(t, Options{Transport: transport(func(r *http.Request) (int, http.Header, error) {
				if asked[r.URL.Host]++; r.URL.Host == "kds" && !works {
					return 0, nil, &net.OpError{Op: "dial", Err: &c.lookup}
				}
				return 200, nil, nil
			})})
			for range 3 {
				_, err := cl.Get(t.Context(), request(t, "kds", Pace{1, time.Minute}))
				refusaltest.Want(t, name, err, collateral.ReasonUnavailable)
				if took := time.Since(begin); !strings.Contains(err.Error(), c.lookup.Err) || took > c.within || asked["kds"] != c.asked {
					t.Errorf("%s: %v after %s and %d requests", name, err, took, asked["kds"])
				}
			}
			if _, err := cl.Get(t.Context(), request(t, "pcs", Pace{1, time.Minute})); err != nil {
				t.Errorf("%s: another host: %v", name, err)
			}
			works = true
			ctx, cancel := context.WithTimeout(t.Context(), unresolvedFor)
			defer cancel()
			<-ctx.Done()
			if _, err := cl.Get(t.Context(), request(t, "kds", Pace{1, time.Minute})); err != nil {
				t.Errorf("%s: later: %v", name, err)
			}
		})
	}
}

// TestTheQueueIsBounded, urgent requests pass the others, and who leaves makes room.
func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		c := client(t, Options{Queue: 3, Transport: transport(func(r *http.Request) (int, http.Header, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, r.URL.Path)
			return 200, nil, nil
		})})
		b, err := ParseBase("https://x", Pace{1, time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		get := func(ctx context.Context, name string, urgent bool, want refusal.Reason) {
			all.Go(func() {
				r := b.Request("/"+name, nil, 100)
				r.Urgent = urgent
				_, err := c.Get(ctx, r)
				if errors.Is(err, context.Canceled) && want == "canceled" {
					return
				}
				refusaltest.Want(t, name, err, want)
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		get(t.Context(), "first", false, "")
		get(t.Context(), "a", false, "")
		get(ctx, "b", false, "canceled")
		get(t.Context(), "c", false, "")
		get(t.Context(), "too-many", false, collateral.ReasonBusy)
		get(t.Context(), "urgent", true, "")
		if n := c.Waiting(); n != 4 {
			t.Errorf("%d wait", n)
		}
		cancel()
		synctest.Wait()
		all.Wait()
		if got := strings.Join(order, " "); got != "/first /urgent /a /c" {
			t.Error(got)
		}
		if n := c.Waiting(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}
