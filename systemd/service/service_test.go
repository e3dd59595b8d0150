package service_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/systemd/service"
)

// manager is a notify socket of the test's own.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestEachStateIsSaid(t *testing.T) {
	c := manager(t)
	for name, tc := range map[string]struct {
		say  func() error
		want string
	}{
		"ready":    {func() error { return service.Ready("serving") }, "READY=1\nSTATUS=serving"},
		"stopping": {service.Stopping, "STOPPING=1"},
		"status":   {func() error { return service.Status("a\nREADY=1\x00b") }, "STATUS=a READY=1 b"},
		"long":     {func() error { return service.Status(strings.Repeat("é", 4000)) }, "STATUS=" + strings.Repeat("é", 256)},
		"extend":   {func() error { return service.ExtendTimeout(90 * time.Second) }, "EXTEND_TIMEOUT_USEC=90000000"},
	} {
		if err := tc.say(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := receive(t, c); got != tc.want {
			t.Errorf("%s: said %q, want %q", name, got, tc.want)
		}
	}
	if err := service.Reloading(); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || strings.HasSuffix(got, "=") {
		t.Errorf("reloading: said %q", got)
	}
	if service.ExtendTimeout(0) == nil {
		t.Error("an extension by nothing was said")
	}
}

func TestOutsideSystemdNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("LISTEN_PID", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := errors.Join(service.Ready("x"), service.Stopping()); err != nil {
		t.Error(err)
	}
	if l, err := service.Listeners("api"); len(l) != 0 || err != nil {
		t.Errorf("listeners %v, %v", l, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := service.RunWatchdog(ctx, nil, nil); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	if service.Ready("x") == nil {
		t.Error("an unreachable service manager went unnoticed")
	}
}

func TestWatchdogIsFedByHealthAlone(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "60000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer // of the watchdog's goroutine until it ended
	// Sick twice (once by failing, once by hanging until its time ends), then well.
	var calls int
	ended := make(chan error, 1)
	var fedAfter []int
	go func() {
		ended <- service.RunWatchdog(ctx, slog.New(slog.NewTextHandler(&log, nil)), func(ctx context.Context) error {
			calls++
			switch calls {
			case 1:
				return errors.New("sick")
			case 2:
				<-ctx.Done()
				return nil
			}
			fedAfter = append(fedAfter, calls)
			return nil
		})
	}()
	if got := receive(t, c); got != "WATCHDOG=1" {
		t.Errorf("said %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if said := log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "err=sick") || strings.Count(said, "\n") != 2 || !strings.Contains(said, "healthy again") {
		t.Errorf("the log has %q, want one line when health was lost and one when it came back", said)
	}
	if len(fedAfter) == 0 || fedAfter[0] != 3 {
		t.Errorf("fed after checks %v, want the third first", fedAfter)
	}
	if err := service.Stopping(); err != nil {
		t.Fatal(err)
	}
	said := 1
	for receive(t, c) != "STOPPING=1" {
		said++
	}
	if said > len(fedAfter) {
		t.Errorf("fed %d times with %d good checks", said, len(fedAfter))
	}
}

// A process that is short of descriptors for a moment is not fed meanwhile, says so, and
// goes on: its end would be certain, and its keys lost.
func TestWatchdogOutlivesAWantOfDescriptors(t *testing.T) {
	if os.Getenv("SERVICE_CHILD") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "SERVICE_CHILD=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	c := manager(t)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "60000")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	log, ended := make(said, 2), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	none := syscall.Rlimit{Cur: 0, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	go func() {
		ended <- service.RunWatchdog(ctx, slog.New(slog.NewTextHandler(log, nil)), func(context.Context) error { return nil })
	}()
	select {
	case line := <-log:
		if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "too many open files") {
			t.Errorf("logged %q", line)
		}
	case err := <-ended:
		t.Fatalf("the daemon ends with %v", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c); got != "WATCHDOG=1" {
		t.Errorf("said %q", got)
	}
	if line := <-log; !strings.Contains(line, "healthy again") {
		t.Errorf("logged %q", line)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// said gives away each line that is logged.
type said chan string

func (s said) Write(p []byte) (int, error) { s <- string(p); return len(p), nil }

// A check that heeds nothing is killed with its process: the log must say so before.
func TestACheckThatHangsIsLoggedWhileItHangs(t *testing.T) {
	manager(t)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "60000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, released, ended := make(said, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- service.RunWatchdog(ctx, slog.New(slog.NewTextHandler(log, nil)), func(context.Context) error { <-released; return nil })
	}()
	if line := <-log; !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "no answer within 30ms") {
		t.Errorf("logged %q", line)
	}
	cancel()
	close(released)
	if err := <-ended; err != nil || len(log) != 0 {
		t.Errorf("%v, and %d more lines about a daemon that stops", err, len(log))
	}
}

func TestWatchdogFailsClosed(t *testing.T) {
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "60000")
	log, well := slog.New(slog.DiscardHandler), func(context.Context) error { return nil }
	if service.RunWatchdog(t.Context(), log, nil) == nil || service.RunWatchdog(t.Context(), nil, well) == nil {
		t.Error("a watchdog without a check or a log")
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	if service.RunWatchdog(t.Context(), log, well) == nil {
		t.Error("nobody could be fed, and nobody noticed")
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if service.RunWatchdog(t.Context(), log, well) == nil {
		t.Error("a malformed interval was taken for no watchdog")
	}
}

func TestCredentialReadsPlainFilesOnly(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	write := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("k", size)), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	write("broker.kek", 32)
	write("largest", service.MaxCredentialBytes)
	write("large", service.MaxCredentialBytes+1)
	write("empty", 0)
	write(".hidden", 1)
	if err := errors.Join(os.Symlink("broker.kek", filepath.Join(dir, "link")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Mkdir(filepath.Join(dir, "sub"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"broker.kek": 32, "largest": service.MaxCredentialBytes} {
		if b, err := service.Credential(name); err != nil || len(b) != size {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	for _, name := range []string{"", ".", "..", "../x", "sub/x", "/etc/passwd", ".hidden", "a\x00b", "a b", "é", strings.Repeat("a", 65), "large", "empty", "link", "pipe", "sub"} {
		if b, err := service.Credential(name); err == nil || b != nil || errors.Is(err, service.ErrNoCredential) {
			t.Errorf("%q: %d bytes, %v", name, len(b), err)
		}
	}
	for _, name := range []string{"pipe", "sub"} {
		if _, err := service.Credential(name); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := service.Credential("absent"); !errors.Is(err, service.ErrNoCredential) {
		t.Errorf("absent: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "relative")
	if _, err := service.Credential("x"); err == nil || errors.Is(err, service.ErrNoCredential) {
		t.Errorf("relative directory: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := service.Credential("x"); !errors.Is(err, service.ErrNoCredential) {
		t.Errorf("no directory: %v", err)
	}
}

// TestSocketActivation starts this test again under systemd-socket-activate.
func TestSocketActivation(t *testing.T) {
	if os.Getenv("SERVICE_CHILD") != "" {
		serveActivated(t)
		return
	}
	program, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("SKIPPED: systemd-socket-activate is not installed, so socket activation is not tested")
	}
	for name, tc := range map[string]struct{ fdname, want string }{
		"our name":     {"api", "served"},
		"another name": {"other", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, report := filepath.Join(dir, "s"), filepath.Join(dir, "report")
			if err := syscall.Mkfifo(report, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, "--listen="+path, "--fdname="+tc.fdname, "-E", "SERVICE_CHILD="+report, os.Args[0], "-test.run=^TestSocketActivation$")
			said, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := said.Read(make([]byte, 256)); err != nil { // "Listening on ..."
				t.Fatal(err)
			}
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := os.ReadFile(report)
			if err != nil || string(got) != tc.want {
				t.Errorf("child: %q, %v, want %q", got, err, tc.want)
			}
			_ = cmd.Wait()
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the child removed the service manager's socket: %v", err)
			}
		})
	}
}

func serveActivated(t *testing.T) {
	answer := "refused"
	listeners, err := service.Listeners("api")
	if api := listeners["api"]; err == nil && len(api) == 1 {
		if c, err := api[0].Accept(); err == nil {
			answer = "served"
			c.Close()
		}
		api[0].Close()
	}
	if err := os.WriteFile(os.Getenv("SERVICE_CHILD"), []byte(answer), 0); err != nil {
		t.Fatal(err)
	}
}
