package tpmquote

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonMalformed: a structure of the TPM is not what its type says.
	ReasonMalformed refusal.Reason = "tpm-malformed"
	// ReasonNonce: the quote was made for another exchange, or the caller named no nonce.
	ReasonNonce refusal.Reason = "tpm-nonce-mismatch"
	// ReasonAlgorithm: an algorithm, curve or key size that is not accepted.
	ReasonAlgorithm refusal.Reason = "tpm-algorithm"
	// ReasonAttributes: the key may sign what its TPM did not make, or may leave the TPM.
	ReasonAttributes refusal.Reason = "tpm-key-attributes"
	// ReasonKey: no reason to trust the attestation key.
	ReasonKey refusal.Reason = "tpm-key-untrusted"
	// ReasonCertificate: a certificate is malformed, or of another usage or key.
	ReasonCertificate refusal.Reason = "tpm-certificate"
	// ReasonChain: the certificates do not lead to a pinned authority at this time.
	ReasonChain refusal.Reason = "tpm-certificate-chain"
	// ReasonRevoked: the certificate of the attestation key, or of an authority of it, was revoked.
	ReasonRevoked refusal.Reason = "tpm-certificate-revoked"
	// ReasonRevocationUnknown: no current list says whether a certificate was revoked.
	ReasonRevocationUnknown refusal.Reason = "tpm-revocation-unknown"
	// ReasonSignature: the signature does not verify.
	ReasonSignature refusal.Reason = "tpm-signature"
	// ReasonSelection: the quote is not over one bank, or lacks a required PCR.
	ReasonSelection refusal.Reason = "tpm-pcr-selection"
	// ReasonDigest: the PCR values are not those that were quoted.
	ReasonDigest refusal.Reason = "tpm-pcr-digest"
)
