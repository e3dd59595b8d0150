// Package service speaks with systemd: readiness, reload, watchdog, sockets and
// credentials. The unit files lie beside it.
//
// Outside systemd every call does nothing or says so: a daemon runs the same
// from a shell. It trusts the environment that the service manager sets. It
// refuses credential names that are not plain file names and credentials over
// the size limit. The daemons' life cycles call it; it alone imports the
// systemd module.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// notify sends one state; outside systemd it does nothing.
func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// Ready tells that the daemon serves, and shows status.
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// Reloading tells that a reload begins; Ready ends it. The time stamp is what
// Type=notify-reload wants; older systemd ignores it.
func Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping tells that the daemon is about to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

// Status shows one line in `systemctl status`.
func Status(line string) error { return notify("STATUS=" + line) }

// ExtendTimeout asks for more time for a start or stop that makes progress.
func ExtendTimeout(d time.Duration) error {
	return notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// RunWatchdog feeds the watchdog at a third of its interval for as long as
// check succeeds; a failing or hanging check starves it, so that the service
// manager restarts the daemon. Without a watchdog it only waits for the context.
func RunWatchdog(ctx context.Context, check func(context.Context) error) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read the watchdog's interval: %w", err)
	}
	if interval == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := check(ctx); err != nil {
				continue // starving the watchdog is the report
			}
			if err := notify(daemon.SdNotifyWatchdog); err != nil {
				return err
			}
		}
	}
}

// Listeners returns the sockets that were passed under a name (FileDescriptorName=).
// It may be called once; nil means no socket activation.
func Listeners(name string) ([]net.Listener, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take over sockets: %w", err)
	}
	return named[name], nil
}

// MaxCredentialBytes bounds one credential.
const MaxCredentialBytes = 1 << 20

// ErrNoCredential: there is no credential of that name, or no credentials at all.
var ErrNoCredential = errors.New("no such systemd credential")

var credentialName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Credential reads a credential of this service. The caller wipes it.
func Credential(name string) ([]byte, error) {
	if !credentialName.MatchString(name) {
		return nil, fmt.Errorf("credential name %q is refused: letters, digits, dot, hyphen and underscore, at most 64", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%w: %s (this process was given none; LoadCredentialEncrypted= in the unit does that)", ErrNoCredential, name)
	}
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoCredential, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read credential %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxCredentialBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read credential %s: %w", name, err)
	}
	if len(data) == 0 || len(data) > MaxCredentialBytes {
		return nil, fmt.Errorf("credential %s has %d bytes; 1 to %d are accepted", name, len(data), MaxCredentialBytes)
	}
	return data, nil
}
