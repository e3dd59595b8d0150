// Package statement says what is proven: commitments to models, inputs and gradients, the
// statements about them, and the envelope that carries a proof.
//
// A [Statement] and an [Envelope] each have one encoding, in binary and in JSON, and a circuit's
// public inputs are a function of the statement alone. The package trusts Poseidon2 and SHA-256.
// It refuses values that are not canonical, exceed a limit, or are of an unknown version.
//
// It has no prover and no verifier, so guests, brokers and auditors share it.
package statement
