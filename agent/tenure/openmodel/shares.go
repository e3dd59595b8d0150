package openmodel

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonShares means that the models' parts are more than the memory limit has.
const ReasonShares refusal.Reason = "models-above-limit"

// Share is a model's part of the memory limit, in MiB.
type Share struct {
	settings.Model
	// Stated says that the configuration names the part.
	Stated bool
	// File is the size of the sealed file, which its weights take in memory; 0 if it cannot be read.
	File int
	// Need is what the model can use: its weights, unless they are to be streamed, and an estimate of cache and scratch memory.
	Need int
}

// Shares returns the models, of which each has its part of the limit if there are several: see [Plan].
func Shares(cfg settings.Config) ([]settings.Model, error) {
	if len(cfg.Models) < 2 {
		return slices.Clone(cfg.Models), nil
	}
	plan, err := Plan(cfg)
	var list []settings.Model
	for _, s := range plan {
		list = append(list, s.Model)
	}
	return list, err
}

// Plan decides what each model gets, from the sizes of the sealed files as they are now. Models that name their part have
// it. The others share what is left: each gets what it needs, up to an equal share; what some do not need goes
// to those that need more, in the order of the configuration, and what nobody needs to all in proportion to their needs, for longer
// contexts. Parts that the limit does not have are refused with what takes how much.
//
// The parts are fixed until the next plan. The memory of a model without a lease is not lent meanwhile: it may
// come back with the next renewal, and what was lent could not be taken back without closing a model that answers.
func Plan(cfg settings.Config) ([]Share, error) {
	left := int((cfg.MemoryLimit() - Reserve(cfg)) >> 20)
	said := fmt.Sprintf("process and requests %d MiB", Reserve(cfg)>>20)
	list := make([]Share, len(cfg.Models))
	var open []*Share
	for i, m := range cfg.Models {
		s := &list[i]
		*s = Share{Model: m, Stated: m.MemoryMB > 0}
		s.measure()
		if !s.Stated {
			open = append(open, s)
			continue
		}
		left -= m.MemoryMB
		said += fmt.Sprintf(", model %s %d MiB", m.Name, m.MemoryMB)
	}
	switch {
	case left < 0:
		return nil, refusal.New(ReasonShares, "compute.tee.memory_limit_mb is %d, and its parts are %d MiB more: %s", cfg.Compute.TEE.MemoryLimitMB, -left, said)
	case left < len(open):
		return nil, refusal.New(ReasonShares, "compute.tee.memory_limit_mb is %d, and nothing is left for model %s: %s", cfg.Compute.TEE.MemoryLimitMB, open[left].Name, said)
	}
	divide(open, left)
	return list, nil
}

// engineMB and enginePart are what cache and scratch memory of a model may take: so many MiB, and a part of its weights. What
// they really take is known once the key opens the file; then the context is chosen by what the part has room for.
const (
	engineMB   = 16
	enginePart = 8
)

// mebibytes is the size of a file, rounded up. Whoever has the disk may give a file any size, and sums must not overflow: what is
// above 2^50 bytes, far more than any limit holds, counts as that.
func mebibytes(size int64) int { return int((min(size, 1<<50) + 1<<20 - 1) >> 20) }

// measure finds what a model needs.
func (s *Share) measure() {
	if info, err := os.Stat(s.Path); err == nil { // one that is not there is refused when it is opened
		s.File = mebibytes(info.Size())
	}
	s.Need = engineMB + s.File/enginePart
	if s.Mode != "streamed" {
		s.Need += s.File
	}
}

// divide gives so many MiB to models, all of it.
func divide(list []*Share, left int) {
	if len(list) == 0 {
		return
	}
	equal, need := left/len(list), 0
	for _, s := range list {
		s.MemoryMB = min(s.Need, equal)
		need += s.Need
	}
	for _, s := range list {
		left -= s.MemoryMB
	}
	for _, s := range list {
		more := min(s.Need-s.MemoryMB, left)
		s.MemoryMB += more
		left -= more
	}
	rest := left
	for _, s := range list {
		more := int(int64(rest) * int64(s.Need) / int64(need))
		s.MemoryMB += more
		left -= more
	}
	list[0].MemoryMB += left // of rounding
}

// PrintPlan writes a table of what each of several models gets of the limit, in MiB.
func PrintPlan(w io.Writer, cfg settings.Config, plan []Share) {
	fmt.Fprintf(w, "memory of %d MiB:\n  %-24s %7s %7s %7s\n", cfg.Compute.TEE.MemoryLimitMB, "", "part", "needs", "file")
	fmt.Fprintf(w, "  %-24s %7d\n", "process and requests", Reserve(cfg)>>20)
	for _, s := range plan {
		fmt.Fprintf(w, "  %-24s %7d %7d %7d  %s\n", s.Name, s.MemoryMB, s.Need, s.File, s.how())
	}
}

// how says in words what becomes of a model in its part.
func (s Share) how() string {
	by := "shared"
	if s.Stated {
		by = "memory_mb"
	}
	switch {
	case s.File == 0:
		return by + "; the file is not there"
	case s.Mode == "streamed":
		return by + "; streamed, as mode says"
	case s.MemoryMB < s.Need:
		return by + "; some weights may have to be streamed, or the context is shorter"
	}
	return by + "; weights in memory"
}
