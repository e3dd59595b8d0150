// Package client is the guest's half of the key release protocol
// (docs/protocol.md): one call is one whole exchange with a broker.
//
// It guarantees that no evidence leaves the guest before the broker has proved,
// on this connection, that a configured root stands behind it; that a lease
// never lasts longer here than at the broker; and that keys arrive in locked
// memory and nowhere else, with a clock that wipes them at the lease's end until
// the caller has them. It logs nothing: a log that hangs would stand between the two.
//
// It trusts the configured root identities, the TLS roots, and the guest's
// monotonic clock. It does not trust the guest's wall clock, the network, or
// anything that a broker says before its signature was checked.
//
// It refuses by returning *Error with a reason code; a refusal by the broker
// carries the opaque ID under which the operator finds the details. Retrying is
// the caller's business (the agent's).
package client
