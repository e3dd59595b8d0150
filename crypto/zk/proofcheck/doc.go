// Package proofcheck verifies envelopes of proofs with verifying keys from files, and tells
// people and scripts what it found.
//
// It guarantees that it calls a proof verified only if a key proves the statement in the
// envelope, whose digest is the one that the envelope names, and a record says that the
// key is of the statement's circuit, shape and architecture. What is left out is written
// out: keys without a record, and keys of a set-up for development, must be allowed. It
// trusts the files that it is told to read keys and records from, which is why whoever
// runs it must know where they come from; it trusts nothing in an envelope. Every refusal
// has a reason code.
//
// The stand-alone verifier and the command line call it. It reads no receipt: who
// answered, where and when is what keybroker/receipt checks.
package proofcheck
