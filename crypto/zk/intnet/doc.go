// Package intnet is the arithmetic of integer classifiers, bit by bit: what a guest computes when
// it answers, and what a circuit proves.
//
// A [Network] that Check accepts never overflows: every accumulator fits in 32 bits, whatever the
// input. Architectures and parameters have one encoding each. The package trusts nothing that it
// decodes. It refuses shapes, constants and lengths outside its limits.
//
// A circuit is made for an [Architecture]; [Parameters] are its witness, so one circuit serves
// every version of a model. Package runtime/classifier computes the same results faster, and
// crypto/zk/circuits proves them.
package intnet
