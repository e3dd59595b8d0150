package localapi

import (
	"context"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// peer is who stands at the other end of a connection, by the kernel's word at
// the time it connected.
type peer struct{ uid, gid uint32 }

type peerKey struct{}

// withPeer reads the peer's credentials into the connection's context. A
// connection that has none, as one that is not a unix socket, stays without, and
// is refused.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if b, ok := c.(*boundedConn); ok {
		c = b.Conn
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer{cred.Uid, cred.Gid})
}

func peerOf(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey{}).(peer)
	return p, ok
}

func (s *Server) allowed(ctx context.Context) bool {
	p, ok := peerOf(ctx)
	return ok && (slices.Contains(s.cfg.AllowedUIDs, p.uid) || slices.Contains(s.cfg.AllowedGIDs, p.gid))
}

// boundedListener leaves connections beyond a number in the kernel's backlog.
type boundedListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	end   func() // closes done, once
}

func newBoundedListener(l net.Listener, n int) *boundedListener {
	done := make(chan struct{})
	return &boundedListener{Listener: l, slots: make(chan struct{}, n), done: done, end: sync.OnceFunc(func() { close(done) })}
}

// Accept waits for a slot, then for a connection.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends Accept as well.
func (l *boundedListener) Close() error {
	l.end()
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

// Close gives the slot back.
func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
