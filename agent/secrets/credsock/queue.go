package credsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// queue tells whether connections wait at a listener, without accepting one.
type queue struct {
	l    *net.UnixListener
	file *os.File // the same socket, for the poller
}

func newQueue(l net.Listener) (*queue, error) {
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("%s is no unix socket: who connects to it is not known", l.Addr())
	}
	f, err := u.File()
	if err != nil {
		return nil, err
	}
	return &queue{u, f}, nil
}

// wait returns when a connection waits, or when ctx ends.
func (q *queue) wait(ctx context.Context) error {
	if err := q.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = q.file.SetReadDeadline(time.Unix(1, 0)) }) // Read says so
	defer stop()
	raw, err := q.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		var ready bool
		ready, failed = readable(int(fd))
		return ready || failed != nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, failed)
}

// some says whether a connection waits now.
func (q *queue) some() (bool, error) {
	raw, err := q.file.SyscallConn()
	if err != nil {
		return false, err
	}
	var ready bool
	var failed error
	err = raw.Control(func(fd uintptr) { ready, failed = readable(int(fd)) })
	return ready, errors.Join(err, failed)
}

func readable(fd int) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

func (q *queue) close() error { return errors.Join(q.l.Close(), q.file.Close()) }
