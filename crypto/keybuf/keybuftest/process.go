// Package keybuftest checks that a program keeps its memory to itself. Only tests may import it.
package keybuftest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childVariable is set in the process that a test starts of itself.
const childVariable = "ANCHORHOLD_KEYBUFTEST_CHILD"

// ClobberFree is the setting of the units: the collector overwrites what it frees.
const ClobberFree = "clobberfree=1"

// Alone reports whether the test runs in a process whose memory Copies can judge, and runs the whole test again in one if
// not: its caller returns then. Go does not interrupt goroutines by signals there. Where it does, it saves the registers
// of the moment on the goroutine's stack, which may hold half a secret that is being copied: no copy that a program
// made, and one that a search finds once in many runs. settings are more for GODEBUG.
func Alone(t *testing.T, settings ...string) bool {
	t.Helper()
	want := strings.Join(append(settings, "asyncpreemptoff=1"), ",")
	if os.Getenv("GODEBUG") == want {
		return true
	}
	again(t, "GODEBUG="+want)
	return false
}

// again runs the calling test in another process.
func again(t *testing.T, variable string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Undumpable runs a program's own main in a child process of this test's binary, which could be
// dumped and had whatever core dump limit applies, and asks the kernel there for the result,
// because only the process itself can ask. A main that fails proves nothing.
func Undumpable(t *testing.T, main func() error) {
	t.Helper()
	if os.Getenv(childVariable) == "" {
		again(t, childVariable+"=1")
		return
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		t.Fatal(err)
	}
	core.Cur = core.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &core); err != nil {
		t.Fatal(err)
	}
	if err := main(); err != nil {
		t.Fatal(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		t.Errorf("PR_GET_DUMPABLE is %d (%v), want 0: a process of the same uid reads every key", dumpable, err)
	}
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("the core dump limit is %d of %d (%v), want 0", core.Cur, core.Max, err)
	}
}
