// Package plonkverify verifies PLONK proofs over BN254 with gnark's verifier.
//
// It guarantees that gnark's decoder and verifier see only keys and proofs of the exact
// length that they should have, in their one spelling: gnark's compressed form. Before it
// uses a key it computes again what follows from other parts of it. It trusts gnark's
// verifier, the universal reference string behind a key, and whoever names the key. It
// refuses keys of more than one commitment to witnesses.
//
// Those who verify PLONK's proofs beside Groth16's use it; the agent does not, because it
// links nothing of gnark.
package plonkverify
