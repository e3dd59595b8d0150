package gpu

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonSize: the report is shorter than its parts, longer than any, or has trailing bytes.
	ReasonSize refusal.Reason = "gpu-report-size"
	// ReasonFormat: not an SPDM 1.1 request for all measurements and its response.
	ReasonFormat refusal.Reason = "gpu-report-format"
	// ReasonMeasurement: a measurement block of another form, twice, or too many.
	ReasonMeasurement refusal.Reason = "gpu-measurement"
	// ReasonOpaque: opaque data of an unknown type or another form, twice, or missing.
	ReasonOpaque refusal.Reason = "gpu-opaque-data"
	// ReasonNonce: the report is over another nonce.
	ReasonNonce refusal.Reason = "gpu-nonce-mismatch"
	// ReasonSignature: the report's signature does not verify.
	ReasonSignature refusal.Reason = "gpu-signature"
	// ReasonFirmware: report and certificate name different firmware, or none.
	ReasonFirmware refusal.Reason = "gpu-firmware-mismatch"
	// ReasonCertificate: a certificate is malformed, or not of the form that NVIDIA's have.
	ReasonCertificate refusal.Reason = "gpu-certificate"
	// ReasonChain: not five certificates, each issued and signed by the next.
	ReasonChain refusal.Reason = "gpu-chain"
	// ReasonRoot: the chain ends at a key that is not pinned here.
	ReasonRoot refusal.Reason = "gpu-root"
	// ReasonDevice: the chain is not that of a GPU that this version knows.
	ReasonDevice refusal.Reason = "gpu-device"
	// ReasonExpired: a certificate is not valid at this time.
	ReasonExpired refusal.Reason = "gpu-expired"
	// ReasonRevoked: the certificate of the device, or of an authority of it, was revoked.
	ReasonRevoked refusal.Reason = "gpu-revoked"
	// ReasonRevocationUnknown: no current list says whether a certificate was revoked.
	ReasonRevocationUnknown refusal.Reason = "gpu-revocation-unknown"
	// ReasonSameDevice: two reports are of one device, or there are too many, or none.
	ReasonSameDevice refusal.Reason = "gpu-same-device"
)
