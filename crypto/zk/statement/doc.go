// Package statement says what is proven: commitments to models, inputs and
// gradients, the statements about them, and the envelope that carries a proof.
//
// It guarantees that a statement and an envelope have one encoding, in binary and in
// JSON, and that a circuit's public inputs are a function of the statement alone. It
// trusts Poseidon2 and SHA-256. It refuses what is not canonical, over a limit, or of
// an unknown version.
//
// It has no prover and no verifier: guests, brokers and auditors share it.
package statement
