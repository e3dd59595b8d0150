// Package poseidon2 is the hash under every commitment that a proof is about: the Poseidon2
// permutation (ePrint 2023/323), 16 elements wide, over the scalar field of the curve BN254, and
// the sponge built on it.
//
// With it the agent, which commits to every answer of a classifier, need not link the curve
// library that provers and verifiers use. Circuits compute the same hash with that library's
// constants; tests compare the two.
//
// The hashed values are secret: inputs, salts and weights. Time and memory accesses depend only on
// the number of elements, never on their values.
package poseidon2
