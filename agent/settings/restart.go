package settings

import (
	"slices"
	"strconv"
	"strings"
)

// Ways to seal, for local_restart.seal: those that permits name (docs/protocol.md 5.12).
const (
	SealTPM  = "tpm"
	SealSNP  = "sev-snp"
	SealBoth = "sev-snp+tpm"
)

// LocalRestart has the agent seal its keys to this guest, so that after a restart it goes on serving while no broker
// answers, as far as its broker permitted that in writing. Without Seal nothing is sealed.
type LocalRestart struct {
	// Seal is what the keys are sealed with: "tpm", "sev-snp" (a key that the firmware derives) or "sev-snp+tpm".
	// A TPM counts restarts and is as secret as whoever emulates it; SEV-SNP is secret and does not count.
	Seal string `yaml:"seal"`
	// PCRs are the TPM's registers that must have the same values again; 0, 2, 4, 7 and 12 by default, and 4, 7 and 12
	// at least. GRUB measures what it starts, and with which command line, into 8 and 9: add both where it is used.
	// One that changes while the system runs, as 11 does, opens nothing.
	PCRs []int `yaml:"pcrs"`
	// Counter is the TPM's NV index that counts, from "0x01800000" to "0x01bfffff"; "0x0180ac01" by default.
	Counter string `yaml:"counter"`
}

// DefaultSealPCRs are the registers to seal to where none are named: firmware and its drivers, the first program,
// Secure Boot, and what is given to a unified kernel image. They do not change after the boot.
func DefaultSealPCRs() []int { return []int{0, 2, 4, 7, 12} }

// alwaysSealed name the first program, what may start, and what the host adds to a unified kernel image.
func alwaysSealed() []int { return []int{4, 7, 12} }

// Index is the counter's NV index; zero for the default.
func (l LocalRestart) Index() uint32 {
	n, err := strconv.ParseUint(l.Counter, 0, 32)
	if err != nil || !strings.HasPrefix(l.Counter, "0x") || n < 0x01800000 || n > 0x01bfffff {
		return 0
	}
	return uint32(n)
}

// UsesTPM and UsesSNP say which devices seal.
func (l LocalRestart) UsesTPM() bool { return l.Seal == SealTPM || l.Seal == SealBoth }

// UsesSNP says whether the processor's firmware derives a key.
func (l LocalRestart) UsesSNP() bool { return l.Seal == SealSNP || l.Seal == SealBoth }

func (c Config) checkLocalRestart(f *Findings) {
	const field = "local_restart."
	l, p := c.LocalRestart, c.Compute.TEE.Provider
	switch {
	case l.Seal == "":
		if len(l.PCRs) > 0 || l.Counter != "" {
			f.errorf(field+"seal is missing; use %s, %s or %s", SealTPM, SealSNP, SealBoth)
		}
		return
	case !l.UsesTPM() && !l.UsesSNP():
		f.errorf(field+"seal: %q is unknown; use %s, %s or %s", l.Seal, SealTPM, SealSNP, SealBoth)
		return
	}
	ownTPM := p == ProviderVTPM || p == ProviderAzure
	beside := (p == ProviderSNP || p == ProviderTDX) && c.Compute.TEE.TPM != nil
	if l.UsesTPM() && !ownTPM && !beside {
		f.errorf(field+"seal: %s needs the TPM of the providers vtpm and azure, or compute.tee.tpm beside amd_sev_snp or intel_tdx", l.Seal)
	}
	if l.UsesSNP() && p != ProviderSNP && p != ProviderSoftware {
		f.errorf(field+"seal: %s needs the provider amd_sev_snp", l.Seal)
	}
	if l.Seal == SealTPM && beside {
		instead := ""
		if p == ProviderSNP {
			instead = "; " + SealBoth + " does not show them to him"
		}
		f.noticef("%sseal: whoever emulates the TPM can open the keys, which the processor keeps from him otherwise%s", field, instead)
	}
	if !l.UsesTPM() && (len(l.PCRs) > 0 || l.Counter != "") {
		f.errorf("%spcrs and counter are of a TPM; leave them out", field)
	}
	if l.Counter != "" && l.Index() == 0 {
		f.errorf(field+"counter: %q is not an NV index from \"0x01800000\" to \"0x01bfffff\" in quotes", l.Counter)
	}
	for _, n := range l.PCRs {
		if n < 0 || n > maxPCR {
			f.errorf(field+"pcrs: there is no PCR %d; they are 0 to %d", n, maxPCR)
		}
	}
	for _, n := range alwaysSealed() {
		if len(l.PCRs) > 0 && !slices.Contains(l.PCRs, n) {
			f.errorf(field+"pcrs: %d is missing; without 4, 7 and 12 another system could open the keys", n)
		}
	}
	if len(c.Secrets) > 0 {
		f.noticef("%sseal: a permit serves models alone: after a restart without the broker there are no secrets until a lease brings them", field)
	}
	f.noticef("%sseal: while a permit lasts the broker cannot end what this guest does; it gives one only where its policy says local_restart", field)
}
