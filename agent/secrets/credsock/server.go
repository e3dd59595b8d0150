package credsock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/luks"
	"golang.org/x/sys/unix"
)

// ReasonHeader is the refusal of a volume's key: its validated header is not there, or is not valid.
const ReasonHeader refusal.Reason = "volume-header-invalid"

const (
	// tooLong is more than a unit's credentials may have together, which is 1 MiB; systemd fails
	// the unit that reads it (243/CREDENTIALS).
	tooLong = 1<<20 + 1<<16
	// refuseTime is how long a refused peer may take to read all of that. The service manager may take longer, in
	// a place beside those who are answered, until it reads or its own time-out ends it.
	refuseTime = 10 * time.Second
	// lateAtOnce bounds these places. Who finds none keeps the one that it has.
	lateAtOnce = 32
	// lateTime is how long an accepted peer waits at most, for a secret that the lease at hand
	// does not have: a reload that brings it takes about a second.
	lateTime = 5 * time.Second
	// atOnce bounds the connections that are answered at the same time; others wait in the queue.
	atOnce = 32
	// acceptPause is the wait when no descriptor is left.
	acceptPause = 100 * time.Millisecond
)

// Server hands secrets to systemd.
type Server struct {
	store *secrets.Store
	// wait is how long the first of those who wait at the socket waits for a lease until all of
	// them are refused.
	wait     time.Duration
	headerOf func(volume string) string // file of a volume's validated header
	check    func(r io.ReaderAt) error  // refuses a header that is not valid
	log      *slog.Logger
	manager  uint32        // the uid of the service manager: root's, or a test's
	patience time.Duration // refuseTime, or a test's
}

// New makes a server of a store's secrets.
func New(store *secrets.Store, cfg settings.Credentials, log *slog.Logger) *Server {
	return &Server{store: store, wait: cfg.Wait(), headerOf: cfg.HeaderOf, check: checkLUKS, log: log, patience: refuseTime}
}

// checkLUKS refuses a header that is not a valid one of LUKS2.
func checkLUKS(r io.ReaderAt) error { return luks.Check(r, false) }

// Serve answers until ctx ends. It closes the listener and returns when its goroutines ended.
// Whoever still waits at a socket of the service manager is answered by the next agent.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	q, err := newQueue(l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	a := &answers{places: make(chan struct{}, atOnce), late: make(chan struct{}, lateAtOnce)}
	for err == nil {
		err = s.round(ctx, q, a)
	}
	a.under.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, q.close())
}

// answers are those under way, in a bounded number.
type answers struct {
	under  sync.WaitGroup
	places chan struct{}
	late   chan struct{} // places of refused peers that read slowly
}

// place is where one answer counts; its goroutine has it.
type place struct{ in, late chan struct{} }

// yield lets another be answered, if there is a place for those who are late.
func (p *place) yield() {
	if p.in == p.late {
		return
	}
	select {
	case p.late <- struct{}{}:
		<-p.in
		p.in = p.late
	default:
	}
}

func (p *place) leave() { <-p.in }

// round answers those who wait, once a lease is held or they have waited long enough.
func (s *Server) round(ctx context.Context, q *queue, a *answers) error {
	if err := q.wait(ctx); err != nil {
		return fmt.Errorf("wait for connections: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, s.wait)
	why := s.store.Ready(within)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for {
		if some, err := q.some(); err != nil || !some {
			return err
		}
		select {
		case a.places <- struct{}{}: // before the connection leaves the queue
		case <-ctx.Done():
			return ctx.Err()
		}
		c, err := s.accept(ctx, q)
		if err != nil {
			return err
		}
		a.under.Go(func() {
			p := &place{a.places, a.late}
			defer p.leave()
			s.answer(ctx, c, why, p)
		})
	}
}

// accept takes a connection that waits. A lack of descriptors passes.
func (s *Server) accept(ctx context.Context, q *queue) (*net.UnixConn, error) {
	for {
		c, err := q.l.AcceptUnix()
		if err == nil || !transient(err) {
			return c, err
		}
		s.log.Warn("accept failed; the socket keeps accepting", "err", err)
		pause := time.NewTimer(acceptPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		}
	}
}

// transient says whether accepting may work again later.
func transient(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// answer hands a secret over or refuses it, for a reason that the service manager does not know
// and the journal does.
func (s *Server) answer(ctx context.Context, c *net.UnixConn, why error, p *place) {
	asker, version, err := s.hand(ctx, c, why)
	if err == nil {
		s.log.Info("secret handed on", append(describe(asker), "version", version)...)
	} else {
		reason, _ := refusal.ReasonOf(err)
		s.log.Warn("secret refused", append(describe(asker), "reason", string(reason), "err", err)...)
		s.refuse(ctx, c, describe(asker), p)
	}
	if err := c.Close(); err != nil {
		s.log.Warn("close a connection", "err", err)
	}
}

// hand writes the secret, all of it or nothing that is one.
func (s *Server) hand(ctx context.Context, c *net.UnixConn, why error) (a secrets.Asker, version uint64, err error) {
	if err := s.checkPeer(peerUID(c)); err != nil {
		return a, 0, err
	}
	if a, err = parseAddress(c.RemoteAddr().String()); err != nil {
		return a, 0, err
	}
	within, cancel := context.WithTimeout(ctx, lateTime)
	defer cancel()
	if why != nil { // who may not have it shall hear that, and who may has waited
		cancel()
	}
	if err := s.store.Await(within, a); err != nil {
		return a, 0, err
	}
	if a.Volume != "" {
		if err := s.checkHeader(a.Volume); err != nil {
			return a, 0, err
		}
	}
	err = s.store.Lend(a, func(g secrets.Given, secret []byte) error {
		version = g.Version
		return secrets.Send(c, secret)
	})
	return a, version, err
}

// checkHeader refuses a volume whose header was not validated.
func (s *Server) checkHeader(volume string) error {
	f, err := openHeader(s.headerOf(volume))
	if err != nil {
		return refusal.New(ReasonHeader, "no validated header: %w", err)
	}
	if err := errors.Join(s.check(f), f.Close()); err != nil {
		return refusal.New(ReasonHeader, "%w", err)
	}
	return nil
}

// openHeader opens a header that is an ordinary file, which its owner alone may write.
func openHeader(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no ordinary file", path)
	}
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("%s may be written by others than its owner", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// refuse writes more than a credential may have: random bytes, so that they are no key that
// somebody could have chosen a volume for. A service manager that does not read is waited for until ctx ends:
// what it has read would be a credential.
func (s *Server) refuse(ctx context.Context, c *net.UnixConn, asker []any, p *place) {
	patient := s.checkPeer(peerUID(c)) == nil
	block := make([]byte, 32<<10)
	rand.Read(block)
	limit := func() { _ = c.SetWriteDeadline(time.Now().Add(s.patience)) } // it fails on a closed connection, as the writes do
	limit()
	_ = c.SetWriteBuffer(len(block)) // the kernel's memory for many who do not read; it fails on a closed connection
	told := false
	for sent := 0; sent < tooLong; {
		n, err := c.Write(block)
		sent += n
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return // the peer has read enough to fail, or is gone
		case !patient || ctx.Err() != nil:
			s.log.Warn("a refused peer did not read to the end; what it read is random", append(asker, "sent", sent)...)
			return
		default:
			if !told {
				told = true
				s.log.Warn("a refused peer reads slowly; it is waited for", append(asker, "sent", sent)...)
			}
			p.yield()
			limit()
		}
	}
}

// peerUID asks the kernel who connected.
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
