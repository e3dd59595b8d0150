// Package circuits has the circuits of inference and of gradient bounds, and makes
// Groth16 proofs of them over BN254.
//
// It guarantees that a proof of an inference means: whoever made it knew constants and
// inputs behind the commitments for which the network, in the arithmetic of package
// intnet, gives exactly these outputs; and of a gradient: coordinates behind the
// commitment that are inside both bounds. Nothing else of them is told. It trusts
// gnark, the set-up of the keys, and the caller to name the right commitments. It
// refuses witnesses that do not satisfy the circuit before it begins to prove.
//
// Every assertion has a name, and tests leave out one at a time; see
// TestEachAssertionStopsItsForgery. A circuit takes weights of -128 and biases of all 32
// bits, which intnet refuses: a model with them can be committed to and proven, with the
// sums that whole numbers give, but no guest loads it.
//
// BUG: the proving key is in memory as a whole while a proof is made, and so is the
// circuit: for 240,000 constraints and more 1.8 KB a constraint under a limit of the Go
// runtime (GOMEMLIMIT), up to 3.4 KB without. A prover that takes the key's parts from disk
// one after the other would need less.
//
// Workers prove; package groth16verify verifies without this package.
package circuits
