// Package confine locks down a worker's process from the inside, for good: no files but
// those that are open, no sockets, no other programs, no new privileges, and no more memory
// or longer files than its task was granted.
//
// After Process, every thread of the process, present and future, passes through a filter
// that allows what a Go program does with its memory, its threads and its open descriptors,
// and nothing else. Process never succeeds by half: after an error the process must end.
//
// The kernel is trusted. An agent that runs as root on a kernel without user namespaces
// leaves its workers the right to raise their own memory limit.
//
// Package worker calls it before it reads the first byte of a task.
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// Process closes the process's doors and leaves it at most so many descriptors.
// Nothing of it can be undone. What only lowers the process's rank (its share of
// the processors, its place among the victims of a full memory) may be forbidden
// by the unit that set it already; all else must succeed.
func Process(maxOpen uint64) error {
	yieldProcessors()
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // rank, see above
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps and tracing: %w", err)
	}
	for resource, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxOpen} {
		if err := lower(resource, most); err != nil {
			return fmt.Errorf("bound resource %d: %w", resource, err)
		}
	}
	// A write beyond the bound of Files then fails, where the signal would end the process
	// without a word.
	signal.Ignore(unix.SIGXFSZ)
	return filter(os.Getpid()).install()
}

// Files bounds how long the process may make a file, after Process: a task's outputs could
// fill the disk.
func Files(most int64) error {
	if err := lower(unix.RLIMIT_FSIZE, uint64(most)); err != nil {
		return fmt.Errorf("bound the size of files: %w", err)
	}
	return nil
}

// yieldProcessors moves every thread to the idle class, which runs when nothing
// else wants to. A new thread inherits it from the one that makes it, so a pass
// that finds no thread outside the class is the last one.
func yieldProcessors() {
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if attr, err := unix.SchedGetAttr(tid, 0); err != nil || attr.Policy == unix.SCHED_IDLE {
				continue
			}
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, lowestNice) // for a kernel that refuses the class
			if unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE, Nice: lowestNice}, 0) == nil {
				again = true
			}
		}
	}
}

const lowestNice = 19

// Memory holds the process to a bound, after Process: softly for the collector,
// hard in the kernel. The Go runtime ends the process when the kernel refuses.
func Memory(most int64) error {
	debug.SetMemoryLimit(most - most/8)
	if err := lower(unix.RLIMIT_DATA, PrivateLimit(most)); err != nil {
		return fmt.Errorf("bound the private memory: %w", err)
	}
	return nil
}

// untouched is what a Go program maps privately and never touches: 32 MiB for
// the runtime's table of arenas, 32 MiB for the scratch memory of the standard
// library's cryptography, and some MiB of both. The kernel counts mappings, so
// it is added to a task's bound; a control group counts pages and needs it not.
const untouched = 80 << 20

// PrivateLimit is the limit on private writable mappings (RLIMIT_DATA) that
// bounds what a process uses to so many bytes.
func PrivateLimit(most int64) uint64 { return uint64(most) + untouched }

// lower sets a limit for good, unless a lower one holds already.
func lower(resource int, most uint64) error {
	var now unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &now); err != nil {
		return err
	}
	most = min(most, now.Max)
	return unix.Prlimit(0, resource, &unix.Rlimit{Cur: most, Max: most}, nil)
}
