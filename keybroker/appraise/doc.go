// Package appraise turns evidence bytes into claims, or refuses them.
//
// It guarantees that every claim was signed by an AMD chip key whose certificate
// chain ends at a root key pinned in this binary, that the certificate was made
// for the very chip and firmware version that the report names, that nothing in
// the chain was expired or revoked at the time given, and that REPORT_DATA is the
// value asked for, compared in constant time. It trusts the pinned roots and the
// caller's clock; certificates that come with evidence are only a cache. It
// refuses unknown report versions, products, algorithms and keys, each with a
// reason code. What is true but unwanted (debug, an old TCB) is a claim for the
// policy. Only the broker calls it.
//
// Signatures of chips seen before are verified with multiples of their keys that were
// kept, on this package's own arithmetic of P-384, for public data alone: the standard
// library does not lend its own out. It gives crypto/ecdsa's verdicts; tests compare its
// field with math/big, its sums with filippo.io/nistec and its verdicts, also in a fuzz
// target and on Wycheproof's vectors, with crypto/ecdsa.
//
// Formats: SEV Secure Nested Paging Firmware ABI Specification (56860), table
// "ATTESTATION_REPORT", versions 2 to 5; Versioned Chip Endorsement Key
// Certificate and KDS Interface Specification (57230).
package appraise
