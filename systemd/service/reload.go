package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// reloadSocket is below the unit's runtime directory.
const reloadSocket = "reload.sock"

// maxVerdict bounds what a daemon says of a reload, in bytes.
const maxVerdict = 64 << 10

// runtimeDirectory is the unit's (RuntimeDirectory=), of several the first.
func runtimeDirectory() string {
	first, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return first
}

// ServeReload calls reload for each [AskReload], one at a time, and returns the result to the
// caller, until the context ends. A signal could not report the result, and Type=notify-reload
// needs systemd 253 and cannot report a failure. The socket is for the daemon's own user and
// root. If the service manager gave no runtime directory, ServeReload only waits.
func ServeReload(ctx context.Context, reload func(context.Context) error) error {
	dir := runtimeDirectory()
	if dir == "" {
		<-ctx.Done()
		return nil
	}
	path := filepath.Join(dir, reloadSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reload: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		err = errors.Join(os.Chmod(path, 0o600))
	}
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return serveReload(ctx, l, reload)
}

func serveReload(ctx context.Context, l net.Listener, reload func(context.Context) error) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if !transient(err) {
				return fmt.Errorf("reload: %w", err)
			}
			select { // who asks waits in the queue
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		verdict := "done\n"
		if err := reload(ctx); err != nil {
			verdict = "refused " + err.Error()
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // who asked may be gone
		_, _ = io.WriteString(c, verdict[:min(len(verdict), maxVerdict)])
		_ = c.Close()
	}
}

// transient says whether what failed may work again later.
func transient(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ECONNABORTED)
}

// Reloads passes requests for a reload to the one goroutine that reads the files, and tells the
// health check about a reload that does not return.
type Reloads struct {
	// Asked has, for each request, the channel on which its result is awaited.
	Asked chan chan<- error
	// Underway is the reload that has not returned yet.
	Underway Underway
}

// Ask waits for a reload and returns its result.
func (r *Reloads) Ask(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case r.Asked <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Do reloads, and records when it began.
func (r *Reloads) Do(reload func() error) error {
	r.Underway.Begin(time.Now())
	defer r.Underway.End()
	return reload()
}

// Stuck returns an error if a reload has not returned for the given time.
func (r *Reloads) Stuck(after time.Duration) error {
	if r.Underway.Longer(after, time.Now()) {
		return fmt.Errorf("a reload has not returned for %s", after)
	}
	return nil
}

// ErrReloadRefused means that the daemon keeps its old configuration.
var ErrReloadRefused = errors.New("reload refused; the old configuration stays in use")

// AskReload makes the daemon read its files again and returns the result. Without a runtime
// directory in the environment, for example by hand, it uses that of the unit: /run/NAME.
func AskReload(ctx context.Context, name string) error {
	dir := runtimeDirectory()
	if dir == "" {
		dir = filepath.Join("/run", name)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(dir, reloadSocket))
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("reload: only root and the daemon's own user may ask for one: %w", err)
	}
	if err != nil {
		return fmt.Errorf("reload: no answer; is the daemon running as a service? %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(c, maxVerdict))
	if err != nil {
		return fmt.Errorf("reload: the daemon did not report a result: %w", err)
	}
	verdict := string(said)
	if verdict == "done\n" {
		return nil
	}
	if why, refused := strings.CutPrefix(verdict, "refused "); refused {
		return fmt.Errorf("%w: %s", ErrReloadRefused, why)
	}
	return errors.New("reload: the daemon ended before it reported a result")
}
