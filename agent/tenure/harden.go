package tenure

import (
	"io"
	"log/slog"
	"runtime/debug"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Fits refuses a start that the kernel would end in the middle of a request: the unit allows
// less than the configuration wants to use. It also refuses models whose parts are more than the
// limit.
func Fits(cfg settings.Config, most int64, known bool) error {
	if want := int64(cfg.Compute.TEE.MemoryLimitMB) << 20; known && most < want {
		return refusal.New("memory-limit-above-unit", "compute.tee.memory_limit_mb is %d, and the unit allows %d MiB: raise MemoryMax= to %dM at least "+
			"(anchorhold-agent.service.d/memory.conf), or lower memory_limit_mb to %d", want>>20, most>>20, want>>20, most>>20)
	}
	_, err := openmodel.Shares(cfg)
	return err
}

// Divided is a configuration in which each of several models has its part of the memory limit, decided from the files as they
// are now, and the log says which.
func Divided(cfg settings.Config, log *slog.Logger) (settings.Config, error) {
	if len(cfg.Models) < 2 {
		return cfg, nil
	}
	plan, err := openmodel.Plan(cfg)
	if err != nil {
		return cfg, err
	}
	cfg.Models = nil
	for _, s := range plan {
		log.Info("memory of a model", "model", s.Name, "part_mib", s.MemoryMB, "stated", s.Stated, "needs_mib", s.Need, "file_mib", s.File)
		cfg.Models = append(cfg.Models, s.Model)
	}
	return cfg, nil
}

// PrintMemory writes a table of what each of several models gets of the memory limit.
func PrintMemory(w io.Writer, cfg settings.Config) error {
	if len(cfg.Models) < 2 {
		return nil
	}
	plan, err := openmodel.Plan(cfg)
	if err == nil {
		openmodel.PrintPlan(w, cfg, plan)
	}
	return err
}

// Apart takes a configuration apart: the first model, with all that is not a model, and each of the
// others alone, with its part of the memory limit.
func Apart(cfg settings.Config) (first settings.Config, others []settings.Config, err error) {
	models, err := openmodel.Shares(cfg)
	if err != nil || len(models) < 2 {
		return cfg, nil, err
	}
	first = cfg
	first.Models = models[:1:1]
	for _, m := range models[1:] {
		one := cfg
		one.Models, one.Classifiers, one.Secrets = []settings.Model{m}, nil, nil
		one.Federation, one.Proofs = settings.Federation{}, settings.Proofs{}
		others = append(others, one)
	}
	return first, others, nil
}

// LimitHeap keeps the Go heap inside its part of the limit while so many models are open.
func LimitHeap(cfg settings.Config, models int) { openmodel.LimitHeap(cfg, models) }

// Harden keeps this process's memory out of core dumps and debuggers, and the
// Go heap inside its part of the limit.
func Harden(cfg settings.Config) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	openmodel.LimitHeap(cfg, max(1, len(cfg.Models)))
	debug.SetGCPercent(50)
	return nil
}
