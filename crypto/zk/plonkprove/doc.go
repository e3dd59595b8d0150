// Package plonkprove makes PLONK keys from a universal reference string, for those who
// cannot hold a ceremony for each circuit, and proves with them.
//
// It guarantees keys that are a function of the circuit and of the string alone, so that
// anybody who has both gets the same; that a proving key is decoded only if its lists are
// as long as its circuit needs; and that proofs hide their witness statistically. It
// trusts whoever made the string, of whom one must have forgotten what it drew, and
// gnark's PLONK. It refuses circuits of another kind or field and those with more than
// one commitment.
//
// The string comes from package ptau. Proofs are verified by package plonkverify.
package plonkprove
