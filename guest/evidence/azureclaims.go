package evidence

// AzureClaims are what the paravisor of an Azure confidential VM says about the VM, in the
// runtime data that a verified report of the CPU covers. They are as true as the paravisor: a
// policy that uses them names its measurement.
type AzureClaims struct {
	// Hardware is the kind of the CPU's report.
	Hardware Kind `json:"hardware"`
	// HCLVersion is the version of the paravisor's report, RequestVersion that of the data in it.
	// Neither is signed.
	HCLVersion     uint32 `json:"hcl_version"`
	RequestVersion uint32 `json:"request_version"`
	// Hash is the hash that binds the runtime data: "sha256", "sha384" or "sha512".
	Hash string `json:"hash"`
	// AK and EK are the SHA-256 of the public attestation and endorsement keys of the VM's TPM,
	// as DER subject public key info. EK is empty if it is not stated.
	AK Hex `json:"ak"`
	EK Hex `json:"ek,omitempty"`
	// VMID is the VM's unique id.
	VMID string `json:"vm_id,omitempty"`
	// UserData is what the guest had written to the TPM's index 0x01400002, at most 64 bytes.
	UserData Hex `json:"user_data,omitempty"`
	// RootCertThumbprint is the hash of the provisioning certificate, base64url.
	RootCertThumbprint string `json:"root_cert_thumbprint,omitempty"`
	// SecureBoot and what follows are the VM's configuration; nil is not stated, which is neither
	// true nor false.
	SecureBoot         *bool `json:"secure_boot,omitempty"`
	TPMEnabled         *bool `json:"tpm_enabled,omitempty"`
	TPMPersisted       *bool `json:"tpm_persisted,omitempty"`
	Console            *bool `json:"console,omitempty"`
	InteractiveConsole *bool `json:"interactive_console,omitempty"`
	FilteredVPCI       *bool `json:"filtered_vpci,omitempty"`
	IPMI               *bool `json:"ipmi,omitempty"`
	// TPMVersion and HardwareSealing are words of newer paravisors; empty is not stated.
	TPMVersion      string `json:"tpm_version,omitempty"`
	HardwareSealing string `json:"hardware_sealing,omitempty"`
	// CurrentTime is the host's clock in seconds since 1970, nil if not stated.
	CurrentTime *int64 `json:"current_time,omitempty"`
	// Unknown names the members of the runtime data that this version does not know, sorted, with
	// the path to each. Nothing is concluded from them.
	Unknown []string `json:"unknown,omitempty"`
}
