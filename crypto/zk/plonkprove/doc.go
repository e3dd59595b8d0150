// Package plonkprove makes PLONK keys from a universal reference string, for those who cannot run
// a ceremony for each circuit, and proves with them.
//
// [Keys] are a function of the circuit and the string alone, so anybody who has both gets the
// same keys. A proving key is decoded only if its lists are as long as its circuit needs, and
// proofs hide their witness statistically. The package trusts gnark's PLONK, and at least one of
// those who made the string to have forgotten its secret. It refuses circuits for other proof
// systems or fields, and those with more than one commitment.
//
// The string comes from package ptau. Package plonkverify verifies the proofs.
package plonkprove
