package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/anchorhold/anchorhold/systemd/service"
)

// Names of the sockets that the service manager passes (FileDescriptorName=).
const (
	apiSocket         = "api"
	credentialsSocket = "credentials"
)

// listen takes over the sockets of systemd, or makes those that are configured: that of the local
// API, which it returns, and the one on which systemd asks for secrets.
func (d *daemon) listen() (api net.Listener, err error) {
	passed, err := service.Listeners(apiSocket, credentialsSocket)
	if err != nil {
		return nil, err
	}
	for name, list := range passed {
		if len(list) > 1 {
			return nil, fmt.Errorf("got %d sockets named %s from the service manager, want one", len(list), name)
		}
	}
	if list := passed[apiSocket]; len(list) == 1 {
		d.passed, api = true, list[0]
	} else if api, err = d.listenAPI(); err != nil {
		return nil, err
	}
	if list := passed[credentialsSocket]; len(list) == 1 {
		d.handing = list[0]
	} else if d.handing, err = d.listenCredentials(); err != nil {
		return nil, errors.Join(err, api.Close())
	}
	return api, nil
}

// listenAPI makes the local API's socket.
func (d *daemon) listenAPI() (net.Listener, error) {
	path := d.Config.Socket.Path
	if path == "" {
		return nil, errors.New("socket.path is missing, and no socket was passed by the service manager")
	}
	// The allow list decides, by the peer's credentials. The mode keeps out whom it names nobody of.
	mode := fs.FileMode(0o600)
	if uids, gids, err := d.Config.Socket.Allowed(); err != nil || len(uids)+len(gids) > 0 {
		mode = 0o666
	}
	return listenAt("socket.path", path, mode)
}

// listenCredentials makes the socket on which systemd asks for secrets, for root alone. Without a
// path there is none.
func (d *daemon) listenCredentials() (net.Listener, error) {
	path := d.Config.Credentials.Socket
	if path == "" {
		if len(d.Config.Secrets) > 0 {
			d.Logger.Info("no unit and no volume can ask for secrets: anchorhold-credentials.socket does not run, and credentials.socket is not set")
		}
		return nil, nil
	}
	return listenAt("credentials.socket", path, 0o600)
}

// listenAt makes a socket that a field of the configuration names.
func listenAt(field, path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStaleSocket(field, path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStaleSocket removes a socket that nobody listens on, and nothing else.
func removeStaleSocket(field, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(path)); err != nil { // made here it would be this user's alone
			return fmt.Errorf("%s: create the directory of %s first, for the users who will open the socket: %w", field, path, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s: %s exists and is not a socket", field, path)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%s: another process listens on %s", field, path), c.Close())
	case errors.Is(err, syscall.ECONNREFUSED): // the one answer that means that nobody listens
		return os.Remove(path)
	}
	return fmt.Errorf("%s: cannot tell whether another process listens on %s: %w", field, path, err)
}
