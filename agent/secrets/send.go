package secrets

import (
	"errors"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"golang.org/x/sys/unix"
)

// ReasonNotSent means that the peer hung up, or had left so much unread that its socket has no room.
const ReasonNotSent refusal.Reason = "secret-not-sent"

// Send writes a secret to a unix socket in one piece and without waiting: what a release carries fits
// the buffer of a socket from which all was read. After a refusal a part of it may be on its way.
func Send(c syscall.Conn, secret []byte) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return refusal.New(ReasonNotSent, "%w", err)
	}
	var n int
	var failed error
	err = raw.Control(func(fd uintptr) {
		n, failed = unix.SendmsgN(int(fd), secret, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if err := errors.Join(err, failed); err != nil {
		return refusal.New(ReasonNotSent, "%w", err)
	}
	if n != len(secret) {
		return refusal.New(ReasonNotSent, "the socket took %d bytes of %d", n, len(secret))
	}
	return nil
}
