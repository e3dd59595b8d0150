package tenure

import (
	"runtime/debug"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

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
	openmodel.LimitHeap(cfg, 1)
	debug.SetGCPercent(50)
	return nil
}
