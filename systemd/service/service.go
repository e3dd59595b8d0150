// Package service talks to systemd: readiness, reload, watchdog, sockets and credentials. The unit
// files are in the parent directory.
//
// Outside systemd every call does nothing or reports so, and a daemon runs the same from a shell.
// The package trusts the environment that the service manager sets. It refuses credential names
// that are not plain file names, and credentials above the size limit. The daemons' life cycles
// call it; it alone imports the systemd module.
package service

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify sends one state; outside systemd it does nothing.
func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// Ready reports that the daemon serves, and shows status.
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\n" + statusLine(status)) }

// Reloading reports that a reload begins; Ready ends it. Type=notify-reload needs the time
// stamp; older systemd ignores it.
func Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping reports that the daemon is about to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

// Status shows one line in `systemctl status`.
func Status(line string) error { return notify(statusLine(line)) }

const maxStatusBytes = 512

// statusLine keeps a status to one bounded line: a line break in it would begin
// another assignment, such as READY=1.
func statusLine(status string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, status)
	return "STATUS=" + strings.ToValidUTF8(printable[:min(len(printable), maxStatusBytes)], "")
}

// ExtendTimeout asks for more time for a start or stop that is making progress.
func ExtendTimeout(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("extend the timeout by %v: the duration must be positive", d)
	}
	return notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}
