// Package agent is the daemon's life: it reads one configuration, proves this
// guest to the key broker, opens the sealed models with the keys it receives,
// serves inference on a unix socket, renews its lease before it ends, and wipes
// keys and weights when it does end.
//
// It guarantees that nothing is served outside a lease, that every failure to
// attest keeps the socket answering with the reason, and that a model whose
// seal does not verify is never served. It trusts the guest's memory (which the
// TEE protects), the broker's root keys in its measured configuration, and
// broker time; it does not trust the guest's clock, the disk, the network or
// the socket's callers. Only the main package calls it.
package agent
