package policy

// RequireTDX is about quotes of Intel TDX.
type RequireTDX struct {
	// TCBStatuses are Intel's words for platforms that are accepted: "UpToDate",
	// "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
	// "OutOfDateConfigurationNeeded". "Revoked", and a platform that no level matches, never are.
	TCBStatuses []string `yaml:"tcb_statuses" json:"tcb_statuses,omitempty"`
	// Grace accepts one more status until a date, in writing.
	Grace *TCBGrace `yaml:"tcb_grace" json:"tcb_grace,omitempty"`
	// AcceptedAdvisories are Intel's advisories that may apply to the platform
	// ("INTEL-SA-00837"). An empty list accepts none.
	AcceptedAdvisories *[]string `yaml:"accepted_advisories" json:"accepted_advisories,omitempty"`
	// MinimumEvaluationNumber is the lowest tcbEvaluationDataNumber that Intel's documents may have.
	MinimumEvaluationNumber uint32 `yaml:"minimum_evaluation_number" json:"minimum_evaluation_number,omitempty"`
	// Attributes are the bits of TDATTRIBUTES that must be set and clear. Debug, migration and
	// "sept-ve-disable" have checks of their own.
	Attributes *Bits `yaml:"attributes" json:"attributes,omitempty"`
	// XFAM are the processor features that a guest may use: "x87", "sse", "avx", "avx-512", "pt",
	// "pkru", "cet", "uintr", "lbr", "amx".
	XFAM []string `yaml:"xfam" json:"xfam,omitempty"`
	// MRSEAM are the accepted TDX modules (48 bytes, hexadecimal).
	MRSEAM []string `yaml:"mr_seams" json:"mr_seams,omitempty"`
	// ModuleSigners are accepted signers of the TDX module beside Intel, whose value is zeros.
	ModuleSigners []string `yaml:"mr_signer_seams" json:"mr_signer_seams,omitempty"`
	// ServiceTDs are the accepted values of MRSERVICETD. Without this no service domain may be bound.
	ServiceTDs []string `yaml:"mr_service_tds" json:"mr_service_tds,omitempty"`
	// ConfigIDs, Owners and OwnerConfigs are the accepted values of MRCONFIGID, MROWNER and
	// MROWNERCONFIG (48 bytes, hexadecimal).
	ConfigIDs    []string `yaml:"mr_config_ids" json:"mr_config_ids,omitempty"`
	Owners       []string `yaml:"mr_owners" json:"mr_owners,omitempty"`
	OwnerConfigs []string `yaml:"mr_owner_configs" json:"mr_owner_configs,omitempty"`
	// FMSPCs are the accepted platforms (6 bytes, hexadecimal).
	FMSPCs []string `yaml:"fmspcs" json:"fmspcs,omitempty"`
}

// TCBGrace accepts a status for some time, as after Intel has published a new level. Each decision
// that used it says so.
type TCBGrace struct {
	// Status is accepted until Until (RFC 3339).
	Status string `yaml:"status" json:"status"`
	Until  string `yaml:"until" json:"until"`
	// Reason says why; it is not optional.
	Reason string `yaml:"reason" json:"reason"`
}

// RequireTPM is about quotes of a TPM.
type RequireTPM struct {
	// AKTrust are the accepted reasons to believe the quote's key: "certificate", "report", "enrolled".
	AKTrust []string `yaml:"ak_trust" json:"ak_trust,omitempty"`
	// PCRs are the registers that the quote must have.
	PCRs []int `yaml:"pcrs" json:"pcrs,omitempty"`
	// Binding says what may tie a TPM's quote to the guest of "sev-snp" or "tdx" whose report it stands beside, and
	// has such guests show one with the registers above: "certificate" or "enrolled", as under ak_trust, or "report",
	// the guest's own word, which its report covers and which counts only where the processor measured an image.
	// A guest may relay the quote of another machine's TPM, unless the image that was measured does not.
	Binding []string `yaml:"binding" json:"binding,omitempty"`
	// Instances are the virtual machines whose TPMs are believed by their certificate. Without this it is
	// every one of the clouds whose authorities are pinned.
	Instances []RequireInstance `yaml:"instances" json:"instances,omitempty"`
}

// RequireInstance names virtual machines as the certificates of Google Compute Engine's attestation keys do. An
// absent field is not asked for, but one of the first two is there.
type RequireInstance struct {
	// Project and ProjectNumber name the project, whole.
	Project       string `yaml:"project" json:"project,omitempty"`
	ProjectNumber uint64 `yaml:"project_number" json:"project_number,omitempty"`
	// Zone and Name are exact, or a beginning before "*" ("europe-west4-*").
	Zone string `yaml:"zone" json:"zone,omitempty"`
	Name string `yaml:"name" json:"name,omitempty"`
	// ID is the instance's number.
	ID uint64 `yaml:"id" json:"id,omitempty"`
}

// RequireAzure is about the configuration that Azure's paravisor states. An absent field is not asked for.
type RequireAzure struct {
	// SecureBoot and TPMPersisted must be as given; ConsoleEnabled, too.
	SecureBoot     *bool `yaml:"secure_boot" json:"secure_boot,omitempty"`
	TPMPersisted   *bool `yaml:"tpm_persisted" json:"tpm_persisted,omitempty"`
	ConsoleEnabled *bool `yaml:"console_enabled" json:"console_enabled,omitempty"`
}

// RequireEventLog is about the log behind the registers.
type RequireEventLog struct {
	// Registers are those whose replay must have ended at the verified value: "rtmr1" of trust domains,
	// "pcr4" of kinds with a TPM. Each kind with a log needs one, and is asked for its own. Beside SEV-SNP and
	// TDX, PCRs are asked for where tpm.binding is required or waived: a TPM that nothing ties to the guest proves nothing.
	Registers []string `yaml:"registers" json:"registers,omitempty"`
	// SecureBoot must be as given, if it is.
	SecureBoot *bool `yaml:"secure_boot" json:"secure_boot,omitempty"`
	// Boot are digests (hexadecimal) of which each started program's, configuration's and command
	// line's must be one, if any are given. Registers then has "rtmr1" and "rtmr2", or "pcr4", "pcr8",
	// "pcr9", "pcr12" and "pcr13".
	Boot []string `yaml:"boot" json:"boot,omitempty"`
}

// RequireGPU is about reports of NVIDIA GPUs. Their measurements are signed, but compared with
// nothing here; the broker's settings say whether revoked certificates are known. Emulators, and firmware in debug
// or recovery mode, are refused.
type RequireGPU struct {
	// Minimum is how many devices the guest must show at least, 1 to 8.
	Minimum int `yaml:"minimum" json:"minimum"`
	// Architectures are "hopper" and "blackwell"; Drivers and VBIOS are accepted versions.
	Architectures []string `yaml:"architectures" json:"architectures,omitempty"`
	Drivers       []string `yaml:"drivers" json:"drivers,omitempty"`
	VBIOS         []string `yaml:"vbios" json:"vbios,omitempty"`
	// Modes are "spt", "mpt" and "ppcie". Devices that state none, as Hopper's, then are refused.
	Modes []string `yaml:"modes" json:"modes,omitempty"`
}
