// Package ptau reads public powers-of-tau files for the curve BN254, in the format of snarkjs
// (.ptau), and derives from them what a trusted setup needs: the first phase of a Groth16
// ceremony, or the reference string of PLONK.
//
// Every point that it returns is canonical, on the curve, in the subgroup of prime order and not
// zero. The points are the powers of one tau, times 1, alpha and beta, in both groups (checked by
// pairings of random linear combinations, which a wrong file passes with a probability of 2^-128).
// None of the three secrets is 1, as it would be in a file to which nobody contributed.
//
// The package does not verify who contributed: that is in section 7 of the file, over hashes of
// files that are no longer public. A caller compares the file's digest with the one that the
// ceremony published. Whoever knows tau can forge proofs, so a file that is merely well-formed is
// worth nothing.
//
// It refuses other curves and versions, unknown sections, and files that are longer or shorter
// than their sections. A [File] reads its points in pieces, and never more of them than the
// requested size.
package ptau
