// Package gadget has the parts that circuits are made of: byte checks by one lookup
// argument, packing, and a wide sponge.
//
// It guarantees that a number which it checked is in its range, and that all checks
// of a circuit share one commitment, whose challenge is drawn after everything that is
// checked. It trusts gnark's compiler, Groth16 and Poseidon2. It refuses a second use
// of the commitment.
//
// Every assertion has a name. Tests leave out one name at a time and expect that a
// wrong witness then passes: an assertion that is not needed is a defect too.
package gadget
