package kinds

import (
	"bytes"
	"context"

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
	want, err := loggedPCRs(log, *a.claims.TPM)
	if err != nil {
		return err
	}
	c, err := eventlog.Verify(log, eventlog.TCG, want)
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

// loggedPCRs are the quoted registers that the log has to lead to, and the stub's where it does: a policy that lists
// what may be started wants those, too.
func loggedPCRs(log []byte, tpm evidence.TPMClaims) (eventlog.Registers, error) {
	want := eventlog.Registers{}
	for n, value := range tpm.PCRs {
		if !extendedLater(n) {
			want[n] = value
		}
	}
	replayed, err := eventlog.Replay(log, eventlog.TCG, eventlog.Bank(tpm.Bank))
	if err != nil {
		return nil, err
	}
	for _, n := range stubPCRs() {
		value, quoted := tpm.PCRs[n]
		have, extended := replayed[n]
		if !extended {
			have = make(evidence.Hex, len(value))
		}
		if quoted && bytes.Equal(have, value) {
			want[n] = value
		}
	}
	return want, nil
}

// extendedLater reports whether systems extend a PCR outside the firmware's log: 10 by IMA, 11 to 13
// and 15 by systemd (UAPI group, Linux TPM PCR Registry).
func extendedLater(pcr int) bool { return pcr >= 10 && pcr <= 13 || pcr == 15 }

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
