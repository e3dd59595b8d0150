package openmodel

import (
	"runtime/debug"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ProcessReserve is the part of memory_limit_mb that is left to the Go heap, the
// stacks, the runtime and the pages of the binary itself; all else is the
// arena's. Measured with the 97 MB model of the demo: the agent's resident
// memory outside the arena stays below it.
const ProcessReserve = 18 << 20

// requestsInReserve is how much of the reserve requests may hold.
const requestsInReserve = 4 << 20

// requests is what requests may hold beyond their part of the reserve.
func requests(cfg settings.Config) int64 { return max(0, cfg.RequestMemory()-requestsInReserve) }

// Reserve is what the limit keeps from models.
func Reserve(cfg settings.Config) int64 { return ProcessReserve + requests(cfg) }

// HeapLimit makes the collector work harder before the reserve is used up.
const HeapLimit = 9 << 20

// Fits refuses a start that the kernel would end in the middle of a request: the unit allows
// less than the configuration wants to use.
func Fits(cfg settings.Config, most int64, known bool) error {
	if want := int64(cfg.Compute.TEE.MemoryLimitMB) << 20; known && most < want {
		return refusal.New("memory-limit-above-unit", "compute.tee.memory_limit_mb is %d, and the unit allows %d MiB: raise MemoryMax= to %dM at least "+
			"(anchorhold-agent.service.d/memory.conf), or lower memory_limit_mb to %d", want>>20, most>>20, want>>20, most>>20)
	}
	return nil
}

// Harden keeps this process's memory out of core dumps and debuggers, and the
// Go heap inside its part of the limit.
func Harden(cfg settings.Config) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	LimitHeap(cfg, 1)
	debug.SetGCPercent(50)
	return nil
}

// LimitHeap keeps the Go heap inside its part of the limit while so many models are open. Each
// has a vocabulary there; beside a second one as much as the first may take is left out of
// what the arenas get.
func LimitHeap(cfg settings.Config, models int) {
	debug.SetMemoryLimit(int64(models)*HeapLimit + requests(cfg))
}
