package kinds

import (
	"context"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
)

// logs replays the event logs, each of which must lead to registers that a quote stated.
func (a *appraisal) logs() error {
	if log := a.env.Part(evidence.PartCCLog); log != nil {
		if a.claims.TDX == nil {
			return refusal.New(ReasonLogWithoutQuote, "a log of RTMRs comes without a quote of TDX")
		}
		want := eventlog.Registers{}
		for i, value := range a.claims.TDX.RTMR[:lastRTMR] {
			want[i] = value
		}
		c, err := eventlog.Verify(log, eventlog.CCEL, want)
		if err != nil {
			return err
		}
		a.claims.EventLog = &c
	}
	log := a.env.Part(evidence.PartTCGLog)
	switch {
	case log == nil:
		return nil
	case a.claims.TPM == nil:
		return refusal.New(ReasonLogWithoutQuote, "a log of PCRs comes without a TPM's quote")
	}
	want, stub := loggedPCRs(a.claims.TPM.PCRs)
	c, err := eventlog.VerifyReached(log, eventlog.TCG, want, stub)
	if err != nil {
		return err
	}
	if a.env.Kind.TPMBeside() {
		a.claims.TPMEventLog = &c
	} else {
		a.claims.EventLog = &c
	}
	return nil
}

// lastRTMR is the register that systems extend outside the firmware's log: runtime events.
const lastRTMR = 3

// stubPCRs are the registers into which systemd-stub measures what it gives to a kernel from outside the image: its
// words and credentials (12), extensions of the system (13). The stub logs that as the firmware does; what a running
// system extends there later is in no log.
func stubPCRs() []int { return []int{12, 13} }

// loggedPCRs are the quoted registers that the log has to lead to, and apart from them those of the stub, which count
// where it does: a policy that lists what may be started wants those, too.
func loggedPCRs(quoted map[int]evidence.Hex) (want, stub eventlog.Registers) {
	want, stub = eventlog.Registers{}, eventlog.Registers{}
	for n, value := range quoted {
		switch {
		case slices.Contains(stubPCRs(), n):
			stub[n] = value
		case !extendedLater(n):
			want[n] = value
		}
	}
	return want, stub
}

// extendedLater reports whether systems extend a PCR outside the firmware's log, beside the stub's: 10 by IMA, 11
// and 15 by systemd (UAPI group, Linux TPM PCR Registry).
func extendedLater(pcr int) bool { return pcr == 10 || pcr == 11 || pcr == 15 }

// gpus verifies the reports of devices, each with its chain, and that they are different ones.
func (a *appraisal) gpus(ctx context.Context) error {
	reports, chains := a.env.All(evidence.PartGPUReport), a.env.All(evidence.PartGPUChain)
	switch {
	case len(reports) == 0 && len(chains) == 0:
		return nil
	case len(reports) != len(chains):
		return refusal.New(ReasonGPUParts, "%d reports come with %d chains", len(reports), len(chains))
	case a.v.o.GPU == nil:
		return refusal.New(ReasonKind, "the evidence has reports of GPUs")
	}
	list := make([]gpu.Evidence, len(reports))
	for i := range reports {
		chain, err := gpu.ParseChain(chains[i])
		if err != nil {
			return err
		}
		list[i] = gpu.Evidence{Report: reports[i], Chain: chain}
	}
	c, err := a.v.o.GPU.AppraiseAll(ctx, list, a.nonces.GPU, a.now)
	a.claims.GPUs = c
	return err
}
