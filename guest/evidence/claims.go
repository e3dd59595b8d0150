package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// Hex is a byte string that shows as lower-case hexadecimal.
type Hex []byte

// MarshalText shows the bytes in hexadecimal.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// String shows the bytes in hexadecimal.
func (h Hex) String() string { return hex.EncodeToString(h) }

// Product is a processor line: "Milan", "Genoa", "Turin", "TDX", or "TPM".
type Product string

// TCB is one version of the platform's trusted software, by component (SEV-SNP
// ABI specification, TCB_VERSION). FMC exists from Turin on.
type TCB struct {
	FMC        uint8 `json:"fmc,omitempty"`
	BootLoader uint8 `json:"boot_loader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// TCBs are the four versions in a report.
type TCBs struct {
	// Current is the version that runs now.
	Current TCB `json:"current"`
	// Reported is the version for which the signing key was derived.
	Reported TCB `json:"reported"`
	// Committed is the version below which the platform cannot be rolled back.
	Committed TCB `json:"committed"`
	// Launch is the version that ran when the guest was launched.
	Launch TCB `json:"launch"`
}

// PolicyBits is the guest policy of an SEV-SNP report.
type PolicyBits uint64

// PlatformInfo is the platform information of an SEV-SNP report.
type PlatformInfo uint64

// Claims are the properties of a guest that an appraisal confirmed. A policy decides on them. They
// have a head that all kinds of evidence share, and a part for each kind of proof; a part is nil
// where there was no such proof.
type Claims struct {
	// Format is the version of this form: 2.
	Format int `json:"format"`
	// Kind is the kind of evidence.
	Kind Kind `json:"kind"`
	// SoftwareTEE: signed by the software TEE. It proves nothing.
	SoftwareTEE bool `json:"software_tee"`
	// Challenge is the data that the evidence was made for, 64 bytes: it is fresh.
	Challenge Hex `json:"challenge"`
	// Debug: the host may read the guest's memory.
	Debug bool `json:"debug"`
	// Migratable: the guest may be moved to another machine while it runs.
	Migratable bool `json:"migratable"`
	// Platform is the processor line: "Milan", "Genoa", "Turin", "TDX", or "TPM" where only a TPM
	// speaks.
	Platform Product `json:"platform"`
	// Firmware is the platform's level in words, for people; the parts below have the numbers.
	Firmware string `json:"firmware"`
	// Registers are the measurements that identify the software, sorted by name.
	Registers []Measured `json:"registers"`

	SNP   *SNPClaims   `json:"sev_snp,omitempty"`
	TDX   *TDXClaims   `json:"tdx,omitempty"`
	TPM   *TPMClaims   `json:"tpm,omitempty"`
	Azure *AzureClaims `json:"azure,omitempty"`
	// EventLog is the log behind the registers that the primary part states.
	EventLog *EventLogClaims `json:"event_log,omitempty"`
	GPUs     []GPUClaims     `json:"gpus,omitempty"`
	// TPMEventLog is the log behind the PCRs of a TPM beside a processor, which does not vouch for it.
	TPMEventLog *EventLogClaims `json:"tpm_event_log,omitempty"`
}

// ClaimsFormat is the version of Claims.
const ClaimsFormat = 2

// Coverage says what a measurement is of.
type Coverage string

// Coverages.
const (
	// CoversFirmware: the firmware alone. Any image starts under it.
	CoversFirmware Coverage = "firmware"
	// CoversImage: what the firmware started, such as a kernel, its initrd and its command line.
	CoversImage Coverage = "image"
	// CoversLaunch: the memory at launch. That is the firmware alone, or, where the firmware
	// checks the hashes of kernel, initrd and command line that were measured with it, the image:
	// only who computed the reference value knows.
	CoversLaunch Coverage = "launch"
	// CoversData: configuration that the host or the owner chose.
	CoversData Coverage = "data"
)

// Measured is a register and what it is of.
type Measured struct {
	Register
	Covers Coverage `json:"covers"`
}

// SNPClaims are what a verified SEV-SNP report says (56860, ATTESTATION_REPORT).
type SNPClaims struct {
	// ReportVersion is the version of the report's format.
	ReportVersion uint32 `json:"report_version"`
	// Measurement is the launch measurement, 48 bytes.
	Measurement Hex `json:"measurement"`
	// HostData is the host's data at launch, 32 bytes.
	HostData Hex `json:"host_data"`
	// ReportData is the data that the guest asked to have signed, 64 bytes.
	ReportData Hex `json:"report_data"`
	// ReportID names this guest instance, 32 bytes.
	ReportID Hex `json:"report_id"`
	// ReportIDMA names its migration agent, 32 bytes, all ones for none.
	ReportIDMA Hex `json:"report_id_ma"`
	// FamilyID and ImageID come from the ID block, 16 bytes each.
	FamilyID Hex `json:"family_id"`
	ImageID  Hex `json:"image_id"`
	// IDKeyDigest is the digest of the key that signed the ID block, 48 bytes, zero for none.
	IDKeyDigest Hex `json:"id_key_digest"`
	// AuthorKeyDigest is the digest of the key that certified it, 48 bytes, zero for none.
	AuthorKeyDigest Hex `json:"author_key_digest"`
	// GuestSVN is the guest's security version.
	GuestSVN uint32 `json:"guest_svn"`
	// ChipID names the chip, 64 bytes; zero when masked.
	ChipID Hex `json:"chip_id"`
	// TCB are the platform's versions.
	TCB TCBs `json:"tcb"`
	// VMPL is the privilege level that asked for the report; 0 is highest.
	VMPL uint32 `json:"vmpl"`
	// PolicyBits is the guest policy as signed.
	PolicyBits PolicyBits `json:"policy_bits"`
	// PlatformInfo is the platform information as signed.
	PlatformInfo PlatformInfo `json:"platform_info"`
	// CurrentVersion and CommittedVersion are the firmware's, major.minor.build.
	CurrentVersion   string `json:"current_version"`
	CommittedVersion string `json:"committed_version"`
	// LaunchMitigations and CurrentMitigations are bit vectors (report version 5).
	LaunchMitigations  uint64 `json:"launch_mitigations"`
	CurrentMitigations uint64 `json:"current_mitigations"`
	// VLEK: signed with a provider's loaded key rather than the chip's own.
	VLEK bool `json:"vlek"`
	// CSPID names that provider.
	CSPID string `json:"csp_id,omitempty"`
	// ChipMasked: the chip id is masked by the platform.
	ChipMasked bool `json:"chip_masked"`
}

// Canonical returns the claims in the form that is hashed and kept: JSON as Go's encoder writes it,
// with the fields of each object in the order of their declaration here, the keys of "pcrs" and
// "measurements" sorted as text, absent optional fields left out, and no space between tokens.
func (c Claims) Canonical() ([]byte, error) { return json.Marshal(c) }

// Digest is the SHA-256 of the canonical form.
func (c Claims) Digest() [32]byte {
	data, err := c.Canonical()
	if err != nil {
		return [32]byte{} // no field of Claims can fail to encode
	}
	return sha256.Sum256(data)
}

// Instance names the guest instance by the hardware's word, 32 bytes that stay for as long as the
// guest runs: SEV-SNP's REPORT_ID, TDX's TD_UUID in bodies of type 4. Where the hardware has none, processor,
// TPM and image stand for it, and guests of one image on one platform share a name.
func (c Claims) Instance() [32]byte {
	if c.SNP != nil && len(c.SNP.ReportID) == 32 && [32]byte(c.SNP.ReportID) != [32]byte{} {
		return [32]byte(c.SNP.ReportID)
	}
	if c.TDX != nil && c.TDX.Extended != nil && len(c.TDX.Extended.TDID) == 32 && [32]byte(c.TDX.Extended.TDID) != [32]byte{} {
		return [32]byte(c.TDX.Extended.TDID)
	}
	h := sha256.New()
	h.Write(c.Processor())
	switch {
	case c.Azure != nil:
		h.Write(c.Azure.AK)
	case c.TPM != nil && !c.Kind.TPMBeside(): // there the guest may show any machine's
		h.Write(c.TPM.AKName)
		h.Write([]byte(c.TPM.AKSubject))
	}
	for _, r := range c.Image() { // others a guest can reset and extend, to go by many names
		if !extendedAtRunTime(r.Name) {
			h.Write(r.Value)
		}
	}
	return [32]byte(h.Sum(nil))
}

// extendedAtRunTime reports whether systems extend a register while they run: RTMR3, and PCR 10 to 13 and 15
// (UAPI group, Linux TPM PCR Registry).
func extendedAtRunTime(name string) bool {
	return slices.Contains([]string{"rtmr3", "pcr10", "pcr11", "pcr12", "pcr13", "pcr15"}, name)
}

// Processor names the processor: the chip's id of SEV-SNP, zero where it is masked; the platform instance of
// TDX, which may be several processors of one machine; nil where the evidence names none.
func (c Claims) Processor() []byte {
	if c.SNP != nil {
		return c.SNP.ChipID
	}
	if c.TDX != nil {
		return c.TDX.PlatformInstance
	}
	return nil
}

// Image are the registers that identify the software. Of a TPM beside a processor that does not vouch for it, those are
// the PCRs that the caller names, because a policy counted them: a guest may show any machine's TPM, and go
// by a name for each.
func (c Claims) Image(counted ...string) []Register {
	var out []Register
	for _, r := range c.Shown() {
		if !c.Kind.TPMBeside() || !strings.HasPrefix(r.Name, "pcr") || slices.Contains(counted, r.Name) {
			out = append(out, r)
		}
	}
	return out
}

// Shown are the registers of software that the evidence shows, of a TPM that nobody ties to the guest too.
func (c Claims) Shown() []Register {
	var out []Register
	for _, r := range c.Registers {
		if r.Covers != CoversData {
			out = append(out, r.Register)
		}
	}
	return out
}
