package worker

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Both ways to hold the socket: systemd's own tool, which stands for its unit
// with Accept=yes, and one of this test's where it is not installed.
func TestWorkersOfAServiceManager(t *testing.T) {
	for name, hold := range map[string]func(testing.TB, string){"systemd-socket-activate": systemdHolds, "listener": testHolds} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "worker.sock")
			hold(t, path)
			serviceManagerSuite(t, path)
		})
	}
}

func serviceManagerSuite(t *testing.T, path string) {
	p := testPool(t, Exec{}, 1)
	p.runner = Socket{Path: path}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	result, err := p.Run(t.Context(), Task{Class: "digest", Spec: []byte("s"), In: []*os.File{sealed(t, "data")}, Out: []*os.File{out}, Limits: bounds()}, nil)
	if want := sha256.Sum256([]byte("sdata")); err != nil || string(result) != string(want[:]) {
		t.Fatalf("result %x, %v", result, err)
	}
	result, err = p.Run(t.Context(), Task{Class: "doors", Limits: bounds()}, nil)
	var said map[string]string
	if uerr := json.Unmarshal(result, &said); err != nil || uerr != nil {
		t.Fatal(err, uerr)
	}
	for _, door := range []string{"read a file", "unix socket", "inet socket", "fork", "code at run time"} {
		if said[door] != "EPERM" {
			t.Errorf("%s: %q", door, said[door])
		}
	}
	for class, want := range map[string]struct {
		exit Exit
		part string
	}{"refuse": {BadInput, "bad-spec"}, "die": {Crash, "without an answer"}, "exec": {Crash, "without an answer"}, "garbage": {Crash, string(ReasonReply)}} {
		_, err := p.Run(t.Context(), Task{Class: class, Spec: []byte("x"), Limits: bounds()}, nil)
		wantFailure(t, err, want.exit, want.part)
	}
	if !foreignRuntime {
		_, err := p.Run(t.Context(), Task{Class: "eat", Limits: Limits{Memory: 64 << 20, Time: time.Minute}}, nil)
		wantFailure(t, err, OutOfMemory, "memory bound")
	}
	_, err = p.Run(t.Context(), Task{Class: "hold-deaf", Limits: Limits{Memory: 1 << 30, Time: 200 * time.Millisecond}}, nil)
	wantFailure(t, err, TimeOut, "time bound")
	ctx, cancel := context.WithCancelCause(t.Context())
	var asked time.Time
	_, err = p.Run(ctx, Task{Class: "hold-deaf", Limits: bounds()}, func(Progress) { asked = time.Now(); cancel(errors.New("no longer wanted")) })
	wantFailure(t, err, Cancelled, "no longer wanted")
	if waited := time.Since(asked); waited >= maxFarewell {
		t.Errorf("the worker was not told to end: it took %v", waited)
	}
	wantUnharmed(t, p)
}

func systemdHolds(t testing.TB, path string) {
	t.Helper()
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("SKIPPED: systemd-socket-activate is not installed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "--listen="+path, "--accept", "--seqpacket", self, Mode)
	says, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(says)
	listening := false
	for !listening && lines.Scan() {
		listening = strings.HasPrefix(lines.Text(), "Listening on")
	}
	if !listening {
		t.Fatal("systemd-socket-activate does not listen")
	}
	var drained sync.WaitGroup
	drained.Go(func() {
		for lines.Scan() {
			continue // what it says about each worker
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its workers are gone: Run has seen their end
		drained.Wait()
		_ = cmd.Wait()
	})
}

func testHolds(t testing.TB, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return // closed by the test's end
			}
			all.Go(func() {
				f, err := conn.File()
				conn.Close()
				if err != nil {
					t.Error(err)
					return
				}
				cmd := exec.Command(self, Mode)
				cmd.ExtraFiles = []*os.File{f}
				err = cmd.Start()
				f.Close()
				if err != nil {
					t.Error(err)
					return
				}
				_ = cmd.Wait() // its ending is the agent's to judge
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
}

func TestStrangersSocketIsRefused(t *testing.T) {
	if err := trustedListener(1001, 1000); !refusedFor(err, ReasonPeer) {
		t.Errorf("a stranger: %v", err)
	}
	if err := errors.Join(trustedListener(0, 1000), trustedListener(1000, 1000)); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "worker.sock")
	p := testPool(t, Exec{}, 1)
	p.runner = Socket{Path: path}
	_, err := p.Run(t.Context(), Task{Class: "empty", Limits: bounds()}, nil)
	wantFailure(t, err, Crash, "connect to the workers' socket")
}

// The check is made, not only defined: a socket of another user is refused
// before a byte is sent.
func TestListenersUserIsAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can listen as another user")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	c, err := newChannel(os.NewFile(uintptr(pair[0]), "pair"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	if err := c.checkListener(); err != nil {
		t.Errorf("its own user: %v", err)
	}
	path := filepath.Join("/tmp", "worker-test-"+itoa(os.Getpid())+".sock")
	listener := exec.Command("systemd-socket-activate", "--listen="+path, "--seqpacket", "--accept", "/bin/true")
	listener.SysProcAttr = asNobody()
	says, err := listener.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Start(); err != nil {
		t.Skip("SKIPPED: systemd-socket-activate is not installed")
	}
	defer func() {
		_ = listener.Process.Kill()
		_ = listener.Wait()
		_ = os.Remove(path)
	}()
	if line, err := bufio.NewReader(says).ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	p := testPool(t, Exec{}, 1)
	p.runner = Socket{Path: path}
	_, err = p.Run(t.Context(), Task{Class: "empty", Limits: bounds()}, nil)
	wantFailure(t, err, Crash, string(ReasonPeer))
}

// Only a runner starts a worker: anything else on descriptor 3 is refused.
func TestWorkerStartedByHandRefuses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stream := os.NewFile(uintptr(pair[0]), "stream")
	defer stream.Close()
	for name, extra := range map[string][]*os.File{"nothing": nil, "a stream": {stream}, "a file": {sealed(t, "x")}} {
		cmd := exec.Command(self, Mode)
		cmd.ExtraFiles = extra
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newChannel(sealed(t, "x")); !refusedFor(err, ReasonPeer) {
		t.Errorf("a file as a connection: %v", err)
	}
	again := os.NewFile(uintptr(pair[1]), "stream") // newChannel closes it
	if _, err := newChannel(again); !refusedFor(err, ReasonPeer) {
		t.Errorf("a stream as a connection: %v", err)
	}
}
