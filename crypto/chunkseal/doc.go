// Package chunkseal is the authenticated encryption of everything that lies on disk: small
// values as blobs, and models as chunked files with random access.
//
// Of a file, nothing is served unless the publisher's signature covers every byte of it, it was
// sealed under the given key, and each chunk is where it was written. Truncation, trailing bytes,
// exchanged or reordered chunks and rollback to an older version each have their own reason
// ([Failure]). A blob opens under one key only, with the label and the context that it was sealed
// with.
//
// The package trusts the caller's key and the publisher's verification key, and nothing in a
// file. It refuses unknown format versions and algorithms, and sizes above the named limits.
//
// docs/sealed-format.md specifies both formats completely. The sealer writes files ([Writer]), the
// weights loader and the command line read them ([Reader]), and the key store seals its values as
// blobs ([SealBlob]). The example seals a file and opens it.
package chunkseal
