package evidence

// GPUArchitecture is a generation of NVIDIA's GPUs.
type GPUArchitecture string

// Architectures whose reports are judged.
const (
	GPUHopper    GPUArchitecture = "hopper"
	GPUBlackwell GPUArchitecture = "blackwell"
)

// GPUMode is how GPUs and guests share confidential computing, as the device states it.
type GPUMode string

// Modes (NVIDIA's opaque data, feature flag).
const (
	// GPUModeUnstated: the report has no feature flag. Hopper's have none.
	GPUModeUnstated GPUMode = ""
	// GPUModeSPT is one device passed through to one guest.
	GPUModeSPT GPUMode = "spt"
	// GPUModeMPT is several devices passed through to one guest, their links encrypted.
	GPUModeMPT GPUMode = "mpt"
	// GPUModePPCIe is several devices of one guest behind protected PCIe: links between devices
	// and through NVSwitches are not encrypted, and the switches must be attested too.
	GPUModePPCIe GPUMode = "ppcie"
)

// GPUClaims are what a verified measurement report of an NVIDIA GPU says (DMTF DSP0274, SPDM
// measurements; NVIDIA's opaque data).
type GPUClaims struct {
	// Architecture is "hopper" or "blackwell", as the root's own issue says.
	Architecture GPUArchitecture `json:"architecture"`
	// Software: the chain ends at an emulator's root. It proves nothing.
	Software bool `json:"software"`
	// Model is the chip, stepping and boot ROM that the device's own certificate names
	// ("GH100 A01 GSP BROM"), NVIDIA's "hwmodel".
	Model string `json:"model"`
	// Device is the serial number of the certificate that NVIDIA issued to the device when it was
	// made, in hexadecimal. It outlives every update of firmware.
	Device string `json:"device"`
	// UEID is the serial number of the report key's certificate, in decimal, as NVIDIA's tools
	// show it. It changes with the firmware.
	UEID string `json:"ueid"`
	// Chip is the chip by its report ("GB202"), if stated.
	Chip string `json:"chip,omitempty"`
	// Driver and VBIOS are the versions in the signed report ("550.90.07", "96.00.9f.00.01").
	Driver string `json:"driver"`
	VBIOS  string `json:"vbios"`
	// ChipSKU, Project and ProjectSKU name the product; together with VBIOS they select NVIDIA's
	// reference values.
	ChipSKU    string `json:"chip_sku,omitempty"`
	Project    string `json:"project,omitempty"`
	ProjectSKU string `json:"project_sku,omitempty"`
	// FWID is the digest of the firmware that holds the report key, SHA-384, as the key's
	// certificate states it.
	FWID Hex `json:"fwid"`
	// FWIDReported: the report states the same FWID. Drivers before the year 2024 leave it out.
	FWIDReported bool `json:"fwid_reported"`
	// Debug, Recovery, NotSecure and NotConfigured are what the key's certificate says of the
	// firmware (TCG DICE, OperationalFlags); Hopper's certificates say nothing, FlagsStated tells.
	FlagsStated   bool `json:"flags_stated"`
	Debug         bool `json:"debug"`
	Recovery      bool `json:"recovery"`
	NotSecure     bool `json:"not_secure"`
	NotConfigured bool `json:"not_configured"`
	// SVN is the firmware's security version by that certificate; nil if it does not state one.
	SVN *int64 `json:"svn,omitempty"`
	// Mode is as the report states it.
	Mode GPUMode `json:"mode"`
	// ProtectedPCIe and NVDEC0 are as the report states them; nil if it does not.
	ProtectedPCIe *bool `json:"protected_pcie,omitempty"`
	NVDEC0        *bool `json:"nvdec0,omitempty"`
	// RevocationChecked: lists or responses of NVIDIA's were asked about the chain.
	RevocationChecked bool `json:"revocation_checked"`
	// Measurements are the report's blocks by index, 48 bytes each. They are signed, but not
	// compared with reference values.
	Measurements map[int]Hex `json:"measurements"`
}
