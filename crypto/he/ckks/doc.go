// Package ckks encrypts vectors with CKKS in its slot encoding, interoperable with SEAL and
// TenSEAL, and decrypts sums by a threshold of parties where no single guest is trusted by all.
// Its parameters are those of the configuration template (docs/architecture.md).
//
// Keys, ciphertexts and shares have one encoding each: whatever parses encodes again to the same
// bytes. Parameters are inside the security table, a key pair is a function of its 32-byte seed,
// and a secret is in locked memory for as long as it is held. A [Party] computes at most one
// decryption share for a ciphertext, and records it in the journal first. The package trusts
// Lattigo's arithmetic and samplers, and the journal. It refuses residues that are not reduced,
// values and sums out of range, noise that the library would sample wrongly, and second shares.
//
// The results of a [Decryptor] and of Combine still contain the scheme's noise. Whoever sees them
// together with the ciphertext can compute the key (Li and Micciancio 2021): do not publish, log
// or send them before noise is added and the result is rounded.
//
// The workers of participants and of decrypting agents call it. It is the only package that
// imports Lattigo. The default set for sums is in crypto/he/rlwe, which is many times faster; use
// this package to exchange ciphertexts with other libraries, or to share a key among parties.
package ckks
