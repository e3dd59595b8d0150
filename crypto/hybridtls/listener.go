package hybridtls

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// Listener accepts connections that passed every assertion, for servers of other
// protocols such as HTTP.
type Listener struct {
	raw     net.Listener
	cfg     *tls.Config
	refused func(error)
	ready   chan net.Conn
	failed  chan error
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// NewListener begins to accept connections on raw, which it owns and which bounds their number:
// each has its handshake at once. refused is called with the error of every handshake that
// fails.
func NewListener(raw net.Listener, cfg *tls.Config, refused func(error)) *Listener {
	l := &Listener{raw: raw, cfg: cfg, refused: refused, ready: make(chan net.Conn), failed: make(chan error, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(l.accept)
	return l
}

func (l *Listener) accept() {
	for {
		raw, err := l.raw.Accept()
		if err != nil {
			l.failed <- err
			return
		}
		l.wg.Go(func() {
			conn, err := Server(l.ctx, raw, l.cfg)
			if err != nil {
				l.refused(err)
				return
			}
			select {
			case l.ready <- conn:
			case <-l.ctx.Done():
				_ = conn.Close() // nobody will use it
			}
		})
	}
}

// Accept waits for the next connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		l.failed <- err // for the next caller
		return nil, err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr is the address of the listener.
func (l *Listener) Addr() net.Addr { return l.raw.Addr() }

// Close ends Accept and every handshake under way.
func (l *Listener) Close() error {
	l.cancel()
	err := l.raw.Close()
	l.wg.Wait()
	return err
}
