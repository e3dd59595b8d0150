package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tail keeps the last few kilobytes written to it; safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 1 << 18

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns what was kept, without surrounding space.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

// logFile is what a daemon writes.
type logFile struct{ name string }

// String returns the last few kilobytes, without surrounding space.
func (l *logFile) String() string {
	f, err := os.Open(l.name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-tailBytes), tailBytes))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

// line returns the last line that holds all the words, or "".
func (l *logFile) line(words ...string) string {
	found := ""
	for text := range strings.Lines(l.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			found = strings.TrimSpace(text)
		}
	}
	return found
}

// daemon is a child process that the demo started and alone may end.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  *logFile
	done chan struct{}
	err  error // valid after done

	group *group // that it runs in; nil for none
}

// start runs a daemon in its own process group, its output kept in the directory, not shown. The
// daemon has the file itself: a pipe would end with the demo, and a daemon that is left running
// (-keep) would end at the next line that it logs.
func start(dir, name string, env []string, bin string, args ...string) (*daemon, error) {
	file, err := os.CreateTemp(dir, strings.ReplaceAll(name, " ", "-")+"-*.log")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	d := &daemon{name: name, log: &logFile{file.Name()}, done: make(chan struct{})}
	d.cmd = exec.Command(bin, args...)
	d.cmd.Stdout, d.cmd.Stderr = file, file
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is the demo's to handle
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// stop asks the daemon to end, and ends it after a grace period.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
	case <-time.After(15 * time.Second):
		if err := d.cmd.Process.Kill(); err != nil {
			return err
		}
		<-d.done
		return errors.Join(fmt.Errorf("%s did not end within 15 s after SIGTERM", d.name), d.group.remove())
	}
	return d.group.remove()
}

// waitFor polls a condition until it holds, the daemon ends, or time is up.
func (d *daemon) waitFor(ctx context.Context, what string, limit time.Duration, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready() {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("%s ended before %s (%v); the end of its log:\n%s", d.name, what, d.err, d.log)
		case <-ctx.Done():
			return fmt.Errorf("%s: no %s within %s; the end of its log:\n%s", d.name, what, limit, d.log)
		case <-tick.C:
		}
	}
}

// peakMemory is the daemon's peak resident memory in bytes, read from outside.
func (d *daemon) peakMemory() (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel shows no VmHWM")
}

// command runs a short-lived program and returns its standard output; its
// error carries what it wrote to standard error.
func command(ctx context.Context, bin string, args ...string) ([]byte, error) {
	var out, complaint bytes.Buffer
	return output(ctx, &out, &complaint, bin, args...)
}

func output(ctx context.Context, out *bytes.Buffer, complaint *bytes.Buffer, bin string, args ...string) ([]byte, error) {
	return outputIn(ctx, nil, out, complaint, bin, args...)
}

// outputIn is output with more in the environment.
func outputIn(ctx context.Context, env []string, out *bytes.Buffer, complaint *bytes.Buffer, bin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, complaint
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", bin, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}

// stream runs a program and copies its standard output as it comes.
func stream(ctx context.Context, to io.Writer, bin string, args ...string) (string, error) {
	var complaint tail
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stdout, cmd.Stderr = to, &complaint
	if err := cmd.Run(); err != nil {
		return complaint.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return complaint.String(), nil
}
