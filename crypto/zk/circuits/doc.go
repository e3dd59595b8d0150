// Package circuits has the circuits of inference and of gradient bounds, and makes Groth16 proofs
// of them over BN254.
//
// A proof of an inference means that its maker knew the constants and inputs behind the
// commitments for which the network, in the arithmetic of package intnet, gives exactly these
// outputs. A proof of a gradient means that its maker knew coordinates behind the commitment that
// are inside both bounds. A proof reveals nothing else about them. The package trusts gnark, the
// trusted setup of the keys, and the caller to name the right commitments. It refuses witnesses
// that do not satisfy the circuit before it begins to prove.
//
// Every assertion has a name, and tests leave out one at a time; see
// TestEachAssertionStopsItsForgery. A circuit accepts weights of -128 and biases of all 32 bits,
// which intnet refuses: a model with such values can be committed to and proven, with the sums
// that whole numbers give, but no guest loads it.
//
// BUG: the whole proving key and the circuit are in memory while a proof is made: for 240,000
// constraints and more, 1.8 KB per constraint under a limit of the Go runtime (GOMEMLIMIT), and up
// to 3.4 KB without one. A prover that reads the key's parts from disk one after the other would
// need less.
//
// Workers prove; package groth16verify verifies without this package.
package circuits
