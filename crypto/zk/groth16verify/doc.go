// Package groth16verify verifies Groth16 proofs over BN254, alone or many at once.
//
// It guarantees that a proof which it accepts satisfies Groth16's equation for the public
// inputs given, and that the proof's one commitment to witnesses, from which a circuit
// draws its challenge (gnark's form of BSB22), is one that the prover can open. Both are
// one product of pairings, combined with 128 random bits. Proofs and keys have one
// spelling: gnark's compressed form, every coordinate below the modulus, every point in
// its group, none at infinity, nothing behind the end.
//
// It trusts gnark-crypto's field and curve arithmetic, and whoever names the key: a key
// does not say which circuit it was made for, which is what statement.Record is for. It
// refuses keys of which a public input is free, and keys of a set-up that nobody took
// part in.
//
// A proof is not a name: who has one can write another of the same statement. Statements
// have digests.
//
// Agents, brokers and auditors verify with it; it contains no prover. PLONK's proofs are
// verified by crypto/zk/plonkverify.
package groth16verify
