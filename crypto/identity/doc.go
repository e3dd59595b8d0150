// Package identity is the signing identity of every party: ML-DSA and Ed25519
// together, by AND.
//
// It guarantees that a signature verifies only if both schemes verify over the
// same message, the same context and the same pair of public keys, so that
// neither half can be stripped, replaced or reused under another context. Files
// that keep one are idfile's.
// It trusts the two signature implementations and crypto/rand. It refuses
// unknown levels, non-canonical encodings and empty contexts. Everything that
// signs or checks a signature calls it; it alone imports the ML-DSA library.
//
// Level epoch is ML-DSA-65 (FIPS 204), level root ML-DSA-87, each with Ed25519
// (RFC 8032).
package identity
