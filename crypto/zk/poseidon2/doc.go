// Package poseidon2 is the hash under every commitment that a proof is about: the
// Poseidon2 permutation (ePrint 2023/323), 16 elements wide, over the scalar field of
// the curve BN254, and the sponge on it.
//
// It exists so that the agent, which commits to every answer of a classifier, need not
// link the library of curves that provers and verifiers use. Circuits compute the same
// hash with that library's constants; the tests compare both.
//
// What is hashed here is secret: inputs, salts and weights. Time and memory accesses
// depend on the number of elements alone, and never on their values.
package poseidon2
