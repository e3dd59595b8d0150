package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrSilent means that a broker took a connection and did not answer: its process is
// stopped or hangs, or what it waits for does. What was asked may be done or not.
var ErrSilent = errors.New("the broker does not answer")

// ErrCut means that a connection ended before the broker's whole answer: it was stopped, or gave
// the place to another. What was asked may be done or not.
var ErrCut = errors.New("the connection ended before the broker had answered")

// Patience is how long a client waits for a broker.
type Patience struct {
	// Silence is how long nothing may be sent or come before the client gives up with
	// ErrSilent. A broker ends every request in two minutes, but for those that say
	// how far they are. Zero is DefaultSilence.
	Silence time.Duration
	// Notice is called once if the broker has been silent for NoticeAfter; optional.
	Notice      func()
	NoticeAfter time.Duration
}

// DefaultSilence is a little more than a broker takes for any request.
const DefaultSilence = requestDeadline + 10*time.Second

// dial connects to a socket.
func dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path) // does not wait, on Linux
	if errors.Is(err, syscall.EAGAIN) {
		return nil, fmt.Errorf("%w: %s accepts no further connection", ErrSilent, path)
	}
	return c, err
}

// watch has a connection fail once it was silent for too long.
func (p Patience) watch(c net.Conn, s *silence) net.Conn {
	w := &watched{Conn: c, most: p.Silence, silence: s, stop: func() bool { return false }}
	if p.Notice != nil {
		w.stop = time.AfterFunc(p.NoticeAfter, p.Notice).Stop
	}
	return w
}

// silence is what a request knows of its connection: whether it was silent for too long. Of
// the errors that follow, some name other causes: a head that ends too early, a connection
// that the reader closed under the writer.
type silence struct{ noted atomic.Bool }

type silenceKey struct{}

// explain makes ErrSilent of whatever followed, and ErrCut of an end that came too early.
func (p Patience) explain(err error, s *silence) error {
	switch {
	case s.noted.Load():
		return fmt.Errorf("%w: nothing came for %s", ErrSilent, p.Silence)
	case IsCut(err):
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	return err
}

// IsCut says whether a request's error is that its connection ended before the whole answer.
func IsCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// patientBody says the same of an answer that ends too early.
type patientBody struct {
	io.ReadCloser
	patience Patience
	silence  *silence
}

// Read reads the answer.
func (b patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.patience.explain(err, b.silence)
	}
	return n, err
}

// watched is a connection that fails once nothing moved for some time.
type watched struct {
	net.Conn
	most    time.Duration
	silence *silence
	once    sync.Once
	stop    func() bool // of the notice
}

// Read reads what comes in time. It waits beside the writes of the same request.
func (w *watched) Read(b []byte) (int, error) {
	if err := w.SetDeadline(time.Now().Add(w.most)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.once.Do(func() { w.stop() })
	}
	w.note(err)
	return n, err
}

// Write sends what goes in time.
func (w *watched) Write(b []byte) (int, error) {
	if err := w.SetDeadline(time.Now().Add(w.most)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Write(b)
	w.note(err)
	return n, err
}

func (w *watched) note(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.silence.noted.Store(true)
	}
}

// Close ends the connection, and the notice.
func (w *watched) Close() error {
	w.once.Do(func() { w.stop() })
	return w.Conn.Close()
}
