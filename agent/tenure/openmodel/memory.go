package openmodel

import (
	"runtime/debug"

	"github.com/anchorhold/anchorhold/agent/settings"
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

// LimitHeap keeps the Go heap inside its part of the limit while so many models are open. Each
// has a vocabulary there; beside a second one as much as the first may take is left out of
// what the arenas get.
func LimitHeap(cfg settings.Config, models int) {
	debug.SetMemoryLimit(int64(models)*HeapLimit + requests(cfg))
}
