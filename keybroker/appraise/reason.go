package appraise

import "github.com/anchorhold/anchorhold/guest/evidence"

// Reasons of this package.
const (
	// ReasonKind: the kind of evidence is not appraised by this version.
	ReasonKind evidence.Reason = "evidence-kind-unsupported"
	// ReasonReportSize: a report has exactly 1184 bytes.
	ReasonReportSize evidence.Reason = "report-size"
	// ReasonReportVersion: the report's version is not known.
	ReasonReportVersion evidence.Reason = "report-version"
	// ReasonReserved: content where the report's version has none.
	ReasonReserved evidence.Reason = "report-reserved"
	// ReasonReportData: the report was made for another connection or message.
	ReasonReportData evidence.Reason = "report-data-mismatch"
	// ReasonSignatureAlgorithm: not ECDSA P-384 with SHA-384.
	ReasonSignatureAlgorithm evidence.Reason = "report-signature-algorithm"
	// ReasonSigningKey: signed by neither a VCEK nor a VLEK, or by none.
	ReasonSigningKey evidence.Reason = "report-signing-key"
	// ReasonSignature: the report's signature does not verify.
	ReasonSignature evidence.Reason = "report-signature"
	// ReasonProduct: the processor is of no known product line, or report and
	// certificate name different ones.
	ReasonProduct evidence.Reason = "product-unknown"
	// ReasonCertificateMissing: a certificate of the chain is neither in the
	// evidence nor configured.
	ReasonCertificateMissing evidence.Reason = "certificate-missing"
	// ReasonCertificate: a certificate is malformed or lacks what it must state.
	ReasonCertificate evidence.Reason = "certificate-malformed"
	// ReasonChain: a certificate is not signed by the next one.
	ReasonChain evidence.Reason = "certificate-chain"
	// ReasonRoot: the chain ends at a key that is not pinned here.
	ReasonRoot evidence.Reason = "root-not-trusted"
	// ReasonExpired: a certificate is not valid at this time.
	ReasonExpired evidence.Reason = "certificate-expired"
	// ReasonRevoked: a certificate of the chain is revoked.
	ReasonRevoked evidence.Reason = "certificate-revoked"
	// ReasonRevocationUnknown: revocation must be checked, and no current list is held.
	ReasonRevocationUnknown evidence.Reason = "revocation-unknown"
	// ReasonTCBMismatch: the certificate was made for another firmware version.
	ReasonTCBMismatch evidence.Reason = "tcb-mismatch"
	// ReasonChipMismatch: the certificate was made for another chip.
	ReasonChipMismatch evidence.Reason = "chip-mismatch"
)
