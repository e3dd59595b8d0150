package service

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloadable serves until the test ends, and returns the runtime directory.
func reloadable(t *testing.T, reload func(context.Context) error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", dir+":/not/this")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeReload(ctx, reload) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C { // until it listens
		if c, err := net.Dial("unix", filepath.Join(dir, reloadSocket)); err == nil {
			_, _ = c.Read(make([]byte, 1))
			c.Close()
			return
		}
	}
}

func TestReloadBringsItsVerdict(t *testing.T) {
	verdicts := make(chan error, 8) // of the reloads to come
	verdicts <- nil                 // reloadable's own
	reloadable(t, func(context.Context) error { return <-verdicts })
	verdicts <- nil
	if err := AskReload(t.Context(), "daemon"); err != nil {
		t.Error(err)
	}
	for _, why := range []string{"line 3: the key is not known\nand more", strings.Repeat("x", 2*maxVerdict)} {
		verdicts <- errors.New(why)
		if err := AskReload(t.Context(), "daemon"); !errors.Is(err, ErrReloadRefused) || !strings.Contains(err.Error(), why[:6]) {
			t.Error(err)
		}
	}
	if len(verdicts) != 0 {
		t.Errorf("%d reloads were asked for and did not happen", len(verdicts))
	}
}

// A reload that does not come back does not keep who asked beyond the time.
func TestReloadThatHangsIsNotWaitedForWithoutEnd(t *testing.T) {
	first := true
	reloadable(t, func(ctx context.Context) error {
		if first {
			first = false
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := AskReload(ctx, "daemon"); err == nil || errors.Is(err, ErrReloadRefused) {
		t.Error(err)
	}
}

// short is a listener of a process without descriptors: it fails so often, then works.
type short struct {
	net.Listener
	failures int
}

func (s *short) Accept() (net.Conn, error) {
	if s.failures > 0 {
		s.failures--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

// A daemon that is short of descriptors fails a reload; it does not end.
func TestReloadOutlivesAWantOfDescriptors(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", dir)
	l, err := net.Listen("unix", filepath.Join(dir, reloadSocket))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serveReload(ctx, &short{l, 2}, func(context.Context) error { return nil })
	}()
	if err := AskReload(t.Context(), "daemon"); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReloadWithoutADaemonSaysSo(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", t.TempDir())
	if err := AskReload(t.Context(), "daemon"); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Error(err)
	}
	t.Setenv("RUNTIME_DIRECTORY", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ServeReload(ctx, nil); err != nil {
		t.Error(err)
	}
}

// A guest whose clock is set forward by hours while something is under way is not stuck, nor
// does a clock that is set back hide what is: times have to keep their monotonic reading.
func TestWhatIsUnderWayIsHeldAgainstTheMonotonicClock(t *testing.T) {
	var r Reloads
	if err := r.Do(func() error {
		began, ok := r.Underway.Since()
		if !ok || began == began.Round(0) {
			t.Errorf("a reload that began at %v has no monotonic reading", began)
		}
		return r.Stuck(time.Hour)
	}); err != nil {
		t.Error(err)
	}
	if _, ok := r.Underway.Since(); ok || r.Stuck(-time.Hour) != nil {
		t.Error("a reload that came back is under way")
	}
	r.Underway.Begin(time.Now().Add(-2 * time.Hour))
	if r.Stuck(time.Hour) == nil {
		t.Error("a reload that hangs is not stuck")
	}
}
