// Package gadget has the building blocks of circuits: byte checks by one lookup argument,
// packing, and a wide sponge.
//
// A number that a [Checker] has checked is in its range. All checks of a circuit share one
// commitment, whose challenge is drawn after everything that is checked. The package trusts
// gnark's compiler, Groth16 and Poseidon2. It refuses a second use of the commitment.
//
// Every assertion has a name. Tests leave out one name at a time and expect a wrong witness to
// pass then: an assertion that is not needed is a defect too.
package gadget
