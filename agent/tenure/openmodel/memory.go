package openmodel

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// ProcessReserve is the part of memory_limit_mb that is left to the Go heap, the
// stacks, the runtime and the pages of the binary itself; all else is the
// arena's. Measured with the 97 MB model of the demo under attack: at most 15 MiB
// are the process's own, and the pages of the program's file get the rest. They are
// 10 to 12 MiB where nothing else wants them and 2 to 8 at the limit, where the kernel takes back those
// that are not used.
const ProcessReserve = 18 << 20

// requestsInReserve is how much of the reserve requests may hold.
const requestsInReserve = 4 << 20

// requests is what requests and connections may hold beyond their part of the reserve.
func requests(cfg settings.Config) int64 {
	return max(0, cfg.RequestMemory()-requestsInReserve) + cfg.ConnectionMemory()
}

// Reserve is what the limit keeps from models: each beside the first has a vocabulary in the heap.
func Reserve(cfg settings.Config) int64 {
	return ProcessReserve + requests(cfg) + int64(max(len(cfg.Models), 1)-1)*HeapLimit
}

// A vocabulary of this many tokens has room in the reserve. Each further one takes up to so many
// bytes, the most while the tokenizer is built: Gemma's 262,144 had an agent of 48 MiB reach 52,
// and SmolLM2's 49,152 stay below (`make demo MODEL=gemma`).
const (
	tokensInReserve = 96 << 10
	bytesPerToken   = 40
)

// vocabularyBeyondReserve is what a vocabulary takes in the heap that the reserve has no room for.
func vocabularyBeyondReserve(header *gguf.File) int64 {
	tokens, _ := header.Strings("tokenizer.ggml.tokens")
	return bytesPerToken * int64(max(0, tokens.Len()-tokensInReserve))
}

// room is what a model gets with all that it takes.
func room(cfg settings.Config, m settings.Model) int64 {
	all := cfg.MemoryLimit() - Reserve(cfg)
	if m.MemoryMB > 0 {
		return min(all, int64(m.MemoryMB)<<20)
	}
	return all
}

// HeapLimit is the heap's part of the limit for each model. The collector works harder before it is used up: the heap
// of an agent under attack is larger than what the collector is told to keep it below.
const (
	HeapLimit      = 9 << 20
	beyondTheLimit = 1 << 20
)

// goHeap is the Go heap's part of the limit; a process has one.
var goHeap struct {
	sync.Mutex
	limit  int64 // as LimitHeap was told; 0 before
	beyond int64 // what open models keep free for it in addition
}

// LimitHeap keeps the Go heap inside its part of the limit while so many models are open. Each
// has a vocabulary there; beside a second one as much as the first may take is left out of
// what the arenas get. What open models keep free for large vocabularies and several answers comes in addition.
func LimitHeap(cfg settings.Config, models int) {
	goHeap.Lock()
	defer goHeap.Unlock()
	goHeap.limit = int64(models)*HeapLimit - beyondTheLimit + requests(cfg)
	debug.SetMemoryLimit(goHeap.limit + goHeap.beyond)
}

// giveHeap lets the heap have what a model keeps free for it, or takes it back.
func giveHeap(bytes int64) {
	goHeap.Lock()
	defer goHeap.Unlock()
	goHeap.beyond += bytes
	if goHeap.limit > 0 {
		debug.SetMemoryLimit(goHeap.limit + goHeap.beyond)
	}
}

// releaseProgram gives back the pages of the program's own file. The kernel maps all that it has at hand around each
// page that is touched: 12 MiB after the start, of which serving needs half. They are read again from the file,
// whose bytes a private mapping that nobody may write still has. At the limit, what is read ahead displaces pages that
// are used, which are then read again with as much around them, for minutes where the disk is set to read some MiB
// ahead. So there is none. That advice alone does not keep the kernel from reading ahead for instructions (measured with
// Linux 6.18), but it stays inside a mapping; they become many, by a mark of every second piece.
func releaseProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n < 3 || mode[1] != '-' || mode[3] != 'p' || !strings.HasSuffix(line, " "+program+"\n") {
			continue
		}
		err := errors.Join(advise(from, to, unix.MADV_RANDOM), advise(from, to, unix.MADV_DONTNEED))
		for at := from; mode[2] == 'x' && at < to; {
			next := min((at/programPiece+1)*programPiece, to)
			if at/programPiece%2 == 1 {
				err = errors.Join(err, advise(at, next, unix.MADV_DONTDUMP)) // of a program nothing is dumped in any case
			}
			at = next
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// programPiece is how many bytes of instructions are read at once, at most.
const programPiece = 32 << 10

func advise(from, to uintptr, advice int) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, uintptr(advice)); errno != 0 {
		return fmt.Errorf("madvise %x-%x: %w", from, to, errno)
	}
	return nil
}
