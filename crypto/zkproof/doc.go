// Package zkproof has the circuits of inference and of gradient bounds, and makes
// Groth16 proofs of them over BN254.
//
// It guarantees that a proof of an inference means: whoever made it knew constants and
// inputs behind the commitments for which the network, in the arithmetic of package
// intnet, gives exactly these outputs; and of a gradient: coordinates behind the
// commitment that are inside both bounds. Nothing else of them is told. It trusts
// gnark, the set-up of the keys, and the caller to name the right commitments. It
// refuses witnesses that do not satisfy the circuit before it begins to prove.
//
// Workers prove; package zkverify verifies without this package.
package zkproof
