package policy

import (
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func judgeKind(_ *Policy, r *requirements, in Input) *Failure {
	if !in.Claims.Kind.Known() || !r.kinds[string(in.Claims.Kind)] {
		return failure(ReasonKind, "%q; accepted: %s", in.Claims.Kind, strings.Join(sortedKeys(r.kinds), ", "))
	}
	return nil
}

func judgeSoftwareTEE(p *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.SoftwareTEE && !p.doc.AllowSoftwareTEE {
		return failure(ReasonSoftwareTEE, "the evidence is of the software TEE")
	}
	return nil
}

func judgeMeasurement(p *Policy, r *requirements, in Input) *Failure {
	bound := p.tpmBound(in.Resource)
	if _, ok := r.measurements.match(in.Claims, func(v ReferenceValue) bool { return bound || !v.namesPCR() }); ok {
		return nil
	}
	if v, ok := r.measurements.match(in.Claims, ReferenceValue.namesPCR); ok && !bound {
		return failure(ReasonTPMBinding, "reference value %s names registers of a TPM that nothing ties to the processor beside it", v.ID)
	}
	var shown []string
	for _, m := range in.Claims.Shown() {
		shown = append(shown, m.Name+" "+m.Value.String())
	}
	return failure(ReasonMeasurement, "%s is not among %d reference values", strings.Join(shown, ", "), r.measurements.count)
}

func judgeDebug(_ *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.Debug {
		return failure(ReasonDebug, "the host may read this guest's memory")
	}
	return nil
}

func judgeMigration(_ *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.Migratable {
		return failure(ReasonMigration, "this guest may be moved to another machine while it runs")
	}
	return nil
}

// member accepts a listed value. Zeros are never one: the parser refuses them.
func member(reason refusal.Reason, allowed map[string]bool, value []byte) *Failure {
	if !allowed[string(value)] || allZero(value) {
		return failure(reason, "%x is not among %d allowed", value, len(allowed))
	}
	return nil
}

func judgeAgentBuild(_ *Policy, r *requirements, in Input) *Failure {
	return stated(ReasonAgentBuild, r.agentBuilds, in.Guest.AgentBuild)
}

func judgeImage(_ *Policy, r *requirements, in Input) *Failure {
	return stated(ReasonImage, r.images, in.Guest.ImageID)
}

func judgeTenant(_ *Policy, r *requirements, in Input) *Failure {
	return stated(ReasonTenant, r.tenants, in.Guest.Tenant)
}

func stated(reason refusal.Reason, allowed map[string]bool, value string) *Failure {
	if value == "" || !allowed[value] {
		return failure(reason, "%q is not among %d allowed", value, len(allowed))
	}
	return nil
}

// memoryText is a limit in the unit in which policies state it, where it is a whole number of it.
func memoryText(limit uint64) string {
	switch {
	case limit == 0:
		return "none"
	case limit%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", limit>>20)
	}
	return fmt.Sprintf("%d bytes", limit)
}

func judgeMemoryLimit(_ *Policy, r *requirements, in Input) *Failure {
	limit := in.Guest.MemoryLimit
	if limit < r.memory.MinMiB<<20 || limit > r.memory.MaxMiB<<20 {
		return failure(ReasonMemoryLimit, "%s; allowed are %d to %d MiB", memoryText(limit), r.memory.MinMiB, r.memory.MaxMiB)
	}
	return nil
}

// judgeClockSource refuses a clock that is not listed. A policy without a list
// accepts every clock: the broker's own clock decides about renewals anyway, and
// a list of none would lock out most kernels in use.
func judgeClockSource(_ *Policy, r *requirements, in Input) *Failure {
	if r.clocks == nil {
		return nil
	}
	if c := in.Guest.ClockSource; c == evidence.ClockUnknown || !r.clocks[c.String()] {
		return failure(ReasonClockSource, "the guest counts its lease on %q; allowed: %s", c, strings.Join(sortedKeys(r.clocks), ", "))
	}
	return nil
}
