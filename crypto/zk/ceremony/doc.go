// Package ceremony makes Groth16 keys with several parties, so that proofs are sound if
// one of them was honest and forgot what it drew.
//
// A ceremony is a directory: the circuit, a file for each contribution, named by its place
// and its digest, and ceremony.json, which lists them with the names and statements of who
// made them. It has two phases: powers of tau, then what the circuit needs; each ends with
// a public beacon that nobody could have known before the last contribution. The first
// phase can be taken from a public powers-of-tau file instead. The directory goes from
// party to party.
//
// It guarantees that keys which it hands out come from a transcript that it verified
// from the first contribution to the last; that a contribution which was changed, left
// out or put elsewhere is found and named; and that two contributions at least are in each
// phase that is held. Nothing is decoded before its digest and every length in it are
// known to be right, and nothing is allocated for more constraints than the circuit has.
// It trusts gnark's implementation of the protocol (ePrint 2017/1050, with keys of
// commitments), and for a public file those who made it. Names and statements prove
// nothing: each party publishes its digest. It refuses to go on with a directory that does
// not verify.
//
// What takes long is in steps: progress is told before each, and a context ends the work
// at the next step, or while a file is read or written. The library itself cannot be
// stopped. Its draws stay in the process's memory until it ends.
//
// The command line runs it; verifiers run Verify again by themselves.
package ceremony
