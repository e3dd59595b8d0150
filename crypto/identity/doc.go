// Package identity is the signing identity of every party: ML-DSA and Ed25519 together, both of
// which must verify.
//
// A signature verifies only if both schemes verify over the same message, the same context and
// the same pair of public keys, so neither half can be stripped, replaced or reused under another
// context. The package trusts the two signature implementations and crypto/rand. It refuses
// unknown levels, non-canonical encodings and empty contexts. Package idfile keeps identities in
// files.
//
// Level epoch is ML-DSA-65 (FIPS 204), level root is ML-DSA-87, each with Ed25519 (RFC 8032). A
// [Private] key signs and a [Public] one verifies. Everything that signs or checks a signature
// calls this package; it alone imports the ML-DSA library.
package identity
