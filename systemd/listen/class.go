package listen

import "slices"

// Stage is the progress of a connection. Connections of one source compete for places within
// their stage, so a step is worth what it costs an attacker.
type Stage int

// The stages in their order.
const (
	Silent Stage = iota // nothing was received since the connection or the last request
	Begun               // bytes were received
	Ready               // the handshake or a request's header is complete
	Heard               // the message is complete, and is worked on
	stages
)

// class is a number of places and of bytes for connections of one kind.
type class struct {
	most, each int
	conns      []*Conn
	held       map[string]int // connections by source or identity
	mostBytes  int64
	bytes      int64 // reserved
	leaving    int64 // of these, by connections that were ended and have not let go yet
	waiting    []*waiter
}

func newClass(most, each int, bytes int64) class {
	return class{most: most, each: each, held: map[string]int{}, mostBytes: bytes}
}

// enter puts a connection into a class under its key, and returns those that lost
// their place for it. The lock is held.
func (l *Listener) enter(c *Conn, in *class) (ended []*Conn) {
	switch {
	case in.held[c.key] >= in.each:
		ended = append(ended, l.evict(in, c.key))
	case len(in.conns) >= in.most:
		ended = append(ended, l.evict(in, ""))
	}
	l.order++
	c.in, c.since, c.index = in, l.order, len(in.conns)
	in.conns = append(in.conns, c)
	in.held[c.key]++
	in.bytes += c.reserved
	return ended
}

// leave takes a connection out of its class. The lock is held.
func (l *Listener) leave(c *Conn) {
	in := c.in
	if in == nil {
		return
	}
	c.in = nil
	last := in.conns[len(in.conns)-1]
	in.conns[c.index], last.index = last, c.index
	in.conns[len(in.conns)-1] = nil
	in.conns = in.conns[:len(in.conns)-1]
	if l.keepers[c.identity] == c {
		delete(l.keepers, c.identity)
	}
	if in.held[c.key]--; in.held[c.key] == 0 {
		delete(in.held, c.key)
	}
	in.bytes -= c.reserved
}

// evict takes the connection out that costs least, of one key or of all. There must
// be one. The caller cuts it when the lock is free.
func (l *Listener) evict(in *class, key string) *Conn {
	c := in.victim(key)
	l.lose(c)
	l.stats.Evicted++
	return c
}

// lose takes a connection's place; bytes that its handler still works on stay
// reserved until it lets go. The lock is held.
func (l *Listener) lose(c *Conn) {
	in := c.in
	l.leave(c)
	c.owes = in
	in.bytes += c.reserved
	in.leaving += c.reserved
	close(c.gone)
}

// victim is, among the sources that hold the most, in the stage that holds the most,
// the connection that has been in its stage longest.
func (c *class) victim(key string) *Conn {
	most := 0
	for _, n := range c.held {
		most = max(most, n)
	}
	among := func(conn *Conn) bool {
		if key != "" {
			return conn.key == key
		}
		return c.held[conn.key] == most
	}
	var count [stages]int
	var oldest [stages]*Conn
	for _, conn := range c.conns {
		if !among(conn) {
			continue
		}
		s := conn.stage
		count[s]++
		if oldest[s] == nil || conn.since < oldest[s].since {
			oldest[s] = conn
		}
	}
	fullest := slices.Index(count[:], slices.Max(count[:])) // the lowest of equals
	return oldest[fullest]
}

// cut ends connections that lost their place.
func cut(ended []*Conn) {
	for _, c := range ended {
		c.cut()
	}
}
