package service

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// passed is a listening socket as the service manager passes it.
func passed(t *testing.T, name string) (file *os.File, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name), path
}

func TestTakeOverByName(t *testing.T) {
	a, path := passed(t, "api")
	b, _ := passed(t, "api")
	c, _ := passed(t, "credentials")
	found, err := takeOver([]*os.File{a, c, b}, "api", "credentials")
	if err != nil || len(found["api"]) != 2 || len(found["credentials"]) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	for _, l := range append(found["api"], found["credentials"]...) {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("closing removed the service manager's socket: %v", err)
	}
}

func TestTakeOverRefusesStrangers(t *testing.T) {
	plain, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, path := passed(t, "api")
	other, otherPath := passed(t, "metrics")
	for name, files := range map[string][]*os.File{
		"metrics":   {ours, other},
		"no socket": {os.NewFile(uintptr(plain), "api")},
	} {
		found, err := takeOver(files, "api")
		if err == nil || found != nil {
			t.Fatalf("%s: %d listeners, %v", name, len(found), err)
		}
		if name == "metrics" && !strings.Contains(err.Error(), "FileDescriptorName=api") {
			t.Errorf("no advice in %v", err)
		}
	}
	for _, p := range []string{path, otherPath} {
		if _, err := os.Stat(p); err != nil {
			t.Errorf("a refused socket was removed: %v", err)
		}
		if c, err := net.Dial("unix", p); err == nil {
			c.Close()
			t.Errorf("%s still accepts connections that nobody serves", p)
		}
	}
}

// Whoever configures the socket as one of TCP, of records or of datagrams is told at the
// start: the peers of such a socket have no uid, or its requests no end.
func TestTakeOverRefusesOtherKindsOfSockets(t *testing.T) {
	for name, tc := range map[string]struct {
		domain, kind int
		at           syscall.Sockaddr
		want         string
	}{
		"tcp":       {syscall.AF_INET, syscall.SOCK_STREAM, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, "which is tcp; want a unix stream socket"},
		"records":   {syscall.AF_UNIX, syscall.SOCK_SEQPACKET, &syscall.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}, "which is unixpacket; want a unix stream socket"},
		"datagrams": {syscall.AF_UNIX, syscall.SOCK_DGRAM, &syscall.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}, "which is unixgram; want a unix stream socket"},
	} {
		fd, err := syscall.Socket(tc.domain, tc.kind, 0)
		if err == nil {
			err = syscall.Bind(fd, tc.at)
		}
		if err == nil && name != "datagrams" {
			err = syscall.Listen(fd, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		if found, err := takeOver([]*os.File{os.NewFile(uintptr(fd), "api")}, "api"); err == nil || found != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v, want %q", name, found, err, tc.want)
		}
	}
}
