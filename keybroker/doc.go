// Package keybroker is the key broker: it serves the key release protocol
// (docs/protocol.md) to guests and releases a key only to one that has proved,
// on this connection, what it is.
//
// It guarantees the order of the steps: appraisal, policy, an audit record that
// is durable, and only then the key leaves the store, sealed to the attested
// one-use KEM key. A nonce counts once and inside its window. Every refusal has
// a reason code; its details stand in the audit log under an opaque ID.
//
// It trusts the appraiser, the policy, the key store and the audit log that it
// is given, and its own clock as long as that does not run backwards. It does
// not trust the peer, the network or the guest's clock.
//
// It refuses to work without any one of those: no policy, no epoch, no audit
// log, no room on the audit log's disk, or a clock that went back all mean that
// nothing is released.
//
// keybroker/daemon assembles and runs it; keybroker/brokertest runs it in tests.
package keybroker
