// Package ptau reads public powers-of-tau files of the curve BN254, in the format that
// snarkjs writes (.ptau), and makes from them what set-ups need: the first phase of a
// Groth16 ceremony, and the reference string of PLONK.
//
// It guarantees of the points which it hands out that each is canonical, on the curve, in
// the subgroup of prime order and not zero; that they are the powers of one tau, times 1,
// alpha and beta, in both groups (by pairings of random linear combinations, which a wrong
// file passes with a probability of 2^-128); and that none of the three is 1, as it is in
// a file to which nobody contributed.
//
// It does not verify who contributed: that is in the file's section 7, over hashes of
// files that are not public any more. A caller compares the file's digest with the one
// that the ceremony published. Whoever knows tau can forge proofs, so that a file which
// is only well formed is worth nothing.
//
// It refuses other curves, other versions, sections which it does not know, and files that
// are longer or shorter than their sections. Points are read in pieces, never more of
// them than the size that was asked for.
package ptau
