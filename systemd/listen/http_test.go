package listen

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func serve(t *testing.T, limits Limits, handler http.HandlerFunc) (*Listener, string) {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(raw, Config{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	srv := l.Server(handler)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return l, "http://" + raw.Addr().String()
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	res, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func TestBodiesAreReservedWhileTheyAreHandled(t *testing.T) {
	var l *Listener
	var during Stats
	var stage Stage
	l, url := serve(t, Limits{BodyMiB: 4}, func(w http.ResponseWriter, r *http.Request) {
		b, release, err := ReadBody(w, r, 1000)
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		defer release()
		during, stage = l.Stats(), From(r.Context()).stage
		w.Write(b)
	})
	if status, body := post(t, url, "hello"); status != 200 || body != "hello" || during.BodyBytes != 5 || stage != Heard {
		t.Errorf("%d %q, %+v at stage %d", status, body, during, stage)
	}
	if status, _ := post(t, url, strings.Repeat("x", 1001)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over its limit: %d", status)
	}
	res, err := http.Post(url, "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))))
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a chunked body over its limit: %v %v", res, err)
	}
	defer res.Body.Close()
	res, err = http.Post(url, "text/plain", io.MultiReader(strings.NewReader("chunked"))) // of unknown length
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "chunked" || during.BodyBytes != 1000 {
		t.Errorf("%q, %+v", b, during)
	}
}

// The server's half-second wait for peers that still send would hold memory of those that
// are gone.
func TestRequestOfAConnectionThatLostItsPlaceEndsAtOnce(t *testing.T) {
	reading := make(chan struct{}, 1)
	l, url := serve(t, Limits{Connections: 1}, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			return
		}
		reading <- struct{}{}
		if _, _, err := ReadBody(w, r, 1<<20); err == nil {
			t.Error("a whole body?")
		}
	})
	held := func() time.Duration {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n123")
		<-reading
		began := time.Now()
		if _, err := http.Get(url); err != nil {
			t.Fatal(err)
		}
		for len(l.live) > 2 { // the newcomer's, and the one that Accept waits with
			runtime.Gosched()
		}
		return time.Since(began)
	}
	// net/http's wait is half a second each time; a busy machine is not slow each time.
	shortest := held()
	for range 20 {
		if shortest <= 400*time.Millisecond {
			return
		}
		shortest = min(shortest, held())
	}
	t.Errorf("its memory was held for %s at least", shortest)
}

// The server waits for a peer that still sends, or it would never read why it is refused.
func TestRefusalOfABodyThatIsStillSentIsRead(t *testing.T) {
	l := unixListener(t, Config{})
	srv := l.Server(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	c := dial(t, l)
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 8<<20)
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), "429") {
		t.Fatalf("%q %v", answer[:n], err)
	}
	if _, err := c.Write(make([]byte, 1<<10)); err != nil {
		t.Error("the connection was closed while the body was on its way: ", err)
	}
}

// The server discards a short rest of a body before it sends the answer: one that never came held
// the answer and the connection for ever.
func TestAnswerDoesNotWaitForABodyThatNeverComes(t *testing.T) {
	_, url := serve(t, Limits{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	conns := map[string]net.Conn{}
	for _, begin := range []string{"Content-Length: 10\r\n\r\n", "Content-Length: 10\r\n\r\n123", "Transfer-Encoding: chunked\r\n\r\n3\r\n123"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s", begin)
		conns[begin] = c
	}
	for begin, c := range conns {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil || !strings.Contains(string(answer), "418") {
			t.Errorf("%q: %q %v", begin, answer, err)
		}
	}
}

func TestBodyThatStallsIsGivenUp(t *testing.T) {
	ended := make(chan error, 1)
	_, url := serve(t, Limits{BodySeconds: 1}, func(w http.ResponseWriter, r *http.Request) {
		_, _, err := ReadBody(w, r, 1000)
		ended <- err
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
	if err := <-ended; err == nil {
		t.Error("a whole body?")
	}
}

// A handler may take longer than its body may.
func TestBodysDeadlineEndsWithTheBody(t *testing.T) {
	_, url := serve(t, Limits{BodySeconds: 1}, func(w http.ResponseWriter, r *http.Request) {
		_, release, err := ReadBody(w, r, 1000)
		if err != nil {
			t.Error(err)
		}
		defer release()
		wait := time.NewTimer(1200 * time.Millisecond)
		defer wait.Stop()
		select {
		case <-wait.C:
			w.Write([]byte("done"))
		case <-r.Context().Done():
			t.Error("the request was cut off by the deadline for its body")
		}
	})
	if status, body := post(t, url, "x"); status != 200 || body != "done" {
		t.Error(status, body)
	}
}

func TestRepeatedLinesAreCountedInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := Sparse(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 1000 {
			log.With("peer", i).Warn("refused")
		}
		if n := strings.Count(out.String(), "refused"); n != lineBurst {
			t.Errorf("%d lines", n)
		}
		time.Sleep(lineWindow)
		log.Warn("refused")
		if !strings.Contains(out.String(), fmt.Sprintf("suppressed=%d", 1000-lineBurst)) {
			t.Errorf("the count is missing: %s", out.String()[out.Len()-200:])
		}
		for range 1000 {
			log.Warn("refused")
		}
		time.Sleep(lineWindow)
		Sparse(log).Info("another")
		if !strings.Contains(out.String(), "message=refused suppressed=981") {
			t.Errorf("%s", out.String()[out.Len()-200:])
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	var out bytes.Buffer
	log := Sparse(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 1000 {
		log.Info(fmt.Sprint("message ", i))
	}
	if n := strings.Count(out.String(), "\n"); n != maxMessages {
		t.Errorf("%d lines of messages that no code has", n)
	}
	out.Reset()
	errors := NewErrorLog(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 1000 {
		errors.Printf("peer %d", i)
	}
	if n := strings.Count(out.String(), "\n"); n != lineBurst {
		t.Errorf("%d lines of the HTTP server", n)
	}
}
