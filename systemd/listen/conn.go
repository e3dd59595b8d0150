package listen

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// Conn is an accepted connection with its place.
type Conn struct {
	net.Conn
	l       *Listener
	peer    Peer
	known   bool // peer is
	proxied bool // a PROXY header comes first; the reader's own
	stated  atomic.Pointer[net.TCPAddr]
	begun   atomic.Bool
	release func()
	timer   *time.Timer   // ends a stranger; nil for others
	gone    chan struct{} // closed when it lost its place

	// Guarded by l.mu.
	in       *class // nil once it lost its place or was closed
	owes     *class // where its bytes are counted after it lost its place
	key      string // source or identity; of a kept one its group
	identity string // of one that was kept
	born     uint64 // when it was accepted, in the order of since
	stage    Stage
	since    uint64 // order in which stages were reached
	index    int
	reserved int64
}

// Of finds the connection below wrappers such as TLS; nil if it is not one of this package's.
func Of(c net.Conn) *Conn {
	for c != nil {
		if ours, ok := c.(*Conn); ok {
			return ours
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = w.NetConn()
	}
	return nil
}

type contextKey struct{}

// WithConn makes a connection available to From; use it as http.Server's ConnContext.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, contextKey{}, Of(c))
}

// From returns the connection of a request; nil if it is not one of this package's. The methods
// of a nil *Conn do nothing.
func From(ctx context.Context) *Conn {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	return c
}

// Read reads, and notes the first bytes. Behind a balancer the header comes first.
func (c *Conn) Read(b []byte) (int, error) {
	if c.proxied {
		if err := c.readHeader(); err != nil {
			return 0, err
		}
		c.proxied = false
	}
	n, err := c.Conn.Read(b)
	if n > 0 && c.begun.CompareAndSwap(false, true) {
		c.Advance(Begun)
	}
	return n, err
}

// CloseWrite ends the sending direction, so that a peer that is still sending can read why it is
// refused.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// RemoteAddr is the peer's address, as its balancer gives it if there is one.
func (c *Conn) RemoteAddr() net.Addr {
	if a := c.stated.Load(); a != nil {
		return a
	}
	return c.Conn.RemoteAddr()
}

// Peer is the process that the kernel reports at the other end of a unix socket.
func (c *Conn) Peer() (p Peer, ok bool) {
	if c == nil {
		return Peer{}, false
	}
	return c.peer, c.known
}

// Source is the source that the connection counts under while it is unproven: the prefix of the
// peer's address, or its uid on a unix socket. It is empty for nil.
func (c *Conn) Source() string {
	if c == nil {
		return ""
	}
	if c.known {
		return "uid " + strconv.FormatUint(uint64(c.peer.UID), 10)
	}
	switch a := c.RemoteAddr().(type) {
	case *net.TCPAddr:
		return c.l.source(a.AddrPort().Addr())
	case nil:
		return ""
	default:
		return a.String()
	}
}

// Advance records that a stage was reached; it never moves back to an earlier one.
func (c *Conn) Advance(s Stage) {
	if c == nil {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if s > c.stage && c.in != nil {
		c.enterStage(s)
	}
}

// Rest moves a connection that waits for its next request back to the first stage.
func (c *Conn) Rest() {
	if c == nil {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.in != nil {
		c.enterStage(Silent)
	}
	c.begun.Store(false)
}

func (c *Conn) enterStage(s Stage) {
	c.l.order++
	c.stage, c.since = s, c.l.order
}

// Promote moves a connection whose peer has proven its identity to the class that is evicted
// last, where it competes first with other connections of the same identity. It may be called
// again.
func (c *Conn) Promote(identity string) {
	if c == nil {
		return
	}
	l := c.l
	l.mu.Lock()
	if c.in == nil || c.in == &l.strangers || c.in == &l.proven && c.key == identity {
		l.mu.Unlock()
		return
	}
	from := c.in
	l.leave(c)
	c.key = identity
	ended := l.enter(c, &l.proven)
	l.serveWaiters(from)
	l.mu.Unlock()
	cut(ended)
}

// lost says whether the connection lost its place.
func (c *Conn) lost() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// cut ends a connection that lost its place. Its owner's next read or write fails.
func (c *Conn) cut() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // the kernel keeps nothing of it either
	}
	_ = c.Conn.Close() // its owner closes it again
}

// Close gives the place back.
func (c *Conn) Close() error {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.l.mu.Lock()
	if c.in != nil {
		c.l.lose(c)
	}
	c.l.mu.Unlock()
	err := c.Conn.Close()
	c.release()
	return err
}
