// Package intnet is the arithmetic of integer classifiers, bit by bit: what a guest
// computes when it answers, and what a circuit proves.
//
// It guarantees that a network which Check accepts never overflows: every
// accumulator fits 32 bits, whatever the input; and that architectures and
// parameters have one encoding. It trusts nothing that it decodes. It refuses shapes,
// constants and lengths outside its limits.
//
// An architecture is what a circuit is made for; parameters are its witness, so that
// one circuit serves every version of a model. Package runtime/classifier computes
// the same results faster; crypto/zk/circuits proves them.
package intnet
