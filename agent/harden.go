package agent

import (
	"runtime/debug"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// goReserve is the part of memory_limit_mb that is left to the Go heap, the
// stacks, the runtime and the pages of the binary itself; all else is the
// arena's. Measured with the 97 MB model of the demo: the agent's resident
// memory outside the arena stays below it.
const goReserve = 18 << 20

// requestsInReserve is how much of the reserve requests may hold.
const requestsInReserve = 4 << 20

// requests is what requests may hold beyond their part of the reserve.
func requests(cfg settings.Config) int64 { return max(0, cfg.RequestMemory()-requestsInReserve) }

// reserve is what the limit keeps from models.
func reserve(cfg settings.Config) int64 { return goReserve + requests(cfg) }

// goHeapLimit makes the collector work harder before the reserve is used up.
const goHeapLimit = 9 << 20

// fits refuses a start that the kernel would end in the middle of a request: the unit allows
// less than the configuration wants to use.
func fits(cfg settings.Config, most int64, known bool) error {
	if want := int64(cfg.Compute.TEE.MemoryLimitMB) << 20; known && most < want {
		return refusal.New("memory-limit-above-unit", "compute.tee.memory_limit_mb is %d, and the unit allows %d MiB: raise MemoryMax= to %dM at least "+
			"(anchorhold-agent.service.d/memory.conf), or lower memory_limit_mb to %d", want>>20, most>>20, want>>20, most>>20)
	}
	return nil
}

// harden keeps this process's memory out of core dumps and debuggers, and the
// Go heap inside its part of the limit.
func harden(cfg settings.Config) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	limitHeap(cfg, 1)
	debug.SetGCPercent(50)
	return nil
}

// limitHeap keeps the Go heap inside its part of the limit while so many models are open. Each
// has a vocabulary there; beside a second one as much as the first may take is left out of
// what the arenas get.
func limitHeap(cfg settings.Config, models int) {
	debug.SetMemoryLimit(int64(models)*goHeapLimit + requests(cfg))
}
