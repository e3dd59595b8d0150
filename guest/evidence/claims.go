package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// Product is a processor line: "Milan", "Genoa" or "Turin".
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

// Claims are the properties of a guest that an appraisal confirmed. A policy decides on them.
type Claims struct {
	// Kind is the kind of evidence.
	Kind Kind `json:"kind"`
	// Product is the processor line.
	Product Product `json:"product"`
	// SoftwareTEE: signed by the software TEE. It proves nothing.
	SoftwareTEE bool `json:"software_tee"`
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
	// Debug: the host may read the guest's memory.
	Debug bool `json:"debug"`
	// MigrateMA: a migration agent may move the guest.
	MigrateMA bool `json:"migrate_ma"`
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

// Digest is the SHA-256 of the claims' JSON form, whose field order is fixed.
func (c Claims) Digest() [32]byte {
	data, err := json.Marshal(c)
	if err != nil {
		return [32]byte{} // no field of Claims can fail to encode
	}
	return sha256.Sum256(data)
}
