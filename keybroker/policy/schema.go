package policy

// Document is the policy file. This struct is its manual. Every check of a
// guest is either configured under require or waived in writing under waive;
// a policy in which one is neither does not load. Put hexadecimal values in
// quotes: YAML reads one that has only digits as a number, and then it is refused.
type Document struct {
	// Format is the version of this file format: 2.
	Format int `yaml:"format" json:"format"`
	// ID names the policy.
	ID string `yaml:"id" json:"id"`
	// Version counts the policy's revisions, from 1.
	Version uint64 `yaml:"version" json:"version"`
	// Description is for people.
	Description string `yaml:"description" json:"description,omitempty"`
	// NotBefore and NotAfter bound the policy's own life (RFC 3339). Before
	// and after it, everything is refused.
	NotBefore string `yaml:"not_before" json:"not_before"`
	NotAfter  string `yaml:"not_after" json:"not_after"`
	// AttestationTTLSeconds is how long a lease lasts, 300 to 900.
	AttestationTTLSeconds int `yaml:"attestation_ttl_seconds" json:"attestation_ttl_seconds"`
	// AllowSoftwareTEE accepts evidence of the software TEE. Only a
	// development build of the broker can appraise it at all.
	AllowSoftwareTEE bool `yaml:"allow_software_tee" json:"allow_software_tee"`
	// AllowMilan accepts first-generation SNP parts, whose report keys have
	// been extracted in software.
	AllowMilan bool `yaml:"allow_milan" json:"allow_milan"`
	// Require is what every guest must satisfy, whatever it asks for.
	Require Require `yaml:"require" json:"require"`
	// Waive lists the checks that are left out, each with its reason.
	Waive []Waiver `yaml:"waive" json:"waive"`
	// Rules say which resources exist for guests. The most specific rule
	// decides; a resource that no rule names is refused.
	Rules []Rule `yaml:"rules" json:"rules"`
}

// Waiver leaves a check out. It is logged and shown with every decision.
type Waiver struct {
	// Check is the name of the check.
	Check string `yaml:"check" json:"check"`
	// Reason says why; it is not optional.
	Reason string `yaml:"reason" json:"reason"`
}

// Rule opens some resources, perhaps to fewer guests than the policy accepts.
type Rule struct {
	// Resources are exact names ("models/tiny") or subtrees ("models/*").
	Resources []string `yaml:"resources" json:"resources"`
	// Roles are what a guest that gets one of these resources may sign for: "serve",
	// "contribute", "decrypt", "party". Without any it is "serve": receipts of answers
	// of the models whose keys it was given, and nothing else. Resources of the classes
	// "secrets" and "volumes" are for other services of the guest: their rules have none.
	Roles []string `yaml:"roles" json:"roles,omitzero"`
	// LocalRestart permits a guest that got these resources to restart without the broker. Without
	// it no guest may.
	LocalRestart *LocalRestart `yaml:"local_restart" json:"local_restart,omitempty"`
	// Require narrows: a guest must satisfy this and the policy's own.
	Require Require `yaml:"require" json:"require"`
}

// Require is a set of requirements. An absent field requires nothing here. What concerns one kind of
// proof stands under its name, and is asked for where evidence of such a kind is accepted.
type Require struct {
	// Kinds are the kinds of evidence that are accepted: "sev-snp", "tdx", "vtpm",
	// "azure-sev-snp", "azure-tdx". The policy's own are required; a rule's narrow them.
	Kinds []string `yaml:"kinds" json:"kinds,omitempty"`
	// ReferenceValues are ids of imported reference values ("image-7") or
	// subtrees of ids ("images/*"). The measurements must be those of one of them.
	ReferenceValues []string `yaml:"reference_values" json:"reference_values,omitempty"`
	// AgentBuilds, ImageIDs and Tenants are what the guest may state of itself.
	AgentBuilds []string `yaml:"agent_builds" json:"agent_builds,omitempty"`
	ImageIDs    []string `yaml:"image_ids" json:"image_ids,omitempty"`
	Tenants     []string `yaml:"tenants" json:"tenants,omitempty"`
	// MemoryLimit bounds the guest's memory limit.
	MemoryLimit *MemoryRange `yaml:"memory_limit" json:"memory_limit,omitempty"`
	// ClockSources are the clocks that a guest may count its lease on
	// ("secure-tsc", "tdx-tsc", "tsc", "paravirtual", "timer"). Without this any
	// is accepted: few kernels in use have one that the host cannot slow.
	ClockSources []string `yaml:"clock_sources" json:"clock_sources,omitempty"`
	// SNP, TDX, TPM, Azure, EventLog and GPU are about what each proof says.
	SNP      *RequireSNP      `yaml:"sev_snp" json:"sev_snp,omitempty"`
	TDX      *RequireTDX      `yaml:"tdx" json:"tdx,omitempty"`
	TPM      *RequireTPM      `yaml:"tpm" json:"tpm,omitempty"`
	Azure    *RequireAzure    `yaml:"azure" json:"azure,omitempty"`
	EventLog *RequireEventLog `yaml:"event_log" json:"event_log,omitempty"`
	GPU      *RequireGPU      `yaml:"gpu" json:"gpu,omitempty"`
}

// RequireSNP is about reports of AMD SEV-SNP.
type RequireSNP struct {
	// Products are the product lines: "Milan", "Genoa", "Turin".
	Products []string `yaml:"products" json:"products,omitempty"`
	// VMPL is the privilege level that the report must come from, exactly.
	VMPL *uint32 `yaml:"vmpl" json:"vmpl,omitempty"`
	// MinimumTCB lists the lowest acceptable TCB for each product.
	MinimumTCB []MinimumTCB `yaml:"minimum_tcb" json:"minimum_tcb,omitempty"`
	// MinimumFirmware is the lowest acceptable version of the firmware, current and
	// committed: "1.55.21".
	MinimumFirmware string `yaml:"minimum_firmware" json:"minimum_firmware,omitempty"`
	// MinimumReportVersion is the lowest acceptable version of the report's format, 2 to 5.
	MinimumReportVersion uint32 `yaml:"minimum_report_version" json:"minimum_report_version,omitempty"`
	// Mitigations are the numbers of the bits that must be set in the vectors of mitigations, at
	// launch and now. Only reports of version 5 have them.
	Mitigations []uint `yaml:"mitigations" json:"mitigations,omitempty"`
	// MinimumGuestSVN is the lowest acceptable security version in the ID block.
	MinimumGuestSVN uint32 `yaml:"minimum_guest_svn" json:"minimum_guest_svn,omitempty"`
	// ChipIDs are the chips that are enrolled, in hexadecimal.
	ChipIDs []string `yaml:"chip_ids" json:"chip_ids,omitempty"`
	// PlatformInfo are the bits that must be set and those that must be clear.
	PlatformInfo *Bits `yaml:"platform_info" json:"platform_info,omitempty"`
	// GuestPolicy are the bits of the launch policy that must be set and clear.
	GuestPolicy *Bits `yaml:"guest_policy" json:"guest_policy,omitempty"`
	// IDKeyDigests and AuthorKeyDigests are the digests of the ID block's keys
	// (SHA-384, hexadecimal).
	IDKeyDigests     []string `yaml:"id_key_digests" json:"id_key_digests,omitempty"`
	AuthorKeyDigests []string `yaml:"author_key_digests" json:"author_key_digests,omitempty"`
	// FamilyIDs and BlockImageIDs are the ids in the ID block (16 bytes, hexadecimal).
	FamilyIDs     []string `yaml:"family_ids" json:"family_ids,omitempty"`
	BlockImageIDs []string `yaml:"id_block_image_ids" json:"id_block_image_ids,omitempty"`
	// HostData are the accepted values of HOST_DATA (32 bytes, hexadecimal).
	HostData []string `yaml:"host_data" json:"host_data,omitempty"`
	// VLEKProviders are the cloud providers whose VLEK-signed reports are
	// accepted. Such a report names no chip. Without this only VCEK is accepted.
	VLEKProviders []string `yaml:"vlek_providers" json:"vlek_providers,omitempty"`
}

// MinimumTCB is the lowest acceptable TCB of one product. All stands for each
// of the four that is not given.
type MinimumTCB struct {
	Product   string `yaml:"product" json:"product"`
	All       *TCB   `yaml:"all" json:"all,omitempty"`
	Reported  *TCB   `yaml:"reported" json:"reported,omitempty"`
	Committed *TCB   `yaml:"committed" json:"committed,omitempty"`
	Launch    *TCB   `yaml:"launch" json:"launch,omitempty"`
	Current   *TCB   `yaml:"current" json:"current,omitempty"`
}

// TCB is a vector of security version numbers; each component is a minimum.
type TCB struct {
	FMC        uint8 `yaml:"fmc" json:"fmc"`
	Bootloader uint8 `yaml:"bootloader" json:"bootloader"`
	TEE        uint8 `yaml:"tee" json:"tee"`
	SNP        uint8 `yaml:"snp" json:"snp"`
	Microcode  uint8 `yaml:"microcode" json:"microcode"`
}

// Bits names bits that must be set and bits that must be clear.
type Bits struct {
	Set   []string `yaml:"set" json:"set,omitempty"`
	Clear []string `yaml:"clear" json:"clear,omitempty"`
}

// MemoryRange bounds the guest's memory limit in MiB, both ends included.
type MemoryRange struct {
	MinMiB uint64 `yaml:"min_mib" json:"min_mib"`
	MaxMiB uint64 `yaml:"max_mib" json:"max_mib"`
}
