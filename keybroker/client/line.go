package client

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// keptAnswer bounds the wait for M2 on a kept connection, whose other end may be gone
// without a word. Less than a quarter of the caller's time is spent on it in any case.
const keptAnswer = 2 * time.Second

// line is a connection to the broker. Nothing that an exchange on it established counts
// in the next one (docs/protocol.md 5.11).
type line struct {
	conn *hybridtls.Conn
	next uint32      // number of the next exchange on it
	end  *time.Timer // closes it with the lease that it gave, while it is kept
}

func (c *Client) dial(ctx context.Context) (*line, error) {
	cfg, err := hybridtls.ClientConfig(c.cfg.ServerName, c.cfg.TLSRoots, c.cfg.Profile)
	if err != nil {
		return nil, err
	}
	conn, err := hybridtls.Dial(ctx, "tcp", c.cfg.Address, cfg)
	if err != nil {
		return nil, connectionError(ctx, "connect to broker "+c.cfg.Address, err)
	}
	return &line{conn: conn}, nil
}

// Close closes the connection that is kept for the next Acquire, and keeps none of those
// that are in use. The client can be used further: its next Acquire connects anew.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closes++
	kept := c.kept
	c.kept = nil
	c.mu.Unlock()
	return kept.close()
}

// keep keeps a connection after a whole exchange, if Close was not called meanwhile. The
// one that was kept before goes: the broker keeps one as well.
func (c *Client) keep(l *line, closes int, lease *Lease) {
	l.next++
	if l.next >= protocol.MaxExchanges || l.conn.SetDeadline(time.Time{}) != nil {
		_ = l.close() // the exchange has succeeded
		return
	}
	c.mu.Lock()
	other := l
	if c.closes == closes {
		c.kept, other = l, c.kept
		l.end = time.AfterFunc(time.Until(lease.Expires), func() { c.drop(l) })
	}
	c.mu.Unlock()
	_ = other.close() // how it ends is nobody's business
}

// drop closes a connection if it is still kept.
func (c *Client) drop(l *line) {
	c.mu.Lock()
	kept := c.kept == l
	if kept {
		c.kept = nil
	}
	c.mu.Unlock()
	if kept {
		_ = l.close()
	}
}

// take returns the kept connection for one exchange, nil if there is none whose
// certificates are all valid now.
func (c *Client) take(now time.Time) (l *line, closes int) {
	c.mu.Lock()
	l, closes = c.kept, c.closes
	c.kept = nil
	c.mu.Unlock()
	if l == nil {
		return nil, closes
	}
	if l.end.Stop() && validAt(l.conn.ConnectionState().VerifiedChains, now) {
		return l, closes
	}
	_ = l.close()
	return nil, closes
}

// validAt says whether a chain of certificates that was verified in the handshake would
// still be within its dates.
func validAt(chains [][]*x509.Certificate, now time.Time) bool {
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
			return now.Before(c.NotBefore) || now.After(c.NotAfter)
		})
	})
}

func (l *line) close() error {
	if l == nil {
		return nil
	}
	if l.end != nil {
		l.end.Stop()
	}
	return l.conn.Close()
}

// impatient closes a connection that was kept, which ends reads and writes, unless answered
// is called soon; that says whether it was.
func (l *line) impatient(ctx context.Context) (answered func() bool) {
	if l.next == 0 {
		return func() bool { return true }
	}
	wait := keptAnswer
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/4)
	}
	return time.AfterFunc(wait, func() { _ = l.conn.NetConn().Close() }).Stop // by force: a farewell may be held up
}
