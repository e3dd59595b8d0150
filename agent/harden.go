package agent

import (
	"runtime/debug"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
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

// harden keeps this process's memory out of core dumps and debuggers, and the
// Go heap inside its part of the limit.
func harden(cfg settings.Config) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	debug.SetMemoryLimit(goHeapLimit + requests(cfg))
	debug.SetGCPercent(50)
	return nil
}
