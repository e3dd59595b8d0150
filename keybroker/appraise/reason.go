package appraise

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonKind: the kind of evidence is not appraised by this version.
	ReasonKind refusal.Reason = "evidence-kind-unsupported"
	// ReasonReportSize: a report has exactly 1184 bytes.
	ReasonReportSize refusal.Reason = "report-size"
	// ReasonReportVersion: the report's version is not known.
	ReasonReportVersion refusal.Reason = "report-version"
	// ReasonReserved: content where the report's version has none.
	ReasonReserved refusal.Reason = "report-reserved"
	// ReasonReportData: the report was made for another connection or message.
	ReasonReportData refusal.Reason = "report-data-mismatch"
	// ReasonSignatureAlgorithm: not ECDSA P-384 with SHA-384.
	ReasonSignatureAlgorithm refusal.Reason = "report-signature-algorithm"
	// ReasonSigningKey: signed by neither a VCEK nor a VLEK, or by none.
	ReasonSigningKey refusal.Reason = "report-signing-key"
	// ReasonSignature: the report's signature does not verify.
	ReasonSignature refusal.Reason = "report-signature"
	// ReasonProduct: the processor is of no known product line, or report and
	// certificate name different ones.
	ReasonProduct refusal.Reason = "product-unknown"
	// ReasonCertificateMissing: a certificate of the chain is neither in the
	// evidence nor configured.
	ReasonCertificateMissing refusal.Reason = "certificate-missing"
	// ReasonCertificate: a certificate is malformed or lacks what it must state.
	ReasonCertificate refusal.Reason = "certificate-malformed"
	// ReasonChain: a certificate is not signed by the next one.
	ReasonChain refusal.Reason = "certificate-chain"
	// ReasonRoot: the chain ends at a key that is not pinned here.
	ReasonRoot refusal.Reason = "root-not-trusted"
	// ReasonAuthority: the key between the root and the chip's is not the pinned one of its line.
	ReasonAuthority refusal.Reason = "authority-not-pinned"
	// ReasonExpired: a certificate is not valid at this time.
	ReasonExpired refusal.Reason = "certificate-expired"
	// ReasonRevoked: a certificate of the chain is revoked.
	ReasonRevoked refusal.Reason = "certificate-revoked"
	// ReasonRevocationUnknown: revocation must be checked, and no current list is held.
	ReasonRevocationUnknown refusal.Reason = "revocation-unknown"
	// ReasonTCBMismatch: the certificate was made for another firmware version.
	ReasonTCBMismatch refusal.Reason = "tcb-mismatch"
	// ReasonChipMismatch: the certificate was made for another chip.
	ReasonChipMismatch refusal.Reason = "chip-mismatch"
)
