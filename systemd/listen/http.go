package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	maxHeaderBytes = 16 << 10
	idleTime       = time.Minute
	// discardTime is for a body that is refused.
	discardTime = time.Second
	// defaultBodyTime is for requests of other servers.
	defaultBodyTime = 30 * time.Second
)

// Server makes an http.Server for the listener's connections, which records their progress.
// Handlers read bodies with ReadBody, or piece by piece under deadlines of their own.
func (l *Listener) Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: watch(h), ConnContext: connContext, ConnState: connState,
		ReadHeaderTimeout: time.Duration(l.cfg.HeaderSeconds) * time.Second, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: NewErrorLog(l.log),
	}
}

func connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = WithConn(ctx, c)
	if ours := From(ctx); ours != nil && c != net.Conn(ours) {
		ours.Advance(Ready) // it is wrapped, so that its handshake is over
	}
	return ctx
}

func connState(c net.Conn, s http.ConnState) {
	if s == http.StateIdle { // StateActive is noted by Read
		Of(c).Rest()
	}
}

// watch notes the end of a request's header and of its body.
func watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := From(r.Context())
		c.Advance(Ready)
		var sent *body
		if r.Body == nil || r.Body == http.NoBody {
			c.Advance(Heard)
		} else {
			// A copy: by the body of its own request the server knows whether to wait for a
			// peer that still sends.
			r = r.WithContext(r.Context())
			sent = &body{ReadCloser: r.Body, conn: c}
			r.Body = sent
		}
		h.ServeHTTP(w, r)
		if sent != nil && !sent.ended {
			// The server reads a short rest before it answers, however long that takes to come.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(discardTime)) // of a connection that is there
		}
		if c.lost() {
			// Else the server would wait for half a second until the peer has read an
			// answer that it cannot get, and hold memory meanwhile.
			panic(http.ErrAbortHandler)
		}
	})
}

// body notes its end.
type body struct {
	io.ReadCloser
	conn  *Conn
	ended bool
}

// Read reads.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended = true
		b.conn.Advance(Heard)
	}
	return n, err
}

// ReadBody reserves memory for a request's body of at most most bytes, then reads it within the
// listener's time limit. Call release once the body is no longer in use. A longer body is an
// *http.MaxBytesError; ErrNoMemory means that the client should try again later.
func ReadBody(w http.ResponseWriter, r *http.Request, most int64) (b []byte, release func(), err error) {
	control := http.NewResponseController(w)
	if r.ContentLength > most {
		discard(w, r, control, most)
		return nil, nil, &http.MaxBytesError{Limit: most}
	}
	n := r.ContentLength
	if n < 0 {
		n = most
	}
	limit := defaultBodyTime
	c := From(r.Context())
	if c != nil {
		limit = time.Duration(c.l.cfg.BodySeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	giveBack, err := c.Reserve(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			giveBack()
		}
	}()
	if err := control.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, nil, err
	}
	if b, err = readAll(http.MaxBytesReader(w, r.Body, most), n); err != nil {
		return nil, nil, err
	}
	// The server goes on reading, to learn of the client's end: not under this deadline.
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, nil, err
	}
	return b, giveBack, nil
}

// discard takes a body that is not wanted off the connection, for a moment: a client that
// still sends would not read why it was refused.
func discard(w http.ResponseWriter, r *http.Request, control *http.ResponseController, most int64) {
	if control.SetReadDeadline(time.Now().Add(discardTime)) == nil {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, most)) // it is refused however this ends
	}
}

// readAll reads to the end, into n bytes at most.
func readAll(r io.Reader, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(r, b)
	switch {
	case err == nil: // the end is yet to be read
		if n, err := r.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, err
	}
	return b[:got], nil
}
