package listen

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrNoMemory means that no memory for a body became available in time.
var ErrNoMemory = errors.New("no memory for the body became available in time")

// ErrEnded means that the connection lost its place.
var ErrEnded = errors.New("the connection was ended in favour of others")

// waiter waits for bytes of a class.
type waiter struct {
	conn  *Conn
	bytes int64
	ready chan struct{}
}

// Reserve takes n bytes of the budget for a body before it is read. When the budget is spent,
// connections of the same class that hold parts of it are ended, starting with the source that
// holds the most. Call release, which gives the bytes back, once nothing of the body is in
// memory any more.
func (c *Conn) Reserve(ctx context.Context, n int64) (release func(), err error) {
	if c == nil || n <= 0 {
		return func() {}, nil
	}
	l := c.l
	l.mu.Lock()
	in := c.in
	switch {
	case in == nil:
		l.mu.Unlock()
		return nil, ErrEnded
	case n > in.mostBytes:
		l.mu.Unlock()
		return nil, ErrNoMemory
	}
	w := &waiter{conn: c, bytes: n, ready: make(chan struct{})}
	in.waiting = append(in.waiting, w)
	ended := append(l.trim(), l.makeRoom(in, c)...)
	l.serveWaiters(in)
	l.mu.Unlock()
	cut(ended)
	release = sync.OnceFunc(func() { l.giveBack(c, n) })
	select {
	case <-w.ready:
		return release, nil
	case <-c.gone:
		err = ErrEnded
	case <-ctx.Done():
		err = ErrNoMemory
	}
	l.mu.Lock()
	i := slices.Index(in.waiting, w)
	if i >= 0 {
		in.waiting = slices.Delete(in.waiting, i, i+1)
		l.serveWaiters(in)
	}
	l.mu.Unlock()
	if i < 0 { // it was served at the last moment
		release()
	}
	return nil, err
}

// makeRoom ends holders of bytes until what they leave is enough for all that wait.
func (l *Listener) makeRoom(in *class, self *Conn) (ended []*Conn) {
	wanted := in.bytes - in.leaving - in.mostBytes
	for _, w := range in.waiting {
		wanted += w.bytes
	}
	for wanted > 0 {
		c := in.largestHolder(self)
		if c == nil {
			return ended
		}
		wanted -= c.reserved
		l.lose(c)
		l.stats.Evicted++
		ended = append(ended, c)
	}
	return ended
}

// largestHolder is, of the source that holds the most bytes, the holder that has been
// in its stage longest; nil if nobody else holds any.
func (c *class) largestHolder(self *Conn) *Conn {
	sums := map[string]int64{}
	var most int64
	for _, conn := range c.conns {
		if conn != self && conn.reserved > 0 {
			sums[conn.key] += conn.reserved
			most = max(most, sums[conn.key])
		}
	}
	var oldest *Conn
	for _, conn := range c.conns {
		if conn != self && conn.reserved > 0 && sums[conn.key] == most && (oldest == nil || conn.since < oldest.since) {
			oldest = conn
		}
	}
	return oldest
}

// serveWaiters hands out what is free, in the order of asking.
func (l *Listener) serveWaiters(in *class) {
	for len(in.waiting) > 0 && in.bytes+in.waiting[0].bytes <= in.mostBytes {
		w := in.waiting[0]
		in.waiting = slices.Delete(in.waiting, 0, 1)
		w.conn.reserved += w.bytes
		in.bytes += w.bytes
		if w.conn.in == nil { // it lost its place while it waited, and gives back at once
			w.conn.owes = in
			in.leaving += w.bytes
		}
		close(w.ready)
	}
}

// giveBack returns bytes to the class in which they are counted now.
func (l *Listener) giveBack(c *Conn, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.reserved -= n
	in := c.in
	if in == nil {
		in = c.owes
		in.leaving -= n
	}
	in.bytes -= n
	l.serveWaiters(in)
}
