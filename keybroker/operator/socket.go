package operator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// MaxPath is the longest path of a socket that Listen makes: sun_path without its end, and
// without a dot and the process's number, under which it is made first (unix(7), proc(5)).
const MaxPath = 107 - len(".4194304")

// Listen makes the operator socket with mode 0600, or 0660 if group is set: nobody can connect
// before the socket has its mode. It
// replaces the socket of a broker that is gone, and nothing else.
func Listen(ctx context.Context, path string, group bool) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	// The socket is made under a name of its own and gets its mode before it
	// gets its place, so that nobody can connect in between.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("operator socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	mode := os.FileMode(0o600)
	if group {
		mode = 0o660
	}
	if err = os.Chmod(fresh, mode); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("operator socket: %w", err), l.Close(), os.Remove(fresh))
	}
	return &socketListener{l, path}, nil
}

func removeStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return fmt.Errorf("another broker answers on %s", path)
	}
	return os.Remove(path)
}

// socketListener removes its socket when it is closed.
type socketListener struct {
	net.Listener
	path string
}

// Close stops listening and removes the socket.
func (l *socketListener) Close() error {
	return errors.Join(l.Listener.Close(), removeSocket(l.path))
}

func removeSocket(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
