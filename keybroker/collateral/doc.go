// Package collateral names what a verifier of evidence needs from the vendors: chip certificates,
// their authorities, revocation lists, TCB information.
//
// A [Key] says which document is meant and cannot be invalid: hardware ids, family codes and
// versions are hexadecimal digits of a fixed length, so nothing that evidence says can become a
// part of a URL or of a file's name other than such digits. An [Item] is what is kept under a key:
// the documents as they were served, and when. A [Stamp] dates one document, so that an older one
// never replaces a newer one ([Stamp.Replaces]).
//
// The package believes nothing. Packages amd and intel fetch and verify, store keeps, bundle
// carries items to brokers without a network, and depot puts them together for the broker and for
// "anchorhold collateral".
package collateral
