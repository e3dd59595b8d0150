package keybuf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ForbidDumps keeps the whole process out of core dumps, and out of reach of debuggers that run
// under its own uid. Keys are not only in buffers: the Go heap has a TLS key's schedule, a
// signing key's expanded form, the body of a request. A core dump limit alone does not stop a
// core_pattern that pipes (core(5)). A program that holds keys calls it before it reads the
// first one. It cannot be undone; a program that this one executes can be dumped again, but
// without a core file.
func ForbidDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps and tracing: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set the core dump limit to zero: %w", err)
	}
	return nil
}
