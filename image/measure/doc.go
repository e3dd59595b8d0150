// Package measure computes what guests of an image will measure, before any of them runs, and says of each value what it
// was checked against.
//
// A [Platform] describes, in one YAML file, the image and the machines that it will run on. [Compute] reads the files
// that it names and returns the publisher's statement (package publication): reference values for a broker's policy,
// and gaps where a value cannot be known, with the claim that a policy requires instead. [Confirm] marks values
// that a guest's quote has confirmed.
//
// The arithmetic is in the packages below: firmware, snp, tdx, uki and pcr. Nothing is read but the named files,
// and what cannot be computed exactly is a gap or a refusal, never a guess: a wrong value in a policy either admits
// nobody or, if it covers less than it says, everybody.
package measure
