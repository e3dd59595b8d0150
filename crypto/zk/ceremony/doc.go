// Package ceremony makes Groth16 keys together with several parties, so that proofs are sound if
// at least one of them was honest and forgot its secret.
//
// A ceremony is a directory: the circuit, a file for each contribution, named by its position and
// digest, and ceremony.json, which lists the contributions with the names and statements of those
// who made them. It has two phases, powers of tau and then a phase for the circuit; each ends
// with a public beacon that nobody could have known before the last contribution. The first phase
// can be taken from a public powers-of-tau file instead. The directory travels from party to
// party.
//
// Keys come only from a transcript that was verified from the first contribution to the last. A
// contribution that was changed, left out or moved is found and named, and each phase that takes
// place here has at least two contributions. Nothing is decoded before its digest and every length
// in it are known to be right, and nothing is allocated for more constraints than the circuit
// has. The package trusts gnark's implementation of the protocol (ePrint 2017/1050, with keys of
// commitments) and, for a public file, those who made it. Names and statements prove nothing:
// each party publishes its own digest. A directory that does not verify is not continued.
//
// Long operations work in steps: they report progress before each step, and a cancelled context
// stops the work at the next step, or while a file is read or written. The library itself cannot
// be interrupted. The secrets that it draws stay in the process's memory until it ends.
//
// The command line runs it ([Ceremony]); verifiers run Verify again by themselves.
package ceremony
