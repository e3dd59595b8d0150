package evidence

// AKTrust says why the key of a TPM quote is believed.
type AKTrust string

// Reasons to believe an attestation key.
const (
	// AKCertificate: a certificate of a pinned authority names it.
	AKCertificate AKTrust = "certificate"
	// AKReport: the report of a CPU that was verified as well covers it.
	AKReport AKTrust = "report"
	// AKEnrolled: the operator wrote its name into the policy or the enrolment file.
	AKEnrolled AKTrust = "enrolled"
)

// TPMClaims are what a verified TPM 2.0 quote says (TPM 2.0 Library, part 2, TPMS_ATTEST).
type TPMClaims struct {
	// AKName is the key's name: the algorithm's number and the digest of its public area. It is there if the
	// operator or the CPU's report listed it, or if the TPM signed that the key is a primary one of this name.
	AKName Hex `json:"ak_name"`
	// AKTrust says why the key is believed, and AKSubject names its certificate's subject.
	AKTrust   AKTrust `json:"ak_trust"`
	AKSubject string  `json:"ak_subject,omitempty"`
	// AKInstance is the virtual machine that the certificate was issued for; nil if it names none, as Azure's.
	AKInstance *CloudInstance `json:"ak_instance,omitempty"`
	// Bank is the bank of the quoted PCRs: "sha256" or "sha384".
	Bank string `json:"bank"`
	// PCRs are the quoted registers, by number.
	PCRs map[int]Hex `json:"pcrs"`
	// FirmwareVersion, ResetCount, RestartCount and Safe are as quoted.
	FirmwareVersion uint64 `json:"firmware_version"`
	ResetCount      uint32 `json:"reset_count"`
	RestartCount    uint32 `json:"restart_count"`
	Safe            bool   `json:"safe"`
}

// CloudInstance is a virtual machine by the word of the authority that certified its TPM's key.
type CloudInstance struct {
	// Zone, ProjectNumber and Project say where it runs and to whom it belongs.
	Zone          string `json:"zone"`
	ProjectNumber uint64 `json:"project_number"`
	Project       string `json:"project"`
	// ID is its number, Name the name that its owner gave it.
	ID   uint64 `json:"id"`
	Name string `json:"name"`
}

// EventLogClaims are what a replayed event log says. Its events are believed because the
// registers that they lead to are those of verified evidence.
type EventLogClaims struct {
	// Format is "tcg" for a TPM's log (PCRs) or "ccel" for a confidential guest's (RTMRs).
	Format string `json:"format"`
	// Digest is the SHA-256 of the log as far as it was read.
	Digest Hex `json:"digest"`
	// Events is their number.
	Events int `json:"events"`
	// Registers are those whose replay ended at the verified value: "pcr4", "rtmr1".
	Registers []string `json:"registers"`
	// SecureBoot is what the log says of it; nil if it says nothing.
	SecureBoot *bool `json:"secure_boot,omitempty"`
	// Boot are the digests of what was started, in order, and of the words that it was given.
	Boot []BootEvent `json:"boot,omitempty"`
}

// MaxBootEvents bounds EventLogClaims.Boot.
const MaxBootEvents = 64

// BootEvent is one measured program, configuration or command line.
type BootEvent struct {
	Register string `json:"register"`
	// Type is the event's type as the TCG names it ("EV_EFI_BOOT_SERVICES_APPLICATION").
	Type   string `json:"type"`
	Digest Hex    `json:"digest"`
	// Text is what was measured, where the digest covers it and it is printable; cut to 256 bytes.
	Text string `json:"text,omitempty"`
}
