package worker

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// closes listens as the service manager does for a program that it cannot start:
// each connection is closed with whatever came over it.
func closes(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(true)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return // closed by the test's end
			}
			if err := waitReadable(conn); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
}

// waitReadable returns when the header is there, without taking it.
func waitReadable(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return !errors.Is(err, unix.EAGAIN)
	})
}

// A worker that was built with cgo ends so under its unit, and says nothing.
func TestAWorkerThatNeverBeganIsSaidToBeThat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.sock")
	var log bytes.Buffer
	p, err := NewPool(Socket{Path: path}, 1, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		_, err := p.Run(t.Context(), Task{Class: "empty", Limits: bounds()}, nil)
		return err
	}
	t.Run("closed", func(t *testing.T) {
		closes(t, path)
		for range 3 {
			f := wantFailure(t, run(), Crash, "ended before it read its task")
			for _, word := range []string{"journalctl -u 'anchorhold-worker*'", "203/EXEC", "linked statically", "anchorhold doctor", "MaxConnections"} {
				if !strings.Contains(f.Error(), word) {
					t.Errorf("no %q in %v", word, f)
				}
			}
			if !errors.Is(f, errUnread) || len(f.Detail) >= maxDetail {
				t.Errorf("a detail of %d bytes: %v", len(f.Detail), f)
			}
		}
	})
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "203/EXEC") {
		t.Errorf("logged %q, want one error", said)
	}
	t.Run("mended", func(t *testing.T) {
		testHolds(t, path)
		if err := run(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("closed again", func(t *testing.T) {
		closes(t, path)
		wantFailure(t, run(), Crash, "ended before it read its task")
	})
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want one for each time that it begins:\n%s", n, log.String())
	}
}

// One that read its task and died is another matter.
func TestAWorkerThatBeganIsNotSaidToBeUnread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.sock")
	testHolds(t, path)
	p := testPool(t, Exec{}, 1)
	p.runner = Socket{Path: path}
	_, err := p.Run(t.Context(), Task{Class: "die", Limits: bounds()}, nil)
	if f := wantFailure(t, err, Crash, "ended without an answer"); errors.Is(f, errUnread) {
		t.Error(f)
	}
}

// A worker that cannot close its doors says so before it reads, and is heard.
func TestARefusalBeforeTheHeaderIsHeard(t *testing.T) {
	refusal := `{"final":{"exit":"refused","detail":"no seccomp","result":""}}`
	p, err := NewPool(imposter{play: func(c channel) {
		if err := waitReadable(c.conn); err != nil {
			t.Error(err)
		}
		if _, err := c.conn.Write([]byte(refusal)); err != nil {
			t.Error(err)
		}
	}}, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Run(t.Context(), Task{Class: "x", In: []*os.File{sealed(t, "x")}, Limits: bounds()}, nil)
	wantFailure(t, err, Refused, "no seccomp")
}
