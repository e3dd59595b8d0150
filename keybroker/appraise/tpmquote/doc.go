// Package tpmquote verifies TPM 2.0 quotes: that a TPM's attestation key signed the values of
// platform configuration registers for this exchange.
//
// [Verify] guarantees that the quote was signed by a key that the caller has a reason to trust,
// that the key signs nothing but what its TPM made (restricted, not exportable, born in the TPM),
// that the quote answers the caller's nonce, compared in constant time, that it covers every
// register that the caller requires, in one bank of SHA-256 or SHA-384, and that the values in
// the claims are those that were quoted. What the registers mean is for an event log and the
// policy to say.
//
// A quote proves nothing without trust in its key, and there are three reasons for it, one of
// which the caller states ([Trust]): a certificate of an authority that the operator pinned by
// the digest of its public key; a report of the CPU that names the key, which the caller verified
// before; or the operator's own list of names. The zero value trusts no key. Nothing in the quote
// chooses between them.
//
// It refuses other structures, types, algorithms, key sizes and attributes, reserved bits, and
// every trailing byte. Appraisers of TPMs, of Azure's guests and of vTPMs beside a CPU report
// call it.
//
// BUG: certificates of attestation keys are not checked for revocation. The authorities of clouds
// publish no list of revoked keys; an operator stops trusting a TPM by its name or by taking its
// authority out of the configuration.
//
// Formats: TPM 2.0 Library, part 2 (Structures), 10.12 (TPMS_ATTEST), 11.3 (TPMT_SIGNATURE), 12.2
// (TPMT_PUBLIC), and part 3 (Commands), 18.4 (TPM2_Quote); TCG EK Credential Profile 2.5 for the
// usage of certificates.
package tpmquote
