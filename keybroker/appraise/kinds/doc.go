// Package kinds appraises evidence of every kind: it hands each part of an envelope to the verifier
// of its format, checks that all of them were made for one challenge, and joins what they say into one
// set of claims.
//
// It guarantees that the primary part is over the value that covers the challenge and every bound
// part ([evidence.Envelope.ReportData]), that each bound part with a nonce of its own answers
// the same challenge, that an event log leads to registers which a verified quote states, and that a
// TPM's key is believed for a reason that the operator allows. A TPM beside a processor that is
// not under Azure's paravisor is believed by its certificate or by enrolment. That the guest's own report covers
// the quote says which TPM the guest chose and nothing about who made it: it is a reason to believe the key
// only where the operator says so, and the claims tell it from the others.
//
// It trusts the verifiers and the caller's clock, and refuses kinds that it was given no verifier
// for. The broker and the command line call it.
package kinds
