// Package chunkseal is the authenticated encryption of what lies on disk: small
// values as blobs, and models as chunked files with random access.
//
// It guarantees, for a file, that nothing is served unless the publisher's
// signature covers every byte of it, the key is the one that it was sealed
// with, and each chunk stands where it was written. Truncation, trailing
// bytes, exchange, reordering and rollback each have their own Failure. It
// guarantees, for a blob, that only one key opens it, under one label and one
// context.
//
// It trusts the caller's key and the publisher's verification key; it trusts
// nothing in a file. It refuses unknown format versions and algorithms, and
// sizes above the named limits.
//
// docs/sealed-format.md specifies both formats completely. The sealer writes
// files, the weights loader and the command line read them; the key store
// seals its values as blobs.
package chunkseal
