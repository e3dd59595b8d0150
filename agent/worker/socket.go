package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Socket asks the service manager for a worker: each connection to
// anchorhold-worker.socket starts one anchorhold-worker@.service, under another
// user, in its own slice, with the unit's own bounds on memory and time.
//
// The agent may not signal such a worker. Closing the connection ends it (Serve
// returns at once), and the unit's RuntimeMaxSec ends one that does not heed it.
type Socket struct {
	// Path is the socket's.
	Path string
}

// instance is a worker that the service manager started.
type instance struct{ ch channel }

func (i instance) channel() channel { return i.ch }

// isolated is true because the unit says so: systemd/service tests it.
func (i instance) isolated() bool { return true }

// wait has nothing to wait for: the supervisor has seen the end of the
// worker's standard error.
func (i instance) wait() status { return status{} }

func (i instance) kill() {
	_ = i.ch.conn.CloseWrite() // already closed is as good
	_ = i.ch.conn.SetReadDeadline(time.Now().Add(maxFarewell))
}

func (s Socket) start(ctx context.Context, _ Limits) (process, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unixpacket", s.Path)
	if err != nil {
		return nil, fmt.Errorf("connect to the workers' socket: %w", err)
	}
	ch := channel{conn: conn.(*net.UnixConn)}
	if err := ch.checkListener(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return instance{ch: ch}, nil
}

// checkListener refuses a socket that neither the service manager nor the
// agent's own user listens on: inputs would be handed to a stranger.
func (c channel) checkListener() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("identify the listener on the workers' socket: %w", perr)
	}
	return trustedListener(peer.Uid, uint32(os.Geteuid()))
}

func trustedListener(uid, own uint32) error {
	if uid != 0 && uid != own {
		return refusal.New(ReasonPeer, "user %d listens on the workers' socket; it must be root or the agent's own user", uid)
	}
	return nil
}
