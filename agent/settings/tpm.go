package settings

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names of the keys with which a TPM quotes, for compute.tee.tpm.key. Beside them stands the handle
// of a persistent key, such as "0x81010001".
const (
	// KeyOwn is made of the endorsement hierarchy's seed, and the same at each start. It has no
	// certificate: the broker's operator enrols it. It is the default.
	KeyOwn = "own"
	// KeyOwner is the same in the owner's hierarchy, which a reset of the TPM replaces.
	KeyOwner = "owner"
	// KeyGoogle and KeyGoogleECC are Google Compute Engine's, with a certificate of Google's.
	KeyGoogle    = "google"
	KeyGoogleECC = "google_ecc"
)

// LogNone as compute.tee.tpm.event_log leaves the event log out.
const LogNone = "none"

// TPM says which TPM quotes what, and with which key.
type TPM struct {
	// Device is the TPM's device, or the unix socket of an emulator; /dev/tpmrm0 by default.
	Device string `yaml:"device"`
	// Key is "own" (the default), "owner", "google", "google_ecc", or a persistent key's handle.
	// Azure's is fixed.
	Key string `yaml:"key"`
	// Bank is "sha256", the default, or "sha384".
	Bank string `yaml:"bank"`
	// PCRs are the registers to quote; 0 to 9, 11 and 14 by default. Brokers want 0, 4 and 7 of
	// everybody.
	PCRs []int `yaml:"pcrs"`
	// EventLog is the kernel's file of the measured boot, by default that of the first TPM, or
	// "none". Beside a processor of TDX the trust domain's own log is sent unless a file is named
	// here, for evidence holds one log.
	EventLog string `yaml:"event_log"`
}

// DefaultPCRs are the registers that are quoted where none are named: the firmware and what it
// starts (0 to 9), a unified kernel image with what is given to it (11 to 13) and the machine owner's keys (14).
func DefaultPCRs() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14} }

// alwaysQuoted are the registers that brokers want of every quote: firmware, boot loader, Secure
// Boot.
func alwaysQuoted() []int { return []int{0, 4, 7} }

// Handle is the handle of a persistent key, if the key is named by one.
func (t TPM) Handle() (uint32, bool) {
	n, err := strconv.ParseUint(t.Key, 0, 32)
	return uint32(n), err == nil && strings.HasPrefix(t.Key, "0x") && n>>24 == 0x81
}

const maxPCR = 23

func (t TPM) check(f *Findings) {
	const field = "compute.tee.tpm."
	for _, path := range [][2]string{{"device", t.Device}, {"event_log", t.EventLog}} {
		if path[1] != "" && path[1] != LogNone && !filepath.IsAbs(path[1]) {
			f.errorf(field+"%s: %q is not an absolute path", path[0], path[1])
		}
	}
	if _, handle := t.Handle(); !handle && !slices.Contains([]string{"", KeyOwn, KeyOwner, KeyGoogle, KeyGoogleECC}, t.Key) {
		f.errorf(field+"key: %q is unknown; use own, owner, google, google_ecc, or the handle of a persistent key in quotes, from \"0x81000000\" to \"0x81ffffff\"", t.Key)
	}
	if !slices.Contains([]string{"", "sha256", "sha384"}, t.Bank) {
		f.errorf(field+"bank: %q is refused; use sha256 or sha384", t.Bank)
	}
	if len(t.PCRs) == 0 {
		return
	}
	for _, n := range t.PCRs {
		if n < 0 || n > maxPCR {
			f.errorf(field+"pcrs: there is no PCR %d; they are 0 to %d", n, maxPCR)
		}
	}
	for _, n := range alwaysQuoted() {
		if !slices.Contains(t.PCRs, n) {
			f.errorf(field+"pcrs: %d is missing; brokers refuse quotes without 0, 4 and 7", n)
		}
	}
}

// checkTPM finds what is wrong with the TPM's settings and the provider together.
func (c Compute) checkTPM(f *Findings) {
	p, t := c.TEE.Provider, c.TEE.TPM
	switch p {
	case ProviderVTPM, ProviderSoftwareVTPM:
		if len(c.TEE.MeasurementWhitelist) > 0 {
			f.errorf("compute.tee.measurement_whitelist: a TPM measures no launch; have the broker's policy require PCRs, and leave the list out")
		}
	case ProviderAzure, ProviderSoftwareAzureSNP, ProviderSoftwareAzureTDX:
		if t != nil && t.Key != "" {
			f.errorf("compute.tee.tpm.key: under Azure's paravisor the processor vouches for one key alone; leave it out")
		}
	case ProviderSNP, ProviderTDX:
	default:
		if t != nil {
			f.errorf("compute.tee.tpm: it goes with the providers vtpm, azure, amd_sev_snp and intel_tdx; name one of them")
			return
		}
	}
	if t == nil {
		return
	}
	t.check(f)
	if c.Software() && t.Device+t.Key+t.EventLog != "" {
		f.errorf("compute.tee.tpm: an emulated TPM has bank and pcrs, and no device, key or event_log")
	}
}
