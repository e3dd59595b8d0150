package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// maxPCR is the highest register of a TPM.
const maxPCR = 23

// logRequirements is a checked RequireEventLog.
type logRequirements struct {
	registers  []string
	secureBoot *bool
	boot       map[string]bool
}

// gpuRequirements is a checked RequireGPU.
type gpuRequirements struct {
	minimum                              int
	architectures, drivers, vbios, modes map[string]bool
}

func judgeTPMKey(_ *Policy, r *requirements, in Input) *Failure {
	if trust := in.Claims.TPM.AKTrust; trust == "" || !r.akTrust[string(trust)] {
		return failure(ReasonTPMKey, "the key of the quote is believed by %q; accepted: %s", trust, strings.Join(sortedKeys(r.akTrust), ", "))
	}
	return nil
}

func judgeTPMPCRs(_ *Policy, r *requirements, in Input) *Failure {
	for _, n := range r.pcrs {
		if len(in.Claims.TPM.PCRs[n]) == 0 {
			return failure(ReasonTPMPCRs, "PCR %d is not in the quote", n)
		}
	}
	return nil
}

func judgeAzure(_ *Policy, r *requirements, in Input) *Failure {
	c := in.Claims.Azure
	for _, f := range []struct {
		name       string
		have, want *bool
	}{{"secure boot", c.SecureBoot, r.azure.SecureBoot}, {"persistence of the TPM", c.TPMPersisted, r.azure.TPMPersisted}, {"the console", c.Console, r.azure.ConsoleEnabled}} {
		if text := differs(f.have, f.want); text != "" {
			return failure(ReasonAzure, "%s %s", f.name, text)
		}
	}
	return nil
}

// differs says how a statement differs from what is wanted, or "". Silence is no statement.
func differs(have, want *bool) string {
	switch {
	case want == nil:
		return ""
	case have == nil:
		return fmt.Sprintf("is not stated, want %t", *want)
	case *have != *want:
		return fmt.Sprintf("is %t, want %t", *have, *want)
	}
	return ""
}

func judgeEventLog(_ *Policy, r *requirements, in Input) *Failure {
	log := in.Claims.EventLog
	if log == nil {
		return failure(ReasonEventLog, "the evidence has no event log")
	}
	wanted := logged(in.Claims.Kind, r.log.registers)
	if len(wanted) == 0 {
		return failure(ReasonEventLog, "none of %s is a register that the log of %s leads to", strings.Join(r.log.registers, ", "), in.Claims.Kind)
	}
	return r.log.judge(log, wanted)
}

// judgeTPMEventLog wants the log of a TPM beside the processor's report where the policy names PCRs, and says what ties
// that TPM to the guest: the log of any other machine's proves nothing.
func judgeTPMEventLog(p *Policy, r *requirements, in Input) *Failure {
	if r.log == nil || !p.tpmBound(in.Resource) {
		return nil
	}
	wanted := besideLogged(r.log)
	if len(wanted) == 0 {
		return nil
	}
	if in.Claims.TPM == nil || in.Claims.TPMEventLog == nil {
		return failure(ReasonEventLog, "the evidence has no event log of a TPM beside the processor's report")
	}
	return r.log.judge(in.Claims.TPMEventLog, wanted)
}

// judge looks at a log, which must lead to the registers wanted.
func (r *logRequirements) judge(log *evidence.EventLogClaims, wanted []string) *Failure {
	for _, name := range wanted {
		if !slices.Contains(log.Registers, name) {
			return failure(ReasonEventLog, "the log does not lead to the value of %s", name)
		}
	}
	if text := differs(log.SecureBoot, r.secureBoot); text != "" {
		return failure(ReasonEventLog, "Secure Boot %s", text)
	}
	if r.boot == nil {
		return nil
	}
	if len(log.Boot) == 0 || len(log.Boot) >= evidence.MaxBootEvents {
		return failure(ReasonEventLog, "the log names %d started programs", len(log.Boot))
	}
	for _, e := range log.Boot {
		if !r.boot[string(e.Digest)] {
			return failure(ReasonEventLog, "%s with digest %s is not among %d allowed", e.Type, e.Digest, len(r.boot))
		}
	}
	return nil
}

// logged are those of some registers that the log of a kind of evidence leads to. The log of a TPM beside a
// processor is another one: see besideLogged.
func logged(kind evidence.Kind, registers []string) []string {
	prefix := "rtmr"
	if ofTPM.covers(kind) {
		prefix = "pcr"
	}
	return slices.DeleteFunc(slices.Clone(registers), func(name string) bool {
		return !ofLog.covers(kind) || !strings.HasPrefix(name, prefix) || registerBytes(kind, name) == nil
	})
}

// besideLogged are the registers that the log of a TPM beside a processor has to lead to.
func besideLogged(log *logRequirements) []string {
	return slices.DeleteFunc(slices.Clone(log.registers), func(name string) bool {
		return !strings.HasPrefix(name, "pcr") || registerBytes(evidence.KindVTPM, name) == nil
	})
}

// bootPCRs are bootRegisters of a TPM.
func bootPCRs() []string { return []string{"pcr4", "pcr8", "pcr9", "pcr12", "pcr13"} }

// bootRegisters are those into which boot loaders and kernels measure what they start and the words that they
// give it. A guest chooses the PCRs that are quoted, and of those alone the log's events are judged: without
// PCR 9, GRUB may have started any kernel (UAPI group, Linux TPM PCR Registry).
func bootRegisters(kind evidence.Kind) []string {
	switch {
	case ofTPM.covers(kind):
		return bootPCRs()
	case ofLog.covers(kind):
		return []string{"rtmr1", "rtmr2"}
	}
	return nil
}

// checkLog wants of each kind of evidence with a log at least one register, and no register that none has. A
// TPM beside a processor has one that counts if the TPM is bound.
func checkLog(log *logRequirements, kinds map[string]bool, bound bool) error {
	if log == nil {
		return nil
	}
	known := map[string]bool{}
	for _, kind := range sortedKeys(kinds) {
		names := logged(evidence.Kind(kind), log.registers)
		if len(names) == 0 && ofLog.covers(evidence.Kind(kind)) {
			return invalid("event_log.registers: the log of %s leads to none of %s", kind, strings.Join(log.registers, ", "))
		}
		boot := bootRegisters(evidence.Kind(kind))
		if beside := besideLogged(log); bound && ofBeside.covers(evidence.Kind(kind)) && len(beside) > 0 {
			names, boot = append(names, beside...), append(boot, bootPCRs()...)
		}
		for _, name := range boot {
			if log.boot != nil && !slices.Contains(names, name) {
				return invalid("event_log.boot: name %s under registers, or what is measured there into a guest of %s is not seen", name, kind)
			}
		}
		for _, name := range names {
			known[name] = true
		}
	}
	for _, name := range log.registers {
		if !known[name] {
			return invalid("event_log.registers: no log of the accepted kinds leads to %q; that of a TPM beside a processor counts where tpm.binding is required", name)
		}
	}
	return nil
}

// judgeGPU looks at devices only where a policy asks for them: an unwanted report is
// no danger.
func judgeGPU(p *Policy, r *requirements, in Input) *Failure {
	if r.gpu == nil {
		return nil
	}
	if n := len(in.Claims.GPUs); n < r.gpu.minimum {
		return failure(ReasonGPU, "the evidence has %d devices, the minimum is %d", n, r.gpu.minimum)
	}
	for _, g := range in.Claims.GPUs {
		if g.Software && !p.doc.AllowSoftwareTEE {
			return failure(ReasonGPU, "device %s is an emulator's", g.Device)
		}
		// NotConfigured is set in certificates of real Blackwell devices in use.
		if g.Debug || g.Recovery || g.NotSecure {
			return failure(ReasonGPU, "the firmware of device %s is in debug or recovery mode, not secured, or not configured", g.Device)
		}
		for _, f := range []struct {
			name, value string
			allowed     map[string]bool
		}{{"architecture", string(g.Architecture), r.gpu.architectures}, {"driver", g.Driver, r.gpu.drivers}, {"VBIOS", g.VBIOS, r.gpu.vbios}, {"mode", string(g.Mode), r.gpu.modes}} {
			if f.allowed != nil && !f.allowed[f.value] {
				return failure(ReasonGPU, "device %s: %s %q is not among %d allowed", g.Device, f.name, f.value, len(f.allowed))
			}
		}
	}
	return nil
}

// compileTPM checks what concerns quotes of a TPM, Azure, logs and GPUs.
func compileTPM(r Require, out *requirements) (err error) {
	if r.TPM != nil {
		if out.akTrust, err = set(r.TPM.AKTrust, 0, "tpm.ak_trust"); err != nil {
			return err
		}
		for name := range out.akTrust {
			if !knownTrust(name) {
				return invalid("tpm.ak_trust: %q is unknown (known: %s, %s, %s)", name, evidence.AKCertificate, evidence.AKReport, evidence.AKEnrolled)
			}
		}
		if out.pcrs, err = compilePCRs(r.TPM.PCRs); err != nil {
			return err
		}
		if err = compileBeside(r.TPM, out); err != nil {
			return err
		}
	}
	if a := r.Azure; a != nil {
		if a.SecureBoot == nil && a.TPMPersisted == nil && a.ConsoleEnabled == nil {
			return invalid("azure: it asks for nothing; waive azure-configuration if that is meant")
		}
		out.azure = a
	}
	if out.log, err = compileLog(r.EventLog); err != nil {
		return err
	}
	out.gpu, err = compileGPU(r.GPU)
	return err
}

func compilePCRs(list []int) ([]int, error) {
	if list == nil {
		return nil, nil
	}
	sorted := slices.Sorted(slices.Values(list))
	if len(list) == 0 || sorted[0] < 0 || sorted[len(sorted)-1] > maxPCR || len(slices.Compact(slices.Clone(sorted))) != len(list) {
		return nil, invalid("tpm.pcrs: got %v, want different numbers from 0 to %d", list, maxPCR)
	}
	return sorted, nil
}

func compileLog(r *RequireEventLog) (*logRequirements, error) {
	if r == nil {
		return nil, nil
	}
	if len(r.Registers) == 0 {
		return nil, invalid("event_log.registers: name the registers that the log must lead to, such as rtmr1 or pcr4")
	}
	out := &logRequirements{registers: r.Registers, secureBoot: r.SecureBoot}
	if _, err := set(r.Registers, 0, "event_log.registers"); err != nil {
		return nil, err
	}
	for _, d := range r.Boot {
		b, err := hex.DecodeString(d)
		if err != nil || len(b) != 32 && len(b) != 48 {
			return nil, invalid("event_log.boot: %q is not the hexadecimal form of a SHA-256 or SHA-384 digest", d)
		}
		if out.boot == nil {
			out.boot = map[string]bool{}
		}
		out.boot[string(b)] = true
	}
	return out, nil
}

func compileGPU(r *RequireGPU) (*gpuRequirements, error) {
	if r == nil {
		return nil, nil
	}
	if r.Minimum < 1 || r.Minimum > evidence.MaxGPUs { // a guest that shows none would pass all the rest
		return nil, invalid("gpu.minimum: got %d, want 1 to %d", r.Minimum, evidence.MaxGPUs)
	}
	out := &gpuRequirements{minimum: r.Minimum}
	return out, sets([]listed{{&out.architectures, r.Architectures, 0, "gpu.architectures"}, {&out.drivers, r.Drivers, 0, "gpu.drivers"}, {&out.vbios, r.VBIOS, 0, "gpu.vbios"}, {&out.modes, r.Modes, 0, "gpu.modes"}})
}

// describeTPM says what a check of a TPM, of Azure, of a log or of GPUs asks for.
func describeTPM(id int, r *requirements) string {
	switch id {
	case checkTPMKey:
		return "a key that is believed by " + strings.Join(sortedKeys(r.akTrust), ", ")
	case checkTPMPCRs:
		return fmt.Sprintf("PCRs %v are quoted", r.pcrs)
	case checkTPMBinding:
		if r.binding == nil {
			return "no TPM asked for"
		}
		return "a TPM beside the processor's report, tied to the guest by " + strings.Join(sortedKeys(r.binding), ", ")
	case checkTPMInstance:
		if r.instances == nil {
			return "any machine whose key is believed"
		}
		return fmt.Sprintf("the certificate is of one of %d projects, zones or machines", len(r.instances))
	case checkAzure:
		return "the virtual machine's configuration as given"
	case checkEventLog, checkTPMEventLog:
		if r.log == nil {
			return "no log asked for"
		}
		text := "a log that leads to " + strings.Join(r.log.registers, ", ")
		if r.log.secureBoot != nil {
			text += fmt.Sprintf(", Secure Boot %t", *r.log.secureBoot)
		}
		if r.log.boot != nil {
			text += fmt.Sprintf(", nothing started but %d digests", len(r.log.boot))
		}
		return text
	}
	if r.gpu == nil {
		return "none asked for"
	}
	return fmt.Sprintf("at least %d; their measurements are signed, and compared with nothing", r.gpu.minimum)
}
