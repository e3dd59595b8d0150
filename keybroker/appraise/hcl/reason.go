package hcl

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonSize: shorter than its parts or longer than any, or sizes in it contradict each other.
	ReasonSize refusal.Reason = "hcl-size"
	// ReasonHeader: not the header of a paravisor's report, or of an unknown version or request.
	ReasonHeader refusal.Reason = "hcl-header"
	// ReasonHardware: the kind of the CPU's report, or of the hash that binds the data, is unknown.
	ReasonHardware refusal.Reason = "hcl-hardware"
	// ReasonReserved: content where the format has none.
	ReasonReserved refusal.Reason = "hcl-reserved"
	// ReasonBinding: the CPU's report is not over the hash of the runtime data.
	ReasonBinding refusal.Reason = "hcl-binding"
	// ReasonRuntimeData: the runtime data is not the JSON that a paravisor writes.
	ReasonRuntimeData refusal.Reason = "hcl-runtime-data"
	// ReasonKey: the attestation key is missing, or is not an RSA key of 2048 bits for signatures.
	ReasonKey refusal.Reason = "hcl-key"
	// ReasonTDReport: the TDREPORT contradicts itself.
	ReasonTDReport refusal.Reason = "hcl-tdreport"
	// ReasonPrivilege: the CPU's report was asked for below the paravisor's privilege level.
	ReasonPrivilege refusal.Reason = "hcl-privilege"
	// ReasonUnconfirmed: the verified report of the CPU is not the one in the container.
	ReasonUnconfirmed refusal.Reason = "hcl-unconfirmed"
)
