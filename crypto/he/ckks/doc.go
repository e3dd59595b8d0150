// Package ckks encrypts vectors with CKKS in its slot encoding, interoperable with SEAL
// and TenSEAL, and decrypts sums by a threshold of parties where no guest is trusted by
// all. Its parameters are those of the configuration template (docs/architecture.md).
//
// It guarantees that keys, ciphertexts and shares have one encoding each, and that
// what parses encodes again to the same bytes; that parameters are inside the
// security table; that a key pair is a function of its 32-byte seed; that a secret
// is in locked memory for as long as it is held; and that a party computes at most one
// decryption share for a ciphertext, with the journal written first. It trusts
// Lattigo's arithmetic and samplers, and the journal. It refuses residues that are
// not reduced, values and sums out of range, noise that the library would sample
// wrongly, and second shares.
//
// What Decryptor and Combine return has the scheme's noise in it. Whoever sees it
// together with the ciphertext computes the key from it (Li and Micciancio 2021):
// it must not be published, logged or sent before noise is added and the result is
// rounded.
//
// The workers of participants and of decrypting agents call it. It is the only
// package that imports Lattigo. The default set of sums is in crypto/he/rlwe, which is
// many times faster; this package is for exchange with other libraries.
package ckks
