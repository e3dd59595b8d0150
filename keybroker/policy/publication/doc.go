// Package publication is the signed file in which the publisher of an image states what guests of it will measure.
//
// A [Statement] has reference values with what each register was checked against, and the gaps: registers that
// nobody can compute in advance, with the claim that a policy can require instead. [Sign] writes it as a signed note
// (package signednote) by both halves of the publisher's identity, and [Open] reads it.
//
// Open trusts the publisher's public key, which the caller has from elsewhere, and nothing in the file. It returns
// nothing of a file that is not signed by both halves of that key, is not in the one canonical form, or has a value
// that the broker's own parser of reference values would refuse. docs/measure.md describes the format. The program
// that computes measurements signs, the operator's command line opens; a broker sees the values alone.
package publication
