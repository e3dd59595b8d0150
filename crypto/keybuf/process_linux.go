package keybuf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ForbidDumps keeps the whole process out of core dumps, and out of reach of debuggers
// that run under its own uid. Keys pass through more than buffers: the Go heap has a TLS
// key's schedule, a signing key's expanded form, the body of a request. A core dump limit
// alone does not hold for a core_pattern that pipes (core(5)). Whoever holds keys calls it
// before the first one is read; it is not undone, and a program that this one executes is
// dumpable again, without a core file.
func ForbidDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps and tracing: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set the core dump limit to zero: %w", err)
	}
	return nil
}
