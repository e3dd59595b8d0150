package listen

// Keep leaves a proven connection open that has nothing to do until its peer's next
// message. A kept connection holds only what nobody else needs: it counts in no source
// and among no identity's connections, and is ended before any other when places,
// memory or descriptors are short. Of one identity one is kept, the last. Of more than
// may be kept, the newest of the group that has the most goes: what is kept is used
// about as often by everybody, so that a newcomer in the place of another gains nothing.
//
// It reports whether the connection is kept; if not, its owner must close it. A kept connection
// is read from as before, and its read returns an error when it loses its place.
func (c *Conn) Keep(group string) bool {
	if c == nil {
		return false
	}
	l := c.l
	l.mu.Lock()
	kept, ended := l.keep(c, group)
	l.mu.Unlock()
	cut(ended)
	return kept
}

func (l *Listener) keep(c *Conn, group string) (kept bool, ended []*Conn) {
	if l.cfg.Kept == 0 || l.closed || c.in != &l.proven || c.reserved > 0 || c.born <= l.dropped {
		return false, nil
	}
	if before := l.keepers[c.key]; before != nil {
		l.lose(before)
		ended = append(ended, before)
	}
	l.leave(c)
	c.identity, c.key, c.stage = c.key, group, Silent
	l.keepers[c.identity] = c
	l.enter(c, &l.kept)
	if l.crowded() && l.kept.newest() == c {
		l.lose(c) // its owner closes it in order
		return false, ended
	}
	return true, append(ended, l.trim()...)
}

// Resume ends the keeping of a connection on which something arrived: its peer has a proven
// place again, under the same identity. It returns false if the connection lost its place.
func (c *Conn) Resume() bool {
	if c == nil {
		return false
	}
	l := c.l
	l.mu.Lock()
	if c.in != &l.kept {
		l.mu.Unlock()
		return false
	}
	l.leave(c)
	c.key, c.stage = c.identity, Begun
	ended := l.enter(c, &l.proven)
	l.stats.Reused++
	l.mu.Unlock()
	cut(ended)
	return true
}

// DropKept ends all kept connections, and keeps none that is open now: what their peers were
// told when they connected no longer holds.
func (l *Listener) DropKept() {
	l.mu.Lock()
	l.dropped = l.order
	ended := append([]*Conn(nil), l.kept.conns...)
	for _, c := range ended {
		l.lose(c)
	}
	l.mu.Unlock()
	cut(ended)
}

// crowded says whether a kept connection is to go. The lock is held.
func (l *Listener) crowded() bool {
	n := len(l.kept.conns)
	return n > 0 && (n > l.cfg.Kept ||
		n+len(l.unproven.conns)+len(l.proven.conns) > l.cfg.Connections ||
		int64(n)*l.cfg.KeptBytes+l.unproven.wanted()+l.proven.wanted() > l.unproven.mostBytes+l.proven.mostBytes)
}

// trim ends kept connections until the others have what they need. The lock is held.
func (l *Listener) trim() (ended []*Conn) {
	for l.crowded() {
		ended = append(ended, l.endKept())
	}
	return ended
}

// endKept takes a kept connection's place; there must be one. The lock is held.
func (l *Listener) endKept() *Conn {
	c := l.kept.newest()
	l.lose(c)
	l.stats.KeptEvicted++
	return c
}

// wanted is what the class has reserved and would reserve for all that wait, if it may.
func (c *class) wanted() int64 {
	n := c.bytes
	for _, w := range c.waiting {
		n += w.bytes
	}
	return min(n, c.mostBytes)
}

// newest is, of the keys that hold the most connections, the last one that came.
func (c *class) newest() *Conn {
	most := 0
	for _, n := range c.held {
		most = max(most, n)
	}
	var newest *Conn
	for _, conn := range c.conns {
		if c.held[conn.key] == most && (newest == nil || conn.since > newest.since) {
			newest = conn
		}
	}
	return newest
}
