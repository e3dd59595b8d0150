// Package plonkverify verifies PLONK proofs over BN254 with gnark's verifier.
//
// gnark's decoder and verifier see only keys and proofs of the exact length that they should
// have, in their one spelling: gnark's compressed form. Before a [Key] is used, the parts of it
// that follow from other parts are computed again and compared. The package trusts gnark's
// verifier, the universal reference string behind a key, and whoever names the key. It refuses
// keys with more than one commitment to witnesses.
//
// Programs that verify PLONK proofs beside Groth16 proofs use it; the agent does not, because it
// links nothing of gnark.
package plonkverify
