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
)

// HTTP says how a listener's requests are served.
type HTTP struct {
	Handler http.Handler
	// Memory is how many bytes of memory the body of a request may take, at least
	// those that its handler reads at a time. That much is reserved, or the body's
	// length if it is less. Without it the handler sees to memory by itself.
	Memory func(*http.Request) int64
	// Streams says that a handler sets deadlines for the body by itself, as one
	// does that takes a long body piece by piece; optional.
	Streams func(*http.Request) bool
	// Busy answers a request for whose body no memory became free.
	Busy http.HandlerFunc
}

// Server makes an http.Server for the listener's connections.
func (l *Listener) Server(h HTTP) *http.Server {
	return &http.Server{
		Handler: l.guard(h), ConnContext: connContext, ConnState: connState,
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

// guard reserves memory for the body and bounds its time.
func (l *Listener) guard(h HTTP) http.Handler {
	limit := time.Duration(l.cfg.BodySeconds) * time.Second
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := From(r.Context())
		c.Advance(Ready)
		if r.Body == nil || r.Body == http.NoBody {
			c.Advance(Heard)
			h.Handler.ServeHTTP(w, r)
			return
		}
		var n int64
		if h.Memory != nil {
			if n = h.Memory(r); r.ContentLength >= 0 {
				n = min(n, r.ContentLength)
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		release, err := c.Reserve(ctx, n)
		cancel()
		if err != nil {
			h.Busy(w, r)
			return
		}
		defer release()
		control := http.NewResponseController(w)
		stream := h.Streams != nil && h.Streams(r)
		if !stream {
			if err := control.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				h.Busy(w, r)
				return
			}
		}
		r.Body = &body{ReadCloser: r.Body, done: func() {
			c.Advance(Heard)
			if !stream {
				// Else the deadline would cut off the handler, for the server goes on reading.
				_ = control.SetReadDeadline(time.Time{})
			}
		}}
		h.Handler.ServeHTTP(w, r)
	})
}

// body notes its end.
type body struct {
	io.ReadCloser
	done func()
}

// Read reads.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.done != nil {
		b.done()
		b.done = nil
	}
	return n, err
}

// ReadAll reads a request's body of at most most bytes into as much memory as it
// needs; a longer one is an *http.MaxBytesError.
func ReadAll(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	limited := http.MaxBytesReader(w, r.Body, most)
	if r.ContentLength < 0 || r.ContentLength > most {
		return io.ReadAll(limited)
	}
	b := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(limited, b); err != nil {
		return nil, err
	}
	if _, err := limited.Read(make([]byte, 1)); err != io.EOF { // the end is noted when it is read
		return nil, err
	}
	return b, nil
}
