package tdx

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of a quote's format.
const (
	// ReasonQuoteSize: a quote has at most [MaxQuoteBytes].
	ReasonQuoteSize refusal.Reason = "tdx-quote-size"
	// ReasonQuoteMalformed: a quote is cut short, or its lengths contradict each other.
	ReasonQuoteMalformed refusal.Reason = "tdx-quote-malformed"
	// ReasonQuoteVersion: the quote is of neither version 4 nor version 5.
	ReasonQuoteVersion refusal.Reason = "tdx-quote-version"
	// ReasonTEEType: the quote is of an SGX enclave, or of no known kind of guest.
	ReasonTEEType refusal.Reason = "tdx-tee-type"
	// ReasonBodyType: the body of a version 5 quote is of an unknown type.
	ReasonBodyType refusal.Reason = "tdx-body-type"
	// ReasonKeyType: the attestation key is not ECDSA P-256.
	ReasonKeyType refusal.Reason = "tdx-attestation-key-type"
	// ReasonQEVendor: the quoting enclave is not Intel's.
	ReasonQEVendor refusal.Reason = "tdx-qe-vendor"
	// ReasonCertificationData: the quote certifies its key in another way than by a QE report
	// and a chain of PCK certificates.
	ReasonCertificationData refusal.Reason = "tdx-certification-data"
	// ReasonReserved: bytes that must be zero are not.
	ReasonReserved refusal.Reason = "tdx-reserved"
	// ReasonTrailing: something other than zeros follows the quote.
	ReasonTrailing refusal.Reason = "tdx-quote-trailing"
)

// Reasons of a verification.
const (
	// ReasonUnconfigured: the verifier was not made by [New].
	ReasonUnconfigured refusal.Reason = "tdx-verifier-unconfigured"
	// ReasonReportData: the quote was made for another connection or message.
	ReasonReportData refusal.Reason = "tdx-report-data"
	// ReasonCertificate: a certificate is malformed or lacks what it must state.
	ReasonCertificate refusal.Reason = "tdx-certificate-malformed"
	// ReasonChain: a certificate is not signed by the next one, or has not its place.
	ReasonChain refusal.Reason = "tdx-certificate-chain"
	// ReasonRoot: a chain ends at a key that is not pinned here, or quote and collateral end at
	// different ones.
	ReasonRoot refusal.Reason = "tdx-root-not-trusted"
	// ReasonExpired: a certificate is not valid at this time.
	ReasonExpired refusal.Reason = "tdx-certificate-expired"
	// ReasonRevoked: a certificate is revoked.
	ReasonRevoked refusal.Reason = "tdx-certificate-revoked"
	// ReasonQEReportSignature: the platform's key did not sign the QE report.
	ReasonQEReportSignature refusal.Reason = "tdx-qe-report-signature"
	// ReasonAttestationKey: the QE report vouches for another attestation key.
	ReasonAttestationKey refusal.Reason = "tdx-attestation-key"
	// ReasonSignature: the attestation key did not sign the quote.
	ReasonSignature refusal.Reason = "tdx-quote-signature"
	// ReasonQEIdentity: the quoting enclave is not the one that Intel's document names.
	ReasonQEIdentity refusal.Reason = "tdx-qe-identity"
	// ReasonModule: the TDX module is not signed, or not configured, as Intel's document says.
	ReasonModule refusal.Reason = "tdx-module-identity"
)

// Reasons of collateral.
const (
	// ReasonCollateralMissing: there is no collateral for the platform.
	ReasonCollateralMissing refusal.Reason = "tdx-collateral-missing"
	// ReasonCollateralMalformed: a document or list cannot be read, or lacks what it must state.
	ReasonCollateralMalformed refusal.Reason = "tdx-collateral-malformed"
	// ReasonCollateralSignature: a document or list is not signed by whom it must be.
	ReasonCollateralSignature refusal.Reason = "tdx-collateral-signature"
	// ReasonCollateralMismatch: a document is for another platform, or of another kind.
	ReasonCollateralMismatch refusal.Reason = "tdx-collateral-mismatch"
	// ReasonCollateralEarly: a document or list is from the future.
	ReasonCollateralEarly refusal.Reason = "tdx-collateral-not-yet-valid"
	// ReasonCollateralExpired: a document or list is past its end.
	ReasonCollateralExpired refusal.Reason = "tdx-collateral-expired"
	// ReasonEvaluationNumber: a document is of an earlier TCB recovery than required.
	ReasonEvaluationNumber refusal.Reason = "tdx-evaluation-number"
)
