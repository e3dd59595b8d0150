package credsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	close(l.more)
	l.more = make(chan struct{})
	return len(p), nil
}

// want waits until the log has the text so often.
func (l *lines) want(t *testing.T, text string, times int) {
	t.Helper()
	for {
		l.mu.Lock()
		have, more := strings.Count(l.text.String(), text), l.more
		l.mu.Unlock()
		if have >= times {
			return
		}
		select {
		case <-more:
		case <-t.Context().Done():
			t.Fatalf("the log lacks %q", text)
		}
	}
}

// bench is a server at a socket, and the store behind it.
type bench struct {
	t      *testing.T
	server *Server
	store  *secrets.Store
	path   string
	socket *net.UnixListener // stays when a server ends, as the service manager's does
	log    *lines
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, path: filepath.Join(t.TempDir(), "credentials.sock"), log: &lines{more: make(chan struct{})}}
	b.store = secrets.New(func() error { return errors.New("still attesting") })
	if err := b.store.Allow([]settings.Secret{
		{Name: "tls.key", Resource: "secrets/web-tls", Units: []string{"nginx.service"}},
		{Name: "mail", Credential: "password", Resource: "secrets/mail", Units: []string{"postfix.service"}},
		{Name: "data", Resource: "volumes/data", Volumes: []string{"data", "bad", "none"}},
	}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", b.path)
	if err != nil {
		t.Fatal(err)
	}
	b.socket = l.(*net.UnixListener)
	t.Cleanup(func() { _ = b.socket.Close() }) // a test may have closed it
	headers := t.TempDir()
	for _, volume := range []string{"data", "bad"} {
		if err := os.WriteFile(filepath.Join(headers, volume+".header"), []byte(volume), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.server = New(b.store, settings.Credentials{Headers: headers, WaitSeconds: 3600}, slog.New(slog.NewTextHandler(b.log, nil)))
	b.server.manager = uint32(os.Getuid())
	b.server.check = func(r io.ReaderAt) error {
		b := make([]byte, 3)
		if n, _ := r.ReadAt(b, 0); string(b[:n]) == "bad" {
			return errors.New("the null cipher")
		}
		return nil
	}
	return b
}

// serve serves on a copy of the socket until the returned function is called.
func (b *bench) serve() (stop func()) {
	b.t.Helper()
	f, err := b.socket.File()
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = f.Close()                                 // l has its own
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as package service has it
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// grant has the store take a lease with these secrets.
func (b *bench) grant(values map[string]string) {
	b.t.Helper()
	lease := &client.Lease{Expires: time.Now().Add(time.Hour), Keys: map[string]client.Key{}}
	for name, value := range values {
		key, err := keybuf.Take([]byte(value))
		if err != nil {
			b.t.Fatal(err)
		}
		lease.Keys[name] = client.Key{Version: 7, Key: key}
	}
	if err := b.store.Take(lease); err != nil {
		b.t.Fatal(err)
	}
	lease.Wipe()
}

var all = map[string]string{"secrets/web-tls": "the web server's key", "secrets/mail": "the password", "volumes/data": "a volume's key"}

// dial connects as systemd does, from an abstract address; from an empty one it has none.
func (b *bench) dial(from string) *net.UnixConn {
	b.t.Helper()
	var local *net.UnixAddr
	if from != "" {
		local = &net.UnixAddr{Name: from, Net: "unix"}
	}
	c, err := net.DialUnix("unix", local, &net.UnixAddr{Name: b.path, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	if err := c.CloseWrite(); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// read reads until the end, as systemd does.
func (b *bench) read(c *net.UnixConn) []byte {
	b.t.Helper()
	got, err := io.ReadAll(c)
	if err != nil {
		b.t.Error(err)
	}
	return got
}
