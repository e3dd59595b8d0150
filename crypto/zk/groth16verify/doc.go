// Package groth16verify verifies Groth16 proofs over BN254, alone or in batches.
//
// An accepted proof satisfies Groth16's equation for the given public inputs, and its one
// commitment to witnesses, from which a circuit draws its challenge (gnark's form of BSB22), is one
// that the prover can open. Both are checked as one product of pairings, combined with 128 random
// bits. Proofs and keys have one spelling: gnark's compressed form, every coordinate below the
// modulus, every point in its group, none at infinity, and nothing after the end.
//
// The package trusts gnark-crypto's field and curve arithmetic, and whoever names the key: a key
// does not say which circuit it was made for, which is the purpose of statement.Record. It
// refuses keys with a public input that the proof does not depend on, and keys of a trusted setup
// to which nobody contributed.
//
// A proof does not identify anything: whoever has one can make another of the same statement.
// Statements are identified by their digests.
//
// Workers, brokers, aggregators and auditors verify with it (see the example of
// [Key.VerifyEnvelope]); it contains no prover. PLONK proofs are verified by
// crypto/zk/plonkverify.
package groth16verify
