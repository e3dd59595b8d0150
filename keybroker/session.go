package keybroker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

const (
	// keptBytes is what the broker holds for a connection that is kept: TLS's state with
	// the buffer of its largest record, and the stack that waits.
	keptBytes = 26 << 10
	// keptGrace is how long after the end of the lease that it gave a connection is kept: a
	// guest that renews later has lost its keys, and may as well connect anew.
	keptGrace = 30 * time.Second
)

// session is one connection and the exchanges on it, one after the other (docs/protocol.md
// 5.11). What it carries from one to the next is here, and decides nothing but whether
// there is a next one. One goroutine at a time has it.
type session struct {
	b     *Broker
	raw   net.Conn
	conn  *hybridtls.Conn
	place *listen.Conn
	peer  string

	next  uint32    // number of the next exchange
	agent [32]byte  // ID of the agent key of those before
	until time.Time // how long it is kept for the next
	first []byte    // of the next exchange, read already
	after *exchange // what is left of the last one, for M8 (5.12)
	group string    // of the last one
}

// handle runs a connection from its TLS handshake to its end.
func (b *Broker) handle(ctx context.Context, raw net.Conn, all *sync.WaitGroup) {
	limited, done := b.limit(ctx, raw)
	handshake, cancel := context.WithTimeout(limited, b.cfg.Limits.Handshake)
	conn, err := hybridtls.Server(handshake, raw, b.cfg.TLS)
	cancel()
	if err != nil {
		done()
		b.logHandshake(ctx, peerOf(raw), err)
		raw.Close()
		return
	}
	if conn.Protocol() == hybridtls.ALPNVolumes {
		defer done()
		b.opening(limited, raw, conn)
		return
	}
	s := &session{b: b, raw: raw, conn: conn, place: listen.Of(raw), peer: peerOf(raw)}
	s.goOn(ctx, s.exchange(limited), done, all)
}

// limit closes the connection when an exchange takes longer than Limits.Exchange or ctx
// ends. done ends that, and says whether it has not happened.
func (b *Broker) limit(ctx context.Context, raw net.Conn) (limited context.Context, done func() bool) {
	limited, cancel := context.WithTimeout(ctx, b.cfg.Limits.Exchange)
	stop := context.AfterFunc(limited, func() { raw.Close() })
	return limited, func() bool {
		defer cancel()
		return stop()
	}
}

// goOn waits for the next exchange, if the one before left the connection in order and
// there is room for it. It waits in a new goroutine: the stack of one that signed and
// verified is ten times as large.
func (s *session) goOn(ctx context.Context, group string, done func() bool, all *sync.WaitGroup) {
	if inTime := done(); group == "" || !inTime || !s.place.Keep(group) {
		s.conn.Close()
		s.raw.Close()
		return
	}
	all.Go(func() {
		if !s.wait() {
			s.raw.Close()
			return
		}
		limited, done := s.b.limit(ctx, s.raw)
		s.goOn(ctx, s.exchange(limited), done, all)
	})
}

// exchange runs one exchange. If the connection may have another, it returns a name for the
// guest, by the hardware's word: what the guest's connections share is bounded by it.
func (s *session) exchange(ctx context.Context) (group string) {
	if s.after != nil {
		if goesOn := s.permit(ctx); !goesOn || s.first == nil {
			return s.group
		}
	}
	ekm, err := s.conn.ExporterOf(s.next)
	if err != nil {
		s.b.cfg.Logger.LogAttrs(ctx, slog.LevelError, "no channel binding", slog.String("peer", s.peer), slog.Any("err", err))
		return ""
	}
	x := newExchange(s.b, &ahead{s.conn, s.first}, ekm, s.peer)
	x.place, x.number, x.formerAgent = s.place, s.next, s.agent
	s.place.Advance(listen.Ready)
	s.first, s.after, s.group = nil, nil, ""
	if !x.run(ctx) {
		return ""
	}
	now, err := s.b.clock.read()
	if s.next++; err != nil || s.next == protocol.MaxExchanges {
		return ""
	}
	s.agent = x.attest.AgentKey.ID()
	s.until = time.Now().Add(x.grant.LeaseEnd.Time().Sub(now.Time()) + keptGrace)
	s.group, s.after = fmt.Sprintf("guest %x", x.claims.Instance()), x.afterwards(s.conn)
	if x.mayPermit() {
		if s.first = s.after.soon(); s.first != nil {
			s.permit(ctx)
		}
	}
	return s.group
}

// permit takes the message that follows an exchange, whose first byte was read. If it is M1 it
// becomes what was read of the next exchange; else there is none yet, or the connection has ended.
func (s *session) permit(ctx context.Context) (goesOn bool) {
	s.after.conn = &ahead{s.conn, s.first}
	hello, err := s.after.next(ctx)
	s.first, s.after = hello, nil // one M8 for each exchange
	if err != nil {
		s.group = ""
	}
	return err == nil
}

// wait waits for the first byte of the next exchange. That none comes is no failure: the
// peer may close the connection, and so may the broker.
func (s *session) wait() bool {
	if s.conn.SetDeadline(s.until) != nil {
		return false
	}
	if s.first != nil { // M1 came in the place of M8
		return s.place.Resume()
	}
	s.first = make([]byte, 1)
	if _, err := io.ReadFull(s.conn, s.first); err != nil {
		return false
	}
	return s.place.Resume()
}

// ahead is a stream of which the first bytes were read already.
type ahead struct {
	stream
	first []byte
}

// Read reads.
func (a *ahead) Read(p []byte) (int, error) {
	if len(a.first) == 0 {
		return a.stream.Read(p)
	}
	n := copy(p, a.first)
	a.first = a.first[n:]
	return n, nil
}
