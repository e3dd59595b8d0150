package service

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners takes over the listening sockets that were passed under these names
// (FileDescriptorName=), and returns them by name. It may be called once. It returns none without an
// error if the process was started without socket activation. A socket under another name, one that
// does not listen, and any other than a unix stream socket is an error: it would accept connections
// that nobody serves, or whose peers nobody knows.
func Listeners(names ...string) (map[string][]net.Listener, error) {
	return takeOver(activation.Files(true), names...)
}

func takeOver(files []*os.File, names ...string) (found map[string][]net.Listener, err error) {
	strangers := map[string]bool{}
	found = map[string][]net.Listener{}
	for _, f := range files {
		name := f.Name()
		l, lerr := net.FileListener(f)
		if cerr := f.Close(); lerr == nil {
			lerr = cerr
		}
		switch {
		case !slices.Contains(names, name):
			strangers[name] = true
			if l != nil {
				err = errors.Join(err, detach(l))
			}
		case lerr != nil:
			err = errors.Join(err, fmt.Errorf("take over socket %q: %w", name, lerr))
		case l.Addr().Network() != "unix":
			err = errors.Join(err, fmt.Errorf("the service manager passed %s as socket %q, which is %s; want a unix stream socket (ListenStream=/PATH)", l.Addr(), name, l.Addr().Network()), detach(l))
		default:
			if u, ok := l.(*net.UnixListener); ok {
				u.SetUnlinkOnClose(false) // the path belongs to the service manager
			}
			found[name] = append(found[name], l)
		}
	}
	if len(strangers) > 0 {
		err = errors.Join(err, fmt.Errorf("the service manager passed sockets named %q, but only %q is known; set FileDescriptorName=%s", strings.Join(slices.Sorted(maps.Keys(strangers)), ", "), strings.Join(names, ", "), names[0]))
	}
	if err != nil {
		for _, list := range found {
			for _, l := range list {
				err = errors.Join(err, l.Close())
			}
		}
		return nil, err
	}
	return found, nil
}

// detach closes a socket that stays the service manager's.
func detach(l net.Listener) error {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l.Close()
}
