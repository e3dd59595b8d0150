// Package protocol holds the messages of the key release protocol, version 2,
// their canonical encoding, and everything that is hashed or signed about them.
// docs/protocol.md is the specification; comments cite its sections.
//
// It guarantees that bytes which parse encode again to the same bytes, that no
// two lists of fields have the same hash or signed form, and that every length,
// count and number is inside a named limit before anything is allocated for it.
//
// It trusts nothing: all input is foreign. It refuses unknown labels, versions
// and values, trailing bytes, unsorted or repeated entries, and over-long
// fields, with a reason code (*refusal.Error).
//
// It keeps no state and knows no policy. keybroker and keybroker/client call it
// from the two ends; keybroker/receipt checks lease chains with it.
package protocol
