package operator

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// against returns a client whose connections a function serves, and then nobody. It works in
// the time of a synctest bubble.
func against(t *testing.T, p Patience, serve func(net.Conn)) *Client {
	return newClient(p, func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		go serve(far)
		return near, nil
	})
}

// head reads a request's head.
func head(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }

// TestASilentBrokerIsGivenUp: one that takes no request, as of a stopped process, one that
// reads and says nothing, one that begins an answer and does not end it, of a refusal too.
func TestASilentBrokerIsGivenUp(t *testing.T) {
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			head(c)
			_, _ = io.WriteString(c, text) // the client finds what is missing
		}
	}
	for name, serve := range map[string]func(net.Conn){
		"takes nothing":  func(net.Conn) {},
		"says nothing":   head,
		"half a head":    say("HTTP/1.1 200 OK\r\nContent-Le"),
		"half an answer": say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
		"half a refusal": say("HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var noticed atomic.Int32
				began := time.Now()
				c := against(t, Patience{Notice: func() { noticed.Add(1) }, NoticeAfter: time.Second}, serve)
				_, err := c.Epochs(t.Context())
				if took := time.Since(began); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), "2m10s") || took != DefaultSilence {
					t.Errorf("after %s: %v", took, err)
				}
				want := int32(1)
				if strings.HasPrefix(name, "half") {
					want = 0 // it did say something
				}
				if noticed.Load() != want {
					t.Errorf("noticed %d times", noticed.Load())
				}
				if _, err := c.send(t.Context(), http.MethodPost, "/v1/x", nil, strings.NewReader(strings.Repeat("x", 1<<20))); name[0] != 'h' && !errors.Is(err, ErrSilent) {
					t.Errorf("a long body: %v", err)
				}
			})
		})
	}
}

// TestASlowBrokerIsWaitedFor: whoever says something in time may take any time in all.
func TestASlowBrokerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silence = time.Minute
		c := against(t, Patience{Silence: silence, NoticeAfter: silence, Notice: func() { t.Error("noticed") }}, func(c net.Conn) {
			head(c)
			for _, b := range "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]" {
				<-time.After(silence - time.Second)
				_, _ = io.WriteString(c, string(b))
			}
		})
		began := time.Now()
		list, err := c.Epochs(t.Context())
		if took := time.Since(began); err != nil || len(list) != 0 || took < 30*silence {
			t.Error(list, err, took)
		}
	})
}

// A process that is stopped leaves the queue of its socket full.
func TestAFullQueueIsSilence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 1 << 16 { // more than any queue
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		defer c.Close()
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrSilent) {
		t.Error(err)
	}
}

// TestABrokerThatEndsIsSaid: one that is killed while it does what was asked, or answers, may
// have done it.
func TestABrokerThatEndsIsSaid(t *testing.T) {
	for name, said := range map[string]string{
		"nothing":        "",
		"half an answer": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
		"half a refusal": "HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{",
		"some lines":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}\n\r\n",
	} {
		path := filepath.Join(t.TempDir(), "op")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				head(c)
				_, _ = io.WriteString(c, said) // the client finds what is missing
				c.Close()
			}
		}()
		c := NewClient(path)
		_, verified := c.VerifyAudit(t.Context(), AuditCheck{}, nil)
		for _, err := range []error{c.RetireEpoch(t.Context(), 1), verified} {
			if name == "some lines" && err == nil {
				continue // one was enough
			}
			if !errors.Is(err, ErrCut) || errors.Is(err, ErrSilent) {
				t.Errorf("%s: got %v, want %v", name, err, ErrCut)
			}
		}
		if name == "some lines" && verified == nil {
			t.Error("a verification that was cut off is taken for whole")
		}
	}
}
